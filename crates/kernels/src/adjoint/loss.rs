//! What a model is trained to make small, and the derivatives by its logits.

use super::{load, row, store, vectors};
use crate::elementwise::exp16;
use crate::machine::{Machine, Slots};
use crate::simd::{LANES, Simd};

/// Powers that are added in single precision before they are added in double.
const CHUNK: usize = 1024;

impl Machine {
    /// For each row of `logits`, `[targets.len(), vocab]`, the cross-entropy with its target, in nats: `losses[i] = −ln softmax(logits)[target]`.
    /// `grad` becomes the derivative by the logits times `scale`. A target of [`u32::MAX`] does not count: its loss and derivatives are 0.
    /// A loss is NaN where a logit is NaN or infinity.
    ///
    /// # Panics
    /// When the shapes disagree or another target is beyond the vocabulary.
    pub fn cross_entropy(&mut self, logits: &[f32], targets: &[u32], scale: f32, grad: &mut [f32], losses: &mut [f32]) {
        assert!(losses.len() == targets.len() && grad.len() == logits.len());
        if targets.is_empty() {
            return;
        }
        let vocab = logits.len() / targets.len();
        assert!(targets.len() * vocab == logits.len());
        assert!(targets.iter().all(|&target| target == u32::MAX || (target as usize) < vocab));
        let (losses, table) = (Slots::of(losses), self.table);
        self.rows(grad, vocab, 32 * vocab, &|i, grad, _| {
            let loss = if targets[i] == u32::MAX {
                grad.fill(0.0);
                0.0
            } else {
                (table.cross_entropy)(row(logits, i, vocab), targets[i] as usize, scale, grad)
            };
            // SAFETY: a loss for each row, and this task alone has the row.
            unsafe { *losses.at(i) = loss };
        });
    }

    /// For each row of `x`, `[rows, width]`, `out = e^((x − most) / temperature)`, where `most` is the largest of the row: what a softmax
    /// divides by its sum.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn powers(&mut self, x: &[f32], width: usize, temperature: f32, out: &mut [f32]) {
        assert!(x.len() == out.len());
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| (table.powers)(row(x, i, width), temperature, out));
    }

    /// For each row of `logits`, `[rows, vocab]`, how far it is from the row of `teacher`: the Kullback-Leibler divergence
    /// `losses[i] = KL(softmax(teacher / temperature) ‖ softmax(logits / temperature))` in nats. To `grad` is added the derivative by the
    /// logits times `scale · temperature²`, so that its size does not depend on the temperature (arXiv:1503.02531).
    ///
    /// # Panics
    /// When the shapes disagree.
    #[expect(clippy::too_many_arguments, reason = "two sets of logits, and how to compare them")]
    pub fn divergence(
        &mut self,
        logits: &[f32],
        teacher: &[f32],
        vocab: usize,
        temperature: f32,
        scale: f32,
        grad: &mut [f32],
        losses: &mut [f32],
    ) {
        assert!(teacher.len() == logits.len() && grad.len() == logits.len());
        assert!(losses.len() * vocab == logits.len());
        let (losses, table) = (Slots::of(losses), self.table);
        self.rows(grad, vocab, 64 * vocab, &|i, grad, _| {
            let loss = (table.divergence)(row(logits, i, vocab), row(teacher, i, vocab), temperature, scale, grad);
            // SAFETY: a loss for each row, and this task alone has the row.
            unsafe { *losses.at(i) = loss };
        });
    }
}

/// The largest number.
#[inline(always)]
fn largest<S: Simd>(simd: S, x: &[f32]) -> f32 {
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
    simd.largest(most)
}

/// `e^((x − most) · over)`, and the exponents.
#[inline(always)]
fn powers<S: Simd>(simd: S, x: &[f32], most: f32, over: f32) -> (S::F, S::F) {
    let x = simd.mul(simd.sub(load(simd, x), simd.splat(most)), simd.splat(over));
    (exp16(simd, x), x)
}

/// The sum of as many lanes as there are.
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

/// A row of [`Machine::powers`].
#[inline(always)]
pub(crate) fn all_powers<S: Simd>(simd: S, x: &[f32], temperature: f32, out: &mut [f32]) {
    let most = largest(simd, x);
    for at in vectors(x.len()) {
        let (power, _) = powers(simd, &x[at.clone()], most, 1.0 / temperature);
        store(simd, power, &mut out[at]);
    }
}

/// A row of [`Machine::cross_entropy`]; returns the loss.
#[inline(always)]
pub(crate) fn cross_entropy<S: Simd>(simd: S, x: &[f32], target: usize, scale: f32, grad: &mut [f32]) -> f32 {
    let most = largest(simd, x);
    let mut total = 0.0;
    for (x, grad) in x.chunks(CHUNK).zip(grad.chunks_mut(CHUNK)) {
        let mut sum = simd.splat(0.0);
        for at in vectors(x.len()) {
            let (power, _) = powers(simd, &x[at.clone()], most, 1.0);
            sum = simd.add(sum, partial(simd, power, at.len()));
            store(simd, power, &mut grad[at]);
        }
        total += simd.sum(sum) as f64;
    }
    let factor = simd.splat((scale as f64 / total) as f32);
    for at in vectors(x.len()) {
        let y = simd.mul(load(simd, &grad[at.clone()]), factor);
        store(simd, y, &mut grad[at]);
    }
    grad[target] -= scale;
    (libm::log(total) - (x[target] as f64 - most as f64)) as f32
}

/// A row of [`Machine::divergence`]; returns the loss.
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
    let over = 1.0 / temperature;
    let (most, teachers) = (largest(simd, x), largest(simd, teacher));
    let (mut total, mut teacher_total, mut apart) = (0.0, 0.0, 0.0);
    for (x, teacher) in x.chunks(CHUNK).zip(teacher.chunks(CHUNK)) {
        let mut sums = [simd.splat(0.0); 3];
        for at in vectors(x.len()) {
            let (q, b) = powers(simd, &x[at.clone()], most, over);
            let (p, a) = powers(simd, &teacher[at.clone()], teachers, over);
            let lanes = at.len();
            sums[0] = simd.add(sums[0], partial(simd, q, lanes));
            sums[1] = simd.add(sums[1], partial(simd, p, lanes));
            sums[2] = simd.fma(partial(simd, p, lanes), simd.sub(a, b), sums[2]);
        }
        total += simd.sum(sums[0]) as f64;
        teacher_total += simd.sum(sums[1]) as f64;
        apart += simd.sum(sums[2]) as f64;
    }
    let scale = scale as f64 * temperature as f64;
    let (by, teachers_by) = (simd.splat((scale / total) as f32), simd.splat((-scale / teacher_total) as f32));
    for at in vectors(x.len()) {
        let (q, _) = powers(simd, &x[at.clone()], most, over);
        let (p, _) = powers(simd, &teacher[at.clone()], teachers, over);
        let y = simd.fma(q, by, simd.mul(p, teachers_by));
        let y = simd.add(load(simd, &grad[at.clone()]), y);
        store(simd, y, &mut grad[at]);
    }
    (apart / teacher_total - libm::log(teacher_total) + libm::log(total)) as f32
}
