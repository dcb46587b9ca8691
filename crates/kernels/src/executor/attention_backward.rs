//! Gradients of attention: a sequence and a KV head per task.

use super::disjoint::Disjoint;
use super::gemm::{Product, gemm, gemm_bytes};
use super::scratch::{BackwardScratch, lock};
use super::{CpuExecutor, MIN_PARALLEL_WORK};
use crate::attention::backward::{AttentionBackward, BackwardTile, KEYS, ROWS, WIDTH};
use crate::attention::options::AttentionOptions;
use crate::cache_line::CacheLine;
use crate::gemm::{Factors, Strided};
use crate::kv::Span;
use crate::simd::LANES;
use crate::table::Table;
use std::cmp::Reverse;

/// The outputs, shared by all tasks.
struct Gradients {
    dq: Disjoint<f32>,
    dk: Disjoint<f32>,
    dv: Disjoint<f32>,
}

impl CpuExecutor {
    /// Overwrites `dq`, `dk` and `dv`, of the shapes of `q`, `k` and `v`, with their gradients.
    ///
    /// # Panics
    /// When the shapes disagree, a window is zero, or the spans are not whole sequences, one after the other.
    pub fn attention_back(&mut self, job: &AttentionBackward, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        let AttentionBackward { n_heads, n_kv_heads, head_dim: dim, spans, .. } = *job;
        let tokens = spans.iter().fold(0, |row, span| {
            assert!(span.row == row && span.cached == 0);
            row + span.tokens
        });
        assert!(n_heads.is_multiple_of(n_kv_heads) && job.options.window != Some(0));
        assert!([job.q, job.out, job.dout, dq].iter().all(|x| x.len() == tokens * n_heads * dim));
        assert!([job.k, job.v, dk, dv].iter().all(|x| x.len() == tokens * n_kv_heads * dim));
        let to = Gradients { dq: Disjoint::of(dq), dk: Disjoint::of(dk), dv: Disjoint::of(dv) };
        let (table, scratch) = (self.table, &self.scratch);
        // The longest first: what is left at the end should be short.
        let mut order: Vec<&Span> = spans.iter().collect();
        order.sort_by_key(|span| Reverse(span.tokens));
        let body = |task: usize, thread: usize| {
            let scratch = &mut lock(&scratch[thread]).backward;
            head_back(table, job, order[task / n_kv_heads], task % n_kv_heads, scratch, &to);
        };
        let window = job.options.window.unwrap_or(usize::MAX);
        let work: usize = spans.iter().map(|span| span.tokens * span.tokens.min(window)).sum();
        let tasks = spans.len() * n_kv_heads;
        if 5 * work * n_heads * dim < MIN_PARALLEL_WORK {
            (0..tasks).for_each(|task| body(task, 0))
        } else {
            self.pool.run(tasks, &body)
        }
    }
}

/// Bytes that [`CpuExecutor::attention_back`] needs beside its operands: the scratch of all threads.
pub fn attention_back_bytes(
    [n_heads, n_kv_heads, dim]: [usize; 3],
    options: AttentionOptions,
    spans: &[Span],
    threads: usize,
) -> usize {
    let group = n_heads / n_kv_heads;
    let rows = (ROWS / group).max(1) * group;
    let tokens = spans.iter().map(|span| span.tokens).max().unwrap_or(0);
    let seen = tokens.min(KEYS);
    let scores = if options.softcap.is_some() { 3 } else { 2 };
    let packed = [[rows, seen, dim], [seen, dim, rows], [rows, dim, seen]].map(gemm_bytes).into_iter().max();
    let floats = (3 * rows + 2 * tokens) * dim * size_of::<f32>();
    let lines = (scores * rows * WIDTH + 2 * rows) * size_of::<CacheLine>();
    threads.min(spans.len() * n_kv_heads) * (floats + lines + packed.unwrap_or(0))
}

/// The gradients of one KV head of a sequence, and of its query heads.
fn head_back<'a>(
    table: &Table,
    job: &AttentionBackward<'a>,
    span: &Span,
    kv_head: usize,
    scratch: &mut BackwardScratch,
    to: &Gradients,
) {
    let AttentionBackward { n_heads, n_kv_heads, head_dim: dim, options, .. } = *job;
    let group = n_heads / n_kv_heads;
    let each = (ROWS / group).max(1);
    let BackwardScratch { q, dout, dq, dk, dv, weights, grads, slopes, states, totals, packed } = scratch;
    for tile in [&mut *q, dout, dq] {
        tile.resize(each * group * dim, 0.0);
    }
    for all in [&mut *dk, dv] {
        all.clear();
        all.resize(span.tokens * dim, 0.0);
    }
    for scores in [&mut *weights, grads] {
        scores.resize(each * group * WIDTH, CacheLine::ZERO);
    }
    if options.softcap.is_some() {
        slopes.resize(each * group * WIDTH, CacheLine::ZERO);
    }
    for rows in [&mut *states, totals] {
        rows.resize(each * group, CacheLine::ZERO);
    }
    let mut product = |shape, a: Strided, b: Strided, add, stride, out: &mut [f32]| {
        gemm(table, &Product { shape, a, b, add, factors: Factors::F32 }, stride, out, packed);
    };
    // Keys or values from a position on.
    let from =
        |x: &'a [f32], position| plain(&x[((span.row + position) * n_kv_heads + kv_head) * dim..], n_kv_heads * dim);

    for position in (0..span.tokens).step_by(each) {
        let tokens = each.min(span.tokens - position);
        let rows = tokens * group;
        // Where a row's head is in `[tokens, n_heads, head_dim]`.
        let at = |row: usize| ((span.row + position + row / group) * n_heads + kv_head * group + row % group) * dim;
        for row in 0..rows {
            let (tile, all) = (row * dim..(row + 1) * dim, at(row)..at(row) + dim);
            q[tile.clone()].iter_mut().zip(&job.q[all.clone()]).for_each(|(to, q)| *to = q * options.scale);
            dout[tile].copy_from_slice(&job.dout[all.clone()]);
            let total = [f32::NEG_INFINITY, 0.0, dot(&job.dout[all.clone()], &job.out[all])];
            totals[row].0[..3].copy_from_slice(&total);
        }
        let (q, dout) = (plain(q, dim), plain(dout, dim));
        let all = options.seen(position, 0).start..position + tokens;
        let parts = || {
            let keys = all.clone().step_by(KEYS).map(|start| start..all.end.min(start + KEYS));
            keys.map(|keys| BackwardTile { options, group, position, tokens, keys })
        };
        for part in parts() {
            let k = from(job.k, part.keys.start);
            product([rows, part.keys.len(), dim], q, k.transposed(), false, KEYS, floats(weights));
            (table.softmax_part)(&part, weights, slopes, states);
            for row in (0..rows).filter(|&row| !part.seen(row).is_empty()) {
                (table.merge)(&mut totals[row..=row], &states[row..=row]);
            }
        }
        for part in parts() {
            let (start, seen) = (part.keys.start, part.keys.len());
            let (k, v) = (from(job.k, start), from(job.v, start));
            // The weights of a single chunk are still there.
            if all.len() > KEYS {
                product([rows, seen, dim], q, k.transposed(), false, KEYS, floats(weights));
                (table.softmax_part)(&part, weights, slopes, states);
            }
            product([rows, seen, dim], dout, v.transposed(), false, KEYS, floats(grads));
            (table.score_gradients)(&part, weights, grads, slopes, states, totals);
            let [weights, grads] = [&*weights, grads].map(|lines| plain(bytemuck::cast_slice(lines), KEYS));
            product([seen, dim, rows], weights.transposed(), dout, true, dim, &mut dv[start * dim..]);
            product([seen, dim, rows], grads.transposed(), q, true, dim, &mut dk[start * dim..]);
            product([rows, dim, seen], grads, k, start > all.start, dim, dq);
        }
        for row in 0..rows {
            // SAFETY: the row of a head inside `dq`, which is this task's alone.
            let to = unsafe { to.dq.slice(at(row), dim) };
            to.iter_mut().zip(&dq[row * dim..]).for_each(|(to, dq)| *to = dq * options.scale);
        }
    }
    for (all, to) in [(dk, &to.dk), (dv, &to.dv)] {
        for (i, row) in all.chunks_exact(dim).enumerate() {
            // SAFETY: the row of a head inside `dk` or `dv`, which is this task's alone.
            unsafe { to.row((span.row + i) * n_kv_heads + kv_head, dim) }.copy_from_slice(row);
        }
    }
}

fn plain(data: &[f32], row: usize) -> Strided<'_> {
    Strided { data, row, col: 1 }
}

fn floats(lines: &mut [CacheLine]) -> &mut [f32] {
    bytemuck::cast_slice_mut(lines)
}

/// Products added up in 16 lanes, and those in order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        lanes.iter_mut().zip(a.iter().zip(b)).for_each(|(lane, (a, b))| *lane += a * b);
    }
    lanes.iter().sum()
}
