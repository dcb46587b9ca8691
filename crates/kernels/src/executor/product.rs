//! Products with weight matrices, and their rows as floats.

use super::disjoint::Disjoint;
use super::quantize::bf16_width;
use super::scratch::{Scratch, lock, reserve};
use super::{CpuExecutor, MIN_PARALLEL_WORK, TASKS};
use crate::activations::{ActivationLayout, Bf16Activations, BlockActivations, GROUP, Input};
use crate::cache_line::CacheLine;
use crate::dot::bf16;
use crate::dot::block::Group;
use crate::dot::interleave::deinterleave_row;
use crate::dot::ternary::TQ1_WIDTH;
use crate::matrix::{Matrix, Out, PANEL, Rows};
use crate::table::{Kernel, Table};
use std::sync::Mutex;
use trine_tensor::Format;

impl CpuExecutor {
    /// Whether products with this format are faster with interleaved rows.
    pub fn interleaves(&self, format: &Format) -> bool {
        matches!(self.table.kernel(format), Kernel::Block(_))
    }

    /// The layout in which [`CpuExecutor::product`] takes activations for a matrix of this format.
    pub fn activation_layout(&self, format: &Format) -> ActivationLayout {
        match self.table.kernel(format) {
            Kernel::Float(..) | Kernel::Decode => ActivationLayout::F32,
            Kernel::Block(_) => ActivationLayout::PerBlock,
            Kernel::Ternary(_, layout) => layout,
        }
    }

    /// `out[token][row] = w[row] · x[token]`, `[tokens, rows]`. Floats are taken for every format: rows of a format
    /// with another layout are decoded first.
    ///
    /// # Panics
    /// When the shapes disagree, or the input is neither floats nor in the layout of [`CpuExecutor::activation_layout`], nor in
    /// [`ActivationLayout::Bf16`] for a format that [`multiplies_bf16`](crate::multiplies_bf16).
    pub fn product(&mut self, w: Matrix, x: Input, out: &mut [f32]) {
        let tokens = out.len() / w.rows;
        let stride = w.stride();
        assert_eq!((w.bytes.len(), w.tail.len()), (w.rows * stride, w.format.tail));
        let kernel = self.table.kernel(w.format);
        assert!(!w.interleaved || matches!(kernel, Kernel::Block(_)));
        let panels = w.rows.div_ceil(PANEL);
        let threads = self.pool.active();
        let tasks = match panels.min(threads * TASKS) {
            _ if tokens * w.rows * w.cols < MIN_PARALLEL_WORK => 1,
            tasks if tasks > threads => tasks / threads * threads,
            tasks => tasks,
        };
        let (scratch, n_groups) = (&mut self.scratch, w.cols / GROUP);
        let width = bf16_width(w.cols) / size_of::<CacheLine>();
        match (&kernel, x) {
            (Kernel::Float(..), Input::Quantized(_)) => {
                reserve(scratch, |scratch| &mut scratch.strip, width, [CacheLine::ZERO; bf16::ROWS]);
            }
            (Kernel::Block(_), Input::Quantized(_)) => {
                reserve(scratch, |scratch| &mut scratch.groups, n_groups, Group::EMPTY);
            }
            (Kernel::Float(..), Input::F32(_)) | (Kernel::Ternary(..), Input::Quantized(_)) => {}
            _ => reserve_row(scratch, &w),
        }
        let (len, slots, scratch, table) = (out.len(), Disjoint::of(out), &self.scratch, self.table);
        self.pool.run(tasks, &|task, thread| {
            // Tasks that a thread takes in turn are contiguous, so that it multiplies the rows that it prefetched.
            let task = if tasks > threads { task % threads * (tasks / threads) + task / threads } else { task };
            let edge = |task: usize| (task * panels / tasks * PANEL).min(w.rows);
            let range = edge(task)..edge(task + 1);
            // SAFETY: the ranges of the tasks do not overlap.
            let mut out = unsafe { Out::new(slots.at(0), len, w.rows, range.clone()) };
            let bytes = &w.bytes[range.start * stride..range.end * stride];
            let rows = Rows { bytes, stride, cols: w.cols, interleaved: w.interleaved, tail: w.tail, range };
            match (&kernel, x) {
                (Kernel::Float(kernel, _), Input::F32(x)) => {
                    assert_eq!(x.len(), tokens * w.cols);
                    kernel(&rows, x, &mut out);
                }
                (Kernel::Float(_, Some(kernel)), Input::Quantized(x)) => {
                    assert!(x.cols == w.cols && x.lines.len() == tokens * width);
                    let strip = &mut lock(&scratch[thread]).strip;
                    for chunk in Bf16Activations::chunks(&x.lines, width) {
                        kernel(&rows, &chunk, strip, &mut out);
                    }
                }
                (Kernel::Block(kernel), Input::Quantized(x)) => {
                    assert_eq!(x.blocks.len() * GROUP, tokens * w.cols);
                    let groups = &mut lock(&scratch[thread]).groups;
                    for chunk in BlockActivations::chunks(tokens, n_groups) {
                        kernel(&rows, &BlockActivations::chunk(&x.blocks, n_groups, chunk), groups, &mut out);
                    }
                }
                (Kernel::Ternary(kernel, layout), Input::Quantized(x)) => {
                    assert!(x.cols == w.cols && x.scales.len() == tokens);
                    assert_eq!(*layout == ActivationLayout::Tq1, x.width == w.cols / 256 * TQ1_WIDTH);
                    kernel(&rows, &x.per_token(), &mut out);
                }
                (_, Input::F32(x)) => decoded_product(table, w, &rows, x, &mut lock(&scratch[thread]), &mut out),
                _ => panic!("the activations are not in the layout of {}", w.format.name),
            }
        });
    }

    /// Bytes that products with a matrix of this format and so many columns need of each thread's scratch.
    pub fn product_bytes(&self, format: &Format, cols: usize) -> usize {
        match self.table.kernel(format) {
            Kernel::Float(_, Some(_)) => bf16_width(cols) * bf16::ROWS,
            Kernel::Block(_) => cols / GROUP * size_of::<Group>(),
            Kernel::Decode => cols * size_of::<f32>(),
            Kernel::Float(_, None) | Kernel::Ternary(..) => 0,
        }
    }

    /// Rows of `matrix` as floats, `[rows.len(), cols]`.
    pub fn gather(&mut self, matrix: Matrix, rows: &[u32], out: &mut [f32]) {
        reserve_row(&mut self.scratch, &matrix);
        self.rows(out, matrix.cols, 4 * matrix.cols, &|i, out, scratch| {
            (matrix.format.decode)(row_bytes(&matrix, rows[i] as usize, &mut scratch.bytes), matrix.tail, out);
        });
    }
}

/// Makes room for a row in each thread, as floats and as its format stores it.
fn reserve_row(scratch: &mut [Mutex<Scratch>], w: &Matrix) {
    reserve(scratch, |scratch| &mut scratch.floats, w.cols, 0.0);
    if w.interleaved {
        reserve(scratch, |scratch| &mut scratch.bytes, w.stride(), 0);
    }
}

/// Multiplies rows that are decoded to floats one by one.
fn decoded_product(table: &Table, w: Matrix, rows: &Rows, x: &[f32], scratch: &mut Scratch, out: &mut Out) {
    let Scratch { floats, bytes: row, .. } = scratch;
    for i in rows.range.clone() {
        (w.format.decode)(row_bytes(&w, i, row), rows.tail, &mut floats[..w.cols]);
        let bytes = bytemuck::cast_slice(&floats[..w.cols]);
        let (stride, range) = (bytes.len(), i..i + 1);
        let one = Rows { bytes, stride, cols: w.cols, interleaved: false, tail: &[], range };
        (table.f32)(&one, x, out);
    }
}

/// The bytes of a row as its format stores it; `scratch` has room for a row of an interleaved panel.
fn row_bytes<'a>(w: &Matrix<'a>, i: usize, scratch: &'a mut [u8]) -> &'a [u8] {
    let (stride, panel) = (w.stride(), i / PANEL * PANEL);
    if !w.interleaved || panel + PANEL > w.rows {
        return &w.bytes[i * stride..][..stride];
    }
    let scratch = &mut scratch[..stride];
    deinterleave_row(w.format, &w.bytes[panel * stride..][..PANEL * stride], i - panel, scratch);
    scratch
}
