//! The ways back through what happens between matrix products, for training.
//!
//! Sums over rows are sums of chunks of so many rows, added in order, so that the bits do not depend on the number of threads.

mod adamw;
mod loss;

pub use adamw::AdamW;
pub(crate) use adamw::{Step, squares, step};
pub(crate) use loss::{all_powers, cross_entropy, divergence};

use crate::dot::float::{dot, padded};
use crate::elementwise::{Activation, norm_factor, sigmoid_inverse};
use crate::machine::{Machine, Slots, WORTH};
use crate::simd::{LANES, Simd};

/// Rows that are added up before they are added to other rows.
const CHUNK: usize = 32;
/// Numbers of a task that sees them one by one; whole vectors.
const PART: usize = 1 << 12;

impl Machine {
    /// The way back through [`Machine::rms_norm`], whose `x`, `gain` and `eps` these are: from `dy`, the derivative by its output, `dx`,
    /// that by `x`, `[rows, gain.len()]` each. The derivative by `gain` is added to `dgain`.
    pub fn rms_norm_back(&mut self, x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dgain: &mut [f32]) {
        let (width, table) = (gain.len(), self.table);
        let rows = dx.len() / width;
        assert!(dx.len() == rows * width && x.len() == dx.len() && dy.len() == dx.len() && dgain.len() == width);
        let chunks = rows.div_ceil(CHUNK);
        let sums = self.packed.of::<f32>(chunks * width);
        sums.fill(0.0);
        let (all, dx) = (Slots::of(sums), Slots::of(dx));
        in_parallel(&mut self.pool, chunks, 16 * rows * width, &|chunk| {
            // SAFETY: sums and rows of this chunk, which belong to this task alone.
            let sums = unsafe { all.row(chunk, width) };
            for i in chunk * CHUNK..rows.min((chunk + 1) * CHUNK) {
                // SAFETY: as above.
                (table.rms_norm_back)(
                    row(x, i, width),
                    gain,
                    eps,
                    row(dy, i, width),
                    unsafe { dx.row(i, width) },
                    sums,
                );
            }
        });
        for sums in self.packed.of::<f32>(chunks * width).chunks(width) {
            dgain.iter_mut().zip(sums).for_each(|(dgain, sum)| *dgain += sum);
        }
    }

    /// The way back through [`Machine::gate`], whose `gate` and `up` these are: from `dy`, the derivative by its output, those by `gate`
    /// and by `up`.
    pub fn gate_back(
        &mut self,
        kind: Activation,
        gate: &[f32],
        up: &[f32],
        dy: &[f32],
        dgate: &mut [f32],
        dup: &mut [f32],
    ) {
        let table = self.table;
        let len = dgate.len();
        assert!([gate, up, dy].iter().all(|x| x.len() == len) && dup.len() == len);
        let out = [dgate, dup].map(Slots::of);
        in_parallel(&mut self.pool, len.div_ceil(PART), 32 * len, &|task| {
            let at = task * PART..len.min((task + 1) * PART);
            // SAFETY: a range of each that is there and belongs to this task alone.
            let [dgate, dup] = [0, 1].map(|i| unsafe { std::slice::from_raw_parts_mut(out[i].at(at.start), at.len()) });
            (table.gate_back)(kind, &gate[at.clone()], &up[at.clone()], &dy[at], dgate, dup);
        });
    }

    /// `out[rows[i]] += dy[i]`, in order: the way back through [`Machine::gather`]. `dy` is `[rows.len(), width]`.
    ///
    /// # Panics
    /// When `out` lacks a row.
    pub fn scatter_rows(&mut self, rows: &[u32], dy: &[f32], width: usize, out: &mut [f32]) {
        let there = out.len() / width;
        assert!(dy.len() == rows.len() * width && rows.iter().all(|&row| (row as usize) < there));
        let (tasks, out) = (self.pool.active(), Slots::of(out));
        in_parallel(&mut self.pool, tasks, dy.len(), &|task| {
            for (&row, dy) in rows.iter().zip(dy.chunks(width)) {
                if row as usize % tasks == task {
                    // SAFETY: the row is there, and it belongs to this task alone.
                    let out = unsafe { out.row(row as usize, width) };
                    out.iter_mut().zip(dy).for_each(|(out, dy)| *out += dy);
                }
            }
        });
    }
}

/// Calls `body` with each task, in parallel when all are so many multiplications that it pays.
fn in_parallel(pool: &mut crate::Pool, tasks: usize, work: usize, body: &(dyn Fn(usize) + Sync)) {
    if work < WORTH {
        (0..tasks).for_each(body);
    } else {
        pool.run(tasks, &|task, _| body(task));
    }
}

fn row(x: &[f32], i: usize, width: usize) -> &[f32] {
    &x[i * width..][..width]
}

/// Where the vectors of so many numbers begin and end; the last may be shorter.
#[inline(always)]
fn vectors(len: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..len).step_by(LANES).map(move |at| at..len.min(at + LANES))
}

/// Up to 16 floats, and zeros.
#[inline(always)]
fn load<S: Simd>(simd: S, x: &[f32]) -> S::F {
    if x.len() == LANES { simd.load(x) } else { padded(simd, x) }
}

/// As many of the lanes as `out` takes.
#[inline(always)]
fn store<S: Simd>(simd: S, x: S::F, out: &mut [f32]) {
    if out.len() == LANES {
        return simd.store(x, out);
    }
    let mut all = [0.0; LANES];
    simd.store(x, &mut all);
    out.copy_from_slice(&all[..out.len()]);
}

/// A row of [`Machine::rms_norm_back`].
///
/// With `r = 1 / sqrt(mean(x²) + eps)`: `dx = r · (gain · dy − x · r² · mean(x · gain · dy))` and `dgain = dy · x · r`.
#[inline(always)]
pub(crate) fn rms_norm_back<S: Simd>(
    simd: S,
    x: &[f32],
    gain: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
) {
    let r = norm_factor(dot(simd, x, x) / x.len() as f32, eps);
    let mut sum = simd.splat(0.0);
    for at in vectors(x.len()) {
        let dy = simd.mul(load(simd, &gain[at.clone()]), load(simd, &dy[at.clone()]));
        sum = simd.fma(dy, load(simd, &x[at]), sum);
    }
    let pull = simd.splat(-(r * r) * (simd.sum(sum) / x.len() as f32));
    let r = simd.splat(r);
    for at in vectors(x.len()) {
        let (x, dy) = (load(simd, &x[at.clone()]), load(simd, &dy[at.clone()]));
        let by_norm = simd.mul(load(simd, &gain[at.clone()]), dy);
        store(simd, simd.mul(r, simd.fma(x, pull, by_norm)), &mut dx[at.clone()]);
        let sum = simd.fma(dy, simd.mul(x, r), load(simd, &dgain[at.clone()]));
        store(simd, sum, &mut dgain[at]);
    }
}

/// [`Machine::gate_back`].
#[inline(always)]
pub(crate) fn gate_back<S: Simd>(
    simd: S,
    kind: Activation,
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let one = simd.splat(1.0);
    for at in vectors(gate.len()) {
        let (x, up) = (load(simd, &gate[at.clone()]), load(simd, &up[at.clone()]));
        let dy = load(simd, &dy[at.clone()]);
        let (y, slope) = match kind {
            Activation::Silu => {
                let sigmoid = simd.div(one, sigmoid_inverse(simd, x));
                let y = simd.mul(x, sigmoid);
                // sigmoid · (1 + x · (1 − sigmoid))
                (y, simd.fma(y, simd.sub(one, sigmoid), sigmoid))
            }
            Activation::Relu2 => {
                let x = simd.max(simd.splat(0.0), x);
                (simd.mul(x, x), simd.add(x, x))
            }
            Activation::Gelu | Activation::GeluTanh | Activation::Clamped => {
                unreachable!("training refuses models with these")
            }
        };
        store(simd, simd.mul(simd.mul(dy, up), slope), &mut dgate[at.clone()]);
        store(simd, simd.mul(dy, y), &mut dup[at]);
    }
}
