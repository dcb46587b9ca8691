//! Losses and their gradients by the logits.

use crate::math::{exp, load_tail, store_tail, vectors};
use crate::simd::{LANES, Simd};

/// Numerators that are added in single precision before they are added in double.
const CHUNK: usize = 1024;

/// The largest element of a row.
#[inline(always)]
fn row_max<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let mut most = simd.splat(f32::NEG_INFINITY);
    for x in x.chunks(LANES) {
        most = simd.max(
            most,
            if x.len() == LANES {
                simd.load(x)
            } else {
                let mut all = [f32::NEG_INFINITY; LANES];
                all[..x.len()].copy_from_slice(x);
                simd.load(&all)
            },
        );
    }
    simd.reduce_max(most)
}

/// `e^((x − max) · inverse)`, and the exponents.
#[inline(always)]
fn numerators<S: Simd>(simd: S, x: &[f32], max: f32, inverse: f32) -> (S::F, S::F) {
    let x = simd.mul(simd.sub(load_tail(simd, x), simd.splat(max)), simd.splat(inverse));
    (exp(simd, x), x)
}

/// The first `lanes` lanes, then zeros.
#[inline(always)]
fn partial<S: Simd>(simd: S, x: S::F, lanes: usize) -> S::F {
    if lanes == LANES {
        return x;
    }
    let mut all = [0.0; LANES];
    simd.store(x, &mut all);
    all[lanes..].fill(0.0);
    simd.load(&all)
}

/// `e^((x − max) / temperature)` of a row: a softmax divides these by their sum.
#[inline(always)]
pub(crate) fn softmax_numerators<S: Simd>(simd: S, x: &[f32], temperature: f32, out: &mut [f32]) {
    let most = row_max(simd, x);
    for at in vectors(x.len()) {
        let (y, _) = numerators(simd, &x[at.clone()], most, 1.0 / temperature);
        store_tail(simd, y, &mut out[at]);
    }
}

/// The loss of a row, and its gradient times `scale`.
#[inline(always)]
pub(crate) fn cross_entropy<S: Simd>(simd: S, x: &[f32], target: usize, scale: f32, grad: &mut [f32]) -> f32 {
    let most = row_max(simd, x);
    let mut total = 0.0;
    for (x, grad) in x.chunks(CHUNK).zip(grad.chunks_mut(CHUNK)) {
        let mut sum = simd.splat(0.0);
        for at in vectors(x.len()) {
            let (y, _) = numerators(simd, &x[at.clone()], most, 1.0);
            sum = simd.add(sum, partial(simd, y, at.len()));
            store_tail(simd, y, &mut grad[at]);
        }
        total += simd.reduce_sum(sum) as f64;
    }
    let factor = simd.splat((scale as f64 / total) as f32);
    for at in vectors(x.len()) {
        let y = simd.mul(load_tail(simd, &grad[at.clone()]), factor);
        store_tail(simd, y, &mut grad[at]);
    }
    grad[target] -= scale;
    (libm::log(total) - (x[target] as f64 - most as f64)) as f32
}

/// The Kullback-Leibler divergence of a row from the teacher's; its gradient times
/// `scale · temperature²` is added to `grad`.
///
/// With `a` and `b` the exponents of teacher and student, `KL = Σ e^a (a − b) / Σ e^a − ln Σ e^a + ln Σ e^b`.
#[inline(always)]
pub(crate) fn divergence<S: Simd>(
    simd: S,
    x: &[f32],
    teacher: &[f32],
    temperature: f32,
    scale: f32,
    grad: &mut [f32],
) -> f32 {
    let inverse = 1.0 / temperature;
    let (most, teachers) = (row_max(simd, x), row_max(simd, teacher));
    let (mut total, mut teacher_total, mut terms) = (0.0, 0.0, 0.0);
    for (x, teacher) in x.chunks(CHUNK).zip(teacher.chunks(CHUNK)) {
        let mut sums = [simd.splat(0.0); 3];
        for at in vectors(x.len()) {
            let (q, b) = numerators(simd, &x[at.clone()], most, inverse);
            let (p, a) = numerators(simd, &teacher[at.clone()], teachers, inverse);
            let lanes = at.len();
            sums[0] = simd.add(sums[0], partial(simd, q, lanes));
            sums[1] = simd.add(sums[1], partial(simd, p, lanes));
            sums[2] = simd.fma(partial(simd, p, lanes), simd.sub(a, b), sums[2]);
        }
        total += simd.reduce_sum(sums[0]) as f64;
        teacher_total += simd.reduce_sum(sums[1]) as f64;
        terms += simd.reduce_sum(sums[2]) as f64;
    }
    let scale = scale as f64 * temperature as f64;
    let (by, teachers_by) = (simd.splat((scale / total) as f32), simd.splat((-scale / teacher_total) as f32));
    for at in vectors(x.len()) {
        let (q, _) = numerators(simd, &x[at.clone()], most, inverse);
        let (p, _) = numerators(simd, &teacher[at.clone()], teachers, inverse);
        let y = simd.fma(q, by, simd.mul(p, teachers_by));
        let y = simd.add(load_tail(simd, &grad[at.clone()]), y);
        store_tail(simd, y, &mut grad[at]);
    }
    (terms / teacher_total - libm::log(teacher_total) + libm::log(total)) as f32
}
