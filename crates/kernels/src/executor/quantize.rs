//! Activations in the layout that a product takes.

use super::disjoint::Disjoint;
use super::scratch::bytes_of;
use super::{CpuExecutor, MIN_PARALLEL_WORK, TASKS};
use crate::activations::{ActivationBlock, ActivationLayout, BlockActivations, GROUP, QuantizedActivations};
use crate::cache_line::CacheLine;
use crate::dot::ternary::{TQ1_WIDTH, tq1_order};
use crate::quantize::set_sums;
use crate::simd::scalar::Scalar;
use std::ops::Range;

impl CpuExecutor {
    /// Quantizes activations `x`, `[tokens, cols]`. `cols` is a multiple of 32, except for [`ActivationLayout::PerToken`] and
    /// [`ActivationLayout::Bf16`], and of 256 for [`ActivationLayout::Tq1`].
    pub fn quantize(&mut self, x: &[f32], cols: usize, layout: ActivationLayout, out: &mut QuantizedActivations) {
        out.cols = cols;
        match layout {
            ActivationLayout::PerBlock => self.quantize_blocks(x, cols, out),
            ActivationLayout::Bf16 => self.quantize_bf16(x, cols, out),
            _ => self.quantize_tokens(x, cols, layout, out),
        }
        if layout == ActivationLayout::PerTokenSpread {
            spread(x.len() / cols, out);
        }
    }

    /// Tasks for `parts` independent parts of quantizing `len` floats.
    fn quantize_tasks(&self, len: usize, parts: usize) -> usize {
        if len < MIN_PARALLEL_WORK { 1 } else { parts.min(self.pool.threads() * TASKS) }
    }

    fn quantize_blocks(&mut self, x: &[f32], cols: usize, out: &mut QuantizedActivations) {
        let (tokens, groups, table) = (x.len() / cols, cols / GROUP, self.table);
        out.blocks.resize(groups * tokens, ActivationBlock::EMPTY);
        let (blocks, tasks) = (Disjoint::of(&mut out.blocks), self.quantize_tasks(x.len(), groups));
        self.pool.run(tasks, &|task, _| {
            let part = share(task, tasks, groups);
            for chunk in BlockActivations::chunks(tokens, groups) {
                let (first, len) = (chunk.start * groups + part.start * chunk.len(), part.len() * chunk.len());
                // SAFETY: the chunk's blocks of these groups, which belong to this task alone.
                let blocks = unsafe { blocks.slice(first, len) };
                (table.quantize_blocks)(&x[chunk.start * cols + part.start * GROUP..], cols, chunk.len(), blocks);
            }
        });
    }

    fn quantize_tokens(&mut self, x: &[f32], cols: usize, layout: ActivationLayout, out: &mut QuantizedActivations) {
        let (tokens, table, tq1) = (x.len() / cols, self.table, layout == ActivationLayout::Tq1);
        out.width = if tq1 { cols / 256 * TQ1_WIDTH } else { cols.next_multiple_of(size_of::<CacheLine>()) };
        let width = out.width;
        out.lines.resize(tokens * width / size_of::<CacheLine>(), CacheLine::ZERO);
        out.scales.resize(tokens, 0.0);
        out.totals.resize(tokens, 0);
        let q = Disjoint::of(bytemuck::cast_slice_mut(&mut out.lines));
        let (scales, totals) = (Disjoint::of(&mut out.scales), Disjoint::of(&mut out.totals));
        let tasks = self.quantize_tasks(x.len(), tokens);
        self.pool.run(tasks, &|task, _| {
            for token in share(task, tasks, tokens) {
                // SAFETY: what belongs to this token, which belongs to this task alone.
                let (q, scale, total) =
                    unsafe { (q.row(token, width), &mut *scales.at(token), &mut *totals.at(token)) };
                *scale = (table.quantize_token)(&x[token * cols..][..cols], &mut q[..cols]);
                *total = q[..cols].iter().map(|&q: &i8| q as i32).sum();
                if tq1 {
                    // A block moves to the right: from the last on, nothing is overwritten.
                    for block in (0..cols / 256).rev() {
                        let plain: [i8; 256] = *q[256 * block..].first_chunk().expect("256 columns");
                        tq1_order(&plain, q[TQ1_WIDTH * block..].first_chunk_mut().expect("room for them"));
                    }
                }
            }
        });
    }
}

impl CpuExecutor {
    fn quantize_bf16(&mut self, x: &[f32], cols: usize, out: &mut QuantizedActivations) {
        let (tokens, table) = (x.len() / cols, self.table);
        out.width = bf16_width(cols);
        let width = out.width / size_of::<CacheLine>();
        out.lines.resize(tokens * width, CacheLine::ZERO);
        let lines = Disjoint::of(&mut out.lines);
        let tasks = self.quantize_tasks(x.len(), tokens);
        self.pool.run(tasks, &|task, _| {
            for token in share(task, tasks, tokens) {
                // SAFETY: what belongs to this token, which belongs to this task alone.
                let lines = unsafe { lines.row(token, width) };
                (table.quantize_bf16)(&x[token * cols..][..cols], lines);
            }
        });
    }
}

/// Bytes of a token in [`ActivationLayout::Bf16`].
pub(super) fn bf16_width(cols: usize) -> usize {
    (cols * size_of::<u16>()).next_multiple_of(size_of::<CacheLine>())
}

impl QuantizedActivations {
    /// Bytes that activations `[tokens, cols]` take in this layout: those of blocks, and those of lines.
    pub fn bytes_for(tokens: usize, cols: usize, layout: ActivationLayout) -> [usize; 2] {
        let blocks = tokens * cols / GROUP * size_of::<ActivationBlock>();
        let lines = |width: usize| tokens * (width + size_of::<f32>() + size_of::<i32>());
        let whole = cols.next_multiple_of(size_of::<CacheLine>());
        match layout {
            ActivationLayout::F32 => [0, 0],
            ActivationLayout::PerBlock => [blocks, 0],
            ActivationLayout::PerToken => [0, lines(whole)],
            ActivationLayout::PerTokenSpread => [blocks, lines(whole)],
            ActivationLayout::Tq1 => [0, lines(cols / 256 * TQ1_WIDTH)],
            ActivationLayout::Bf16 => [0, tokens * bf16_width(cols)],
        }
    }

    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        let QuantizedActivations { lines, scales, totals, blocks, .. } = self;
        bytes_of(lines) + bytes_of(scales) + bytes_of(totals) + bytes_of(blocks)
    }
}

/// The part of `0..parts` that a task does.
fn share(task: usize, tasks: usize, parts: usize) -> Range<usize> {
    task * parts / tasks..(task + 1) * parts / tasks
}

/// Copies the bytes of each token to blocks that repeat its scale.
fn spread(tokens: usize, out: &mut QuantizedActivations) {
    let q: &[i8] = bytemuck::cast_slice(&out.lines);
    out.blocks.clear();
    let groups = out.cols / GROUP;
    let order =
        BlockActivations::chunks(tokens, groups).flat_map(|chunk| (0..groups).map(move |group| (group, chunk.clone())));
    for (group, chunk) in order {
        out.blocks.extend(chunk.map(|token| {
            let q = *q[token * out.width + group * GROUP..].first_chunk().expect("32 columns");
            let mut block = ActivationBlock { q, scale: out.scales[token], ..ActivationBlock::EMPTY };
            set_sums(Scalar, &mut block);
            block
        }));
    }
}
