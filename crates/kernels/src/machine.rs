//! A CPU as the backend sees it: one table of kernels, the threads, and the loops over rows that bring them together.

use crate::activation::Scale;
use crate::attention::Scratch;
use crate::dot::{GROUP, Ints, Out, Rows};
use crate::elementwise::Gate;
use crate::pool::Pool;
use crate::table::{Kernel, Table};
use std::sync::Mutex;
use trine_tensor::Format;

/// Multiplications worth waking another thread for.
pub(crate) const WORTH: usize = 1 << 14;
/// Tasks per thread in a parallel loop, so that a thread that is held up leaves little behind.
const TASKS: usize = 8;

/// Kernels and threads.
pub struct Machine {
    /// The instruction set.
    pub table: &'static Table,
    pub(crate) pool: Pool,
    /// A row of floats for each thread.
    scratch: Vec<Mutex<Vec<f32>>>,
    pub(crate) attention: Scratch,
}

/// A weight matrix at rest.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    /// What the bytes mean.
    pub format: &'static Format,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// All rows, and the format's tail.
    pub bytes: &'a [u8],
}

/// How a product wants its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As floats.
    Floats,
    /// As bytes with a scale per 32 columns.
    Blocks,
    /// As bytes with a scale per token.
    Tokens,
    /// As bytes with the token's scale written for each 32 columns: what [`Form::Blocks`] kernels take from a model whose activations
    /// are defined to have one scale per token.
    Spread,
}

/// Activations `[tokens, cols]` in one of the forms.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// For [`Form::Floats`].
    Floats(&'a [f32]),
    /// For the others.
    Bytes(&'a Quantized),
}

/// Activations as bytes: `x[token][col] ≈ q[token][col] * scale`.
#[derive(Default)]
pub struct Quantized {
    q: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
    cols: usize,
}

impl Quantized {
    fn ints(&self) -> Ints<'_> {
        Ints { q: &self.q, cols: self.cols, scales: &self.scales, sums: &self.sums }
    }

    /// The numbers that the bytes stand for; for [`Form::Tokens`].
    pub fn dequantize(&self, out: &mut [f32]) {
        for ((out, q), scale) in out.chunks_mut(self.cols).zip(self.q.chunks(self.cols)).zip(&self.scales) {
            out.iter_mut().zip(q).for_each(|(out, &q)| *out = q as f32 * scale);
        }
    }
}

/// Some rows of a buffer for one task each.
pub(crate) struct Slots<T>(pub *mut T);
// SAFETY: whoever makes one gives each task its own rows.
unsafe impl<T> Sync for Slots<T> {}

impl<T> Slots<T> {
    pub fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
}

/// Called with a row's number, the row, and the thread's scratch.
type RowBody<'a> = dyn Fn(usize, &mut [f32], &mut Vec<f32>) + Sync + 'a;

impl Machine {
    /// # Errors
    /// When the system gives no threads.
    pub fn new(table: &'static Table, threads: usize) -> std::io::Result<Machine> {
        let pool = Pool::new(threads)?;
        let scratch = (0..pool.threads()).map(|_| Mutex::default()).collect();
        Ok(Machine { table, pool, scratch, attention: Scratch::default() })
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `body(i, row, scratch)` for each row of `width` floats in `out`; in parallel when a row is `work` multiplications and that pays.
    pub(crate) fn rows(&mut self, out: &mut [f32], width: usize, work: usize, body: &RowBody) {
        let rows = out.len() / width;
        let tasks = if rows * work < WORTH { 1 } else { rows.min(self.threads() * TASKS) };
        let slots = Slots(out.as_mut_ptr());
        let scratch = &self.scratch;
        self.pool.run(tasks, &|task, thread| {
            let mut scratch = scratch[thread].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            for i in task * rows / tasks..(task + 1) * rows / tasks {
                // SAFETY: row `i` is inside `out` and belongs to this task alone.
                let row = unsafe { std::slice::from_raw_parts_mut(slots.at(i * width), width) };
                body(i, row, &mut scratch);
            }
        });
    }

    /// The form in which [`Machine::product`] wants activations for a matrix of this format.
    pub fn form(&self, format: &Format) -> Form {
        match self.table.kernel(format) {
            Kernel::Float(_) | Kernel::Decode => Form::Floats,
            Kernel::Block(_) => Form::Blocks,
            Kernel::Ternary(_) => Form::Tokens,
        }
    }

    /// Activations `x`, `[tokens, cols]`, as bytes. `cols` is a multiple of 32, except for [`Form::Tokens`] that is only dequantised.
    pub fn quantize(&mut self, x: &[f32], cols: usize, form: Form, out: &mut Quantized) {
        let groups = cols / GROUP;
        out.cols = cols;
        out.q.resize(x.len(), 0);
        out.scales.clear();
        out.sums.clear();
        for (x, q) in x.chunks_exact(cols).zip(out.q.chunks_exact_mut(cols)) {
            if form == Form::Blocks {
                let blocks = x.chunks_exact(GROUP).zip(q.chunks_exact_mut(GROUP));
                out.scales.extend(blocks.map(|(x, q)| (self.table.quantize)(x, Scale::Block, q)));
            } else {
                let scale = (self.table.quantize)(x, Scale::Token, q);
                out.scales.extend(std::iter::repeat_n(scale, if form == Form::Spread { groups } else { 1 }));
            }
            out.sums.extend(q.as_chunks().0.iter().map(self.table.block_sum));
        }
    }

    /// `out[token][row] = w[row] · x[token]`, `[tokens, rows]`.
    ///
    /// # Panics
    /// When the shapes disagree or the input is not in the matrix's [`Machine::form`].
    pub fn product(&mut self, w: Matrix, x: Input, out: &mut [f32]) {
        let tokens = out.len() / w.rows;
        let stride = w.format.row_bytes(w.cols).expect("whole blocks");
        assert_eq!(w.bytes.len(), w.rows * stride + w.format.tail);
        let kernel = self.table.kernel(w.format);
        let quads = w.rows.div_ceil(4);
        let tasks = if tokens * w.rows * w.cols < WORTH { 1 } else { quads.min(self.threads() * TASKS) };
        let (len, slots, scratch, table) = (out.len(), Slots(out.as_mut_ptr()), &self.scratch, self.table);
        self.pool.run(tasks, &|task, thread| {
            let range = (task * quads / tasks * 4).min(w.rows)..((task + 1) * quads / tasks * 4).min(w.rows);
            // SAFETY: the ranges of the tasks do not overlap.
            let mut out = unsafe { Out::new(slots.at(0), len, w.rows, range.clone()) };
            let bytes = &w.bytes[range.start * stride..range.end * stride];
            let rows = Rows { bytes, stride, cols: w.cols, tail: &w.bytes[w.rows * stride..], range: range.clone() };
            match (&kernel, x) {
                (Kernel::Float(kernel), Input::Floats(x)) => {
                    assert_eq!(x.len(), tokens * w.cols);
                    kernel(&rows, x, &mut out);
                }
                (Kernel::Block(kernel) | Kernel::Ternary(kernel), Input::Bytes(x)) => {
                    assert_eq!(x.q.len(), tokens * w.cols);
                    kernel(&rows, &x.ints(), &mut out);
                }
                (Kernel::Decode, Input::Floats(x)) => {
                    let mut row = scratch[thread].lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    grow(&mut row, w.cols);
                    for i in range {
                        (w.format.decode)(rows.row(i), rows.tail, &mut row[..w.cols]);
                        let bytes = bytemuck::cast_slice(&row[..w.cols]);
                        let one = Rows { bytes, stride: bytes.len(), cols: w.cols, tail: &[], range: i..i + 1 };
                        (table.f32)(&one, x, &mut out);
                    }
                }
                _ => panic!("the input is not in the form that {} wants", w.format.name),
            }
        });
    }

    /// Root-mean-square norm over each `gain.len()` numbers of `x`.
    pub fn rms_norm(&mut self, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
        let (width, table) = (gain.len(), self.table);
        self.rows(out, width, 8 * width, &|i, out, _| (table.rms_norm)(&x[i * width..][..width], gain, eps, out));
    }

    /// `out = a + b`, rows of `width`; `b` may be one row, added to each.
    pub fn add(&mut self, a: &[f32], b: &[f32], width: usize, out: &mut [f32]) {
        let (rows, table) = (b.len() / width, self.table);
        self.rows(out, width, width, &|i, out, _| {
            (table.add)(&a[i * width..][..width], &b[i % rows * width..][..width], out);
        });
    }

    /// `out = kind(gate) * up`, rows of `width`.
    pub fn gate(&mut self, kind: Gate, gate: &[f32], up: &[f32], width: usize, out: &mut [f32]) {
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| {
            (table.gate)(kind, &gate[i * width..][..width], &up[i * width..][..width], out);
        });
    }

    /// Rows of `matrix` as floats, `[rows.len(), cols]`.
    pub fn gather(&mut self, matrix: Matrix, rows: &[u32], out: &mut [f32]) {
        let stride = matrix.format.row_bytes(matrix.cols).expect("whole blocks");
        let tail = &matrix.bytes[matrix.rows * stride..];
        self.rows(out, matrix.cols, 4 * matrix.cols, &|i, out, _| {
            (matrix.format.decode)(&matrix.bytes[rows[i] as usize * stride..][..stride], tail, out);
        });
    }
}

fn grow(scratch: &mut Vec<f32>, len: usize) {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
}
