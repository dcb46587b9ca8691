//! Backward passes for training: gradients, losses and the optimizer step.
//!
//! Sums over rows are sums of chunks of a fixed number of rows, added in order, so that the bits do not
//! depend on the number of threads.

use super::disjoint::Disjoint;
use super::{CpuExecutor, in_parallel};
use crate::adjoint::adamw::AdamW;
use crate::elementwise::Activation;

/// Rows that are added up before they are added to other rows.
const ROW_CHUNK: usize = 32;
/// Elements per task of an activation's gradient; whole vectors.
const PART: usize = 1 << 12;
/// Elements per task of an optimizer step, and per sum that is added to others.
const CHUNK: usize = 1 << 14;

impl CpuExecutor {
    /// The gradients of [`CpuExecutor::rms_norm`] of `x` from `dy`, that of its output, both `[rows, gain.len()]`:
    /// overwrites `dx`, and adds to `dgain`.
    pub fn rms_norm_back(&mut self, x: &[f32], gain: &[f32], eps: f32, dy: &[f32], dx: &mut [f32], dgain: &mut [f32]) {
        let (width, table) = (gain.len(), self.table);
        let rows = dx.len() / width;
        assert!(dx.len() == rows * width && x.len() == dx.len() && dy.len() == dx.len() && dgain.len() == width);
        let chunks = rows.div_ceil(ROW_CHUNK);
        let sums = self.packed.of::<f32>(chunks * width);
        sums.fill(0.0);
        let (all, dx) = (Disjoint::of(sums), Disjoint::of(dx));
        in_parallel(&mut self.pool, chunks, 16 * rows * width, &|chunk| {
            // SAFETY: sums and rows of this chunk, which belong to this task alone.
            let sums = unsafe { all.row(chunk, width) };
            for i in chunk * ROW_CHUNK..rows.min((chunk + 1) * ROW_CHUNK) {
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

    /// The gradients of [`CpuExecutor::gated_activation`] of `gate` and `up` from `dy`, that of its
    /// output: overwrites `dgate` and `dup`.
    pub fn gated_activation_back(
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
        let out = [dgate, dup].map(Disjoint::of);
        in_parallel(&mut self.pool, len.div_ceil(PART), 32 * len, &|task| {
            let at = task * PART..len.min((task + 1) * PART);
            // SAFETY: a range of each that is there and belongs to this task alone.
            let [dgate, dup] = [0, 1].map(|i| unsafe { out[i].slice(at.start, at.len()) });
            (table.gated_activation_back)(kind, &gate[at.clone()], &up[at.clone()], &dy[at], dgate, dup);
        });
    }

    /// `out[rows[i]] += dy[i]`, in order: the gradient of [`CpuExecutor::gather`]. `dy` is `[rows.len(), width]`.
    ///
    /// # Panics
    /// When a row is out of bounds.
    pub fn scatter_rows(&mut self, rows: &[u32], dy: &[f32], width: usize, out: &mut [f32]) {
        let there = out.len() / width;
        assert!(dy.len() == rows.len() * width && rows.iter().all(|&row| (row as usize) < there));
        let (tasks, out) = (self.pool.active(), Disjoint::of(out));
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

    /// For each row of `logits`, `[targets.len(), vocab]`, the cross-entropy with its target in nats:
    /// `losses[i] = −ln softmax(logits)[target]`. Overwrites `grad` with the gradient by the logits times `scale`.
    /// The target [`u32::MAX`] is ignored: its loss and gradient are 0. A loss is NaN if a logit is NaN or infinite.
    ///
    /// # Panics
    /// When the shapes disagree, or another target is outside the vocabulary.
    pub fn cross_entropy(&mut self, logits: &[f32], targets: &[u32], scale: f32, grad: &mut [f32], losses: &mut [f32]) {
        assert!(losses.len() == targets.len() && grad.len() == logits.len());
        if targets.is_empty() {
            return;
        }
        let vocab = logits.len() / targets.len();
        assert!(targets.len() * vocab == logits.len());
        assert!(targets.iter().all(|&target| target == u32::MAX || (target as usize) < vocab));
        let (losses, table) = (Disjoint::of(losses), self.table);
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

    /// The numerators of a softmax for each row of `x`, `[rows, width]`: `out = e^((x − max) / temperature)`,
    /// with `max` the largest of the row.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn softmax_numerators(&mut self, x: &[f32], width: usize, temperature: f32, out: &mut [f32]) {
        assert!(x.len() == out.len());
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| (table.softmax_numerators)(row(x, i, width), temperature, out));
    }

    /// For each row of `logits`, `[rows, vocab]`, the Kullback-Leibler divergence from the row of `teacher`,
    /// `losses[i] = KL(softmax(teacher / temperature) ‖ softmax(logits / temperature))`, in nats. Adds to `grad`
    /// the gradient by the logits times `scale · temperature²`, so that its size does not depend on the
    /// temperature (arXiv:1503.02531).
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
        let (losses, table) = (Disjoint::of(losses), self.table);
        self.rows(grad, vocab, 64 * vocab, &|i, grad, _| {
            let loss = (table.divergence)(row(logits, i, vocab), row(teacher, i, vocab), temperature, scale, grad);
            // SAFETY: a loss for each row, and this task alone has the row.
            unsafe { *losses.at(i) = loss };
        });
    }

    /// Moves weights `w` against their gradient `g`; `m` and `v` are the running means of the gradient and of its square.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn adamw(&mut self, config: &AdamW, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        let (len, table, step) = (w.len(), self.table, config.constants());
        assert!(g.len() == len && m.len() == len && v.len() == len);
        let all = [w, m, v].map(Disjoint::of);
        in_parallel(&mut self.pool, len.div_ceil(CHUNK), 16 * len, &|task| {
            let (at, end) = (task * CHUNK, len.min((task + 1) * CHUNK));
            // SAFETY: a range of each that is there and belongs to this task alone.
            let [w, m, v] = [0, 1, 2].map(|i| unsafe { all[i].slice(at, end - at) });
            (table.adamw)(&step, w, &g[at..end], m, v);
        });
    }

    /// `Σ x²`, which is finite if and only if every `x` is.
    pub fn sum_of_squares(&mut self, x: &[f32]) -> f64 {
        let (len, table) = (x.len(), self.table);
        let tasks = len.div_ceil(CHUNK);
        let sums = self.packed.of::<f64>(tasks);
        let slots = Disjoint::of(sums);
        in_parallel(&mut self.pool, tasks, len, &|task| {
            let sum = (table.sum_of_squares)(&x[task * CHUNK..len.min((task + 1) * CHUNK)]);
            // SAFETY: a sum for each task.
            unsafe { *slots.at(task) = sum };
        });
        sums.iter().sum()
    }
}

/// Bytes that [`CpuExecutor::rms_norm_back`] needs beside its operands.
pub fn rms_norm_back_bytes(rows: usize, width: usize) -> usize {
    rows.div_ceil(ROW_CHUNK) * width * size_of::<f32>()
}

fn row(x: &[f32], i: usize, width: usize) -> &[f32] {
    &x[i * width..][..width]
}
