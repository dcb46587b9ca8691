//! A CPU as the backend sees it: one table of kernels, the threads, and the loops over rows that bring them together.

use crate::attention;
use crate::dot::block::Group;
use crate::dot::ternary::{FIVES, fives};
use crate::dot::{Column, Columns, GROUP, Out, Rows, Tokens, stack};
use crate::elementwise::Activation;
use crate::gemm;
use crate::kv::Line;
use crate::pool::Pool;
use crate::simd::{LANES, scalar::Scalar};
use crate::table::{Kernel, Table};
use std::sync::{Mutex, MutexGuard};
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
    /// For each thread.
    scratch: Vec<Mutex<Scratch>>,
    pub(crate) attention: attention::Scratch,
    pub(crate) packed: gemm::Room,
}

/// Room for a thread to work in.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(crate) floats: Vec<f32>,
    bytes: Vec<u8>,
    groups: Vec<Group>,
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
    /// All rows.
    pub bytes: &'a [u8],
    /// What the format keeps for the whole tensor, behind its rows.
    pub tail: &'a [u8],
    /// Whether each whole [`PANEL`] of rows is as [`interleave`] made it.
    pub interleaved: bool,
}

/// Rows that are interleaved together.
pub const PANEL: usize = LANES;

/// Rearranges a [`PANEL`] of whole rows so that a block product loads from one place what it works on at once. It takes as many bytes.
pub fn interleave(format: &Format, rows: &[u8], out: &mut [u8]) {
    stack::interleave(format, rows, out);
}

impl<'a> Matrix<'a> {
    /// A matrix in the order of its format, from `bytes`: its rows, and the format's tail.
    ///
    /// # Panics
    /// When there is less than the tail.
    pub fn new(format: &'static Format, rows: usize, cols: usize, bytes: &'a [u8]) -> Matrix<'a> {
        let (bytes, tail) = bytes.split_at(bytes.len() - format.tail);
        Matrix { format, rows, cols, bytes, tail, interleaved: false }
    }

    /// Some of its rows. In an interleaved matrix, they begin and end with a panel.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn part(self, rows: std::ops::Range<usize>) -> Matrix<'a> {
        let stride = self.stride();
        assert!(!self.interleaved || rows.start.is_multiple_of(PANEL) && rows.end.is_multiple_of(PANEL));
        Matrix { rows: rows.len(), bytes: &self.bytes[rows.start * stride..rows.end * stride], ..self }
    }

    fn stride(&self) -> usize {
        self.format.row_bytes(self.cols).expect("whole blocks")
    }

    /// The bytes of a row, as a file has them; `room` is for those of one that is interleaved.
    fn row<'b>(&self, i: usize, room: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let (stride, panel) = (self.stride(), i / PANEL * PANEL);
        if !self.interleaved || panel + PANEL > self.rows {
            return &self.bytes[i * stride..][..stride];
        }
        room.resize(stride, 0);
        stack::pick(self.format, &self.bytes[panel * stride..][..PANEL * stride], i - panel, room);
        room
    }
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
    /// As [`Form::Tokens`], in the order in which the five trits of TQ1_0's bytes meet them.
    Fives,
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
    /// For one scale per token: `[tokens, width]`, each token from a cache line on.
    lines: Vec<Line>,
    cols: usize,
    width: usize,
    scales: Vec<f32>,
    totals: Vec<i32>,
    /// For a scale per 32 columns: `[groups, tokens]` for each of [`Columns::chunks`].
    columns: Vec<Column>,
}

impl Quantized {
    fn tokens(&self) -> Tokens<'_> {
        let q = bytemuck::cast_slice(&self.lines);
        Tokens { q, width: self.width, scales: &self.scales, totals: &self.totals }
    }

    /// The numbers that the bytes stand for; for [`Form::Tokens`].
    pub fn dequantize(&self, out: &mut [f32]) {
        let q: &[i8] = bytemuck::cast_slice(&self.lines);
        for ((out, q), scale) in out.chunks_mut(self.cols).zip(q.chunks(self.width)).zip(&self.scales) {
            out.iter_mut().zip(q).for_each(|(out, &q)| *out = q as f32 * scale);
        }
    }
}

/// Some rows of a buffer for one task each.
pub(crate) struct Slots<T>(*mut T);
// SAFETY: each task touches its own rows.
unsafe impl<T: Send> Sync for Slots<T> {}

impl<T> Slots<T> {
    pub fn of(x: &mut [T]) -> Slots<T> {
        Slots(x.as_mut_ptr())
    }
    pub fn at(&self, i: usize) -> *mut T {
        self.0.wrapping_add(i)
    }
    /// Row `i` of rows of `width`.
    ///
    /// # Safety
    /// The row is inside the buffer, which is alive, and nobody else touches it.
    #[expect(clippy::mut_from_ref, reason = "the rows are disjoint")]
    pub unsafe fn row(&self, i: usize, width: usize) -> &mut [T] {
        // SAFETY: as the function's.
        unsafe { std::slice::from_raw_parts_mut(self.at(i * width), width) }
    }
}

/// Called with a row's number, the row, and the thread's scratch.
type RowBody<'a> = dyn Fn(usize, &mut [f32], &mut Scratch) + Sync + 'a;

impl Machine {
    /// # Errors
    /// When the system gives no threads.
    pub fn new(table: &'static Table, threads: usize) -> std::io::Result<Machine> {
        Ok(Machine::on(table, Pool::new(threads)?))
    }

    /// A machine of these threads.
    pub fn on(table: &'static Table, pool: Pool) -> Machine {
        let scratch = (0..pool.threads()).map(|_| Mutex::default()).collect();
        Machine { table, pool, scratch, attention: attention::Scratch::default(), packed: gemm::Room::default() }
    }

    /// The threads, for loops of another kind.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `body(i, row, scratch)` for each row of `width` floats in `out`; in parallel when a row is `work` multiplications and that pays.
    pub(crate) fn rows(&mut self, out: &mut [f32], width: usize, work: usize, body: &RowBody) {
        let rows = out.len() / width;
        let tasks = if rows * work < WORTH { 1 } else { rows.min(self.threads() * TASKS) };
        let slots = Slots::of(out);
        let scratch = &self.scratch;
        self.pool.run(tasks, &|task, thread| {
            let mut scratch = lock(&scratch[thread]);
            for i in task * rows / tasks..(task + 1) * rows / tasks {
                // SAFETY: row `i` is inside `out` and belongs to this task alone.
                body(i, unsafe { slots.row(i, width) }, &mut scratch);
            }
        });
    }

    /// Calls `body(i, row)` for each row of `width` floats in `out`; in parallel when a row is `work` multiplications and that pays.
    pub fn fill(&mut self, out: &mut [f32], width: usize, work: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        self.rows(out, width, work, &|i, row, _| body(i, row));
    }

    /// Whether products with this format take interleaved rows, faster.
    pub fn interleaves(&self, format: &Format) -> bool {
        matches!(self.table.kernel(format), Kernel::Block(_))
    }

    /// The form in which [`Machine::product`] wants activations for a matrix of this format.
    pub fn form(&self, format: &Format) -> Form {
        match self.table.kernel(format) {
            Kernel::Float(_) | Kernel::Decode => Form::Floats,
            Kernel::Block(_) => Form::Blocks,
            Kernel::Ternary(_, form) => form,
        }
    }

    /// Activations `x`, `[tokens, cols]`, as bytes. `cols` is a multiple of 32, except for [`Form::Tokens`], and of 256 for [`Form::Fives`].
    pub fn quantize(&mut self, x: &[f32], cols: usize, form: Form, out: &mut Quantized) {
        let (tokens, table) = (x.len() / cols, self.table);
        let tasks = |parts: usize| if x.len() < WORTH { 1 } else { parts.min(self.pool.threads() * TASKS) };
        let part = |task: usize, tasks: usize, parts: usize| task * parts / tasks..(task + 1) * parts / tasks;
        out.cols = cols;
        if form == Form::Blocks {
            let groups = cols / GROUP;
            out.columns.resize(groups * tokens, Column::EMPTY);
            let (columns, tasks) = (Slots::of(&mut out.columns), tasks(groups));
            self.pool.run(tasks, &|task, _| {
                let part = part(task, tasks, groups);
                for chunk in Columns::chunks(tokens, groups) {
                    let (first, len) = (chunk.start * groups + part.start * chunk.len(), part.len() * chunk.len());
                    // SAFETY: the chunk's columns of these groups, which belong to this task alone.
                    let columns = unsafe { std::slice::from_raw_parts_mut(columns.at(first), len) };
                    (table.columns)(&x[chunk.start * cols + part.start * GROUP..], cols, chunk.len(), columns);
                }
            });
            return;
        }
        out.width = if form == Form::Fives { cols / 256 * FIVES } else { cols.next_multiple_of(size_of::<Line>()) };
        let width = out.width;
        out.lines.resize(tokens * width / size_of::<Line>(), Line::ZERO);
        out.scales.resize(tokens, 0.0);
        out.totals.resize(tokens, 0);
        let q = Slots::of(bytemuck::cast_slice_mut(&mut out.lines));
        let (scales, totals, tasks) = (Slots::of(&mut out.scales), Slots::of(&mut out.totals), tasks(tokens));
        self.pool.run(tasks, &|task, _| {
            for token in part(task, tasks, tokens) {
                // SAFETY: what belongs to this token, which belongs to this task alone.
                let (q, scale, total) =
                    unsafe { (q.row(token, width), &mut *scales.at(token), &mut *totals.at(token)) };
                *scale = (table.token)(&x[token * cols..][..cols], &mut q[..cols]);
                *total = q[..cols].iter().map(|&q: &i8| q as i32).sum();
                if form == Form::Fives {
                    // A block's place is behind those of the blocks before it: from the last on nothing is overwritten.
                    for block in (0..cols / 256).rev() {
                        let plain: [i8; 256] = *q[256 * block..].first_chunk().expect("256 columns");
                        fives(&plain, q[FIVES * block..].first_chunk_mut().expect("room for them"));
                    }
                }
            }
        });
        if form == Form::Spread {
            let q: &[i8] = bytemuck::cast_slice(&out.lines);
            out.columns.clear();
            let groups = cols / GROUP;
            let order =
                Columns::chunks(tokens, groups).flat_map(|chunk| (0..groups).map(move |group| (group, chunk.clone())));
            for (group, chunk) in order {
                out.columns.extend(chunk.map(|token| {
                    let q = *q[token * width + group * GROUP..].first_chunk().expect("32 columns");
                    let mut column = Column { q, scale: out.scales[token], ..Column::EMPTY };
                    column.add_up(Scalar(()));
                    column
                }));
            }
        }
    }

    /// `out[token][row] = w[row] · x[token]`, `[tokens, rows]`. Floats are taken for every format: the rows of one that has another form
    /// are decoded.
    ///
    /// # Panics
    /// When the shapes disagree or the input is neither in the matrix's [`Machine::form`] nor floats.
    pub fn product(&mut self, w: Matrix, x: Input, out: &mut [f32]) {
        let tokens = out.len() / w.rows;
        let stride = w.stride();
        assert_eq!((w.bytes.len(), w.tail.len()), (w.rows * stride, w.format.tail));
        let kernel = self.table.kernel(w.format);
        assert!(!w.interleaved || matches!(kernel, Kernel::Block(_)));
        let panels = w.rows.div_ceil(LANES);
        let threads = self.pool.active();
        let tasks = match panels.min(threads * TASKS) {
            _ if tokens * w.rows * w.cols < WORTH => 1,
            tasks if tasks > threads => tasks / threads * threads,
            tasks => tasks,
        };
        let (len, slots, scratch, table) = (out.len(), Slots::of(out), &self.scratch, self.table);
        self.pool.run(tasks, &|task, thread| {
            // Tasks that a thread takes one after the other lie one behind the other, and what it fetched ahead is its own.
            let task = if tasks > threads { task % threads * (tasks / threads) + task / threads } else { task };
            let edge = |task: usize| (task * panels / tasks * LANES).min(w.rows);
            let range = edge(task)..edge(task + 1);
            // SAFETY: the ranges of the tasks do not overlap.
            let mut out = unsafe { Out::new(slots.at(0), len, w.rows, range.clone()) };
            let bytes = &w.bytes[range.start * stride..range.end * stride];
            let (cols, interleaved, tail) = (w.cols, w.interleaved, w.tail);
            let rows = Rows { bytes, stride, cols, interleaved, tail, range: range.clone() };
            match (&kernel, x) {
                (Kernel::Float(kernel), Input::Floats(x)) => {
                    assert_eq!(x.len(), tokens * w.cols);
                    kernel(&rows, x, &mut out);
                }
                (Kernel::Block(kernel), Input::Bytes(x)) => {
                    assert_eq!(x.columns.len() * GROUP, tokens * w.cols);
                    let groups = &mut lock(&scratch[thread]).groups;
                    grow(groups, w.cols / GROUP, Group::EMPTY);
                    for chunk in Columns::chunks(tokens, w.cols / GROUP) {
                        kernel(&rows, &Columns::chunk(&x.columns, w.cols / GROUP, chunk), groups, &mut out);
                    }
                }
                (Kernel::Ternary(kernel, form), Input::Bytes(x)) => {
                    assert!(x.cols == w.cols && x.scales.len() == tokens);
                    assert_eq!(*form == Form::Fives, x.width == w.cols / 256 * FIVES);
                    kernel(&rows, &x.tokens(), &mut out);
                }
                (_, Input::Floats(x)) => {
                    let Scratch { floats, bytes: room, .. } = &mut *lock(&scratch[thread]);
                    grow(floats, w.cols, 0.0);
                    for i in range {
                        (w.format.decode)(w.row(i, room), rows.tail, &mut floats[..w.cols]);
                        let bytes = bytemuck::cast_slice(&floats[..w.cols]);
                        let one =
                            Rows { bytes, stride: bytes.len(), range: i..i + 1, tail: &[], interleaved: false, ..rows };
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

    /// Layer norm over each `width` numbers of `x`; `gain` and `bias` have a multiple of those, and repeat.
    ///
    /// # Panics
    /// When they have not.
    pub fn layer_norm(
        &mut self,
        x: &[f32],
        width: usize,
        gain: &[f32],
        bias: Option<&[f32]>,
        eps: f32,
        out: &mut [f32],
    ) {
        let (parts, table) = (gain.len() / width, self.table);
        assert!(gain.len() == parts * width && bias.is_none_or(|bias| bias.len() == gain.len()));
        self.rows(out, width, 8 * width, &|i, out, _| {
            let part = i % parts * width..(i % parts + 1) * width;
            let bias = bias.map(|bias| &bias[part.clone()]);
            (table.layer_norm)(&x[i * width..][..width], &gain[part.clone()], bias, eps, out);
        });
    }

    /// `out = kind(gate) * up`, or `kind(gate)` where nothing is gated; rows of `width`.
    pub fn gated_activation(
        &mut self,
        kind: Activation,
        gate: &[f32],
        up: Option<&[f32]>,
        width: usize,
        out: &mut [f32],
    ) {
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| {
            (table.gate)(kind, &gate[i * width..][..width], up.map(|up| &up[i * width..][..width]), out);
        });
    }

    /// `out = factor * x`, rows of `width`.
    pub fn scale(&mut self, x: &[f32], factor: f32, width: usize, out: &mut [f32]) {
        let table = self.table;
        self.rows(out, width, width, &|i, out, _| (table.scale)(&x[i * width..][..width], factor, out));
    }

    /// `out = cap * tanh(x / cap)`, rows of `width`.
    pub fn softcap(&mut self, x: &[f32], cap: f32, width: usize, out: &mut [f32]) {
        let table = self.table;
        self.rows(out, width, 16 * width, &|i, out, _| (table.cap)(&x[i * width..][..width], cap, out));
    }

    /// `out[i] = Σ weights[i][j] * x[i][j]` in order of `j`, rows of `width`; `x` has `weights.len()` rows.
    ///
    /// # Panics
    /// When it has not.
    pub fn combine_experts(&mut self, x: &[f32], weights: &[f32], width: usize, out: &mut [f32]) {
        let (each, table) = (x.len() / out.len().max(1), self.table);
        assert!(weights.len() * width == x.len() && x.len() == each * out.len());
        self.rows(out, width, each * width, &|i, out, _| {
            out.fill(0.0);
            for j in i * each..(i + 1) * each {
                (table.add_weighted)(&x[j * width..][..width], weights[j], out);
            }
        });
    }

    /// Rows of `matrix` as floats, `[rows.len(), cols]`.
    pub fn gather(&mut self, matrix: Matrix, rows: &[u32], out: &mut [f32]) {
        self.rows(out, matrix.cols, 4 * matrix.cols, &|i, out, scratch| {
            (matrix.format.decode)(matrix.row(rows[i] as usize, &mut scratch.bytes), matrix.tail, out);
        });
    }
}

fn lock(scratch: &Mutex<Scratch>) -> MutexGuard<'_, Scratch> {
    scratch.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn grow<T: Clone>(scratch: &mut Vec<T>, len: usize, fill: T) {
    if scratch.len() < len {
        scratch.resize(len, fill);
    }
}
