//! Attention over the KV cache, by tiles or by chunks.

use super::disjoint::Disjoint;
use super::scratch::{grow, lock, reserve};
use super::tiling::{Plan, Tiling};
use super::{CpuExecutor, MIN_PARALLEL_WORK};
use crate::attention::forward::{Attention, normalize};
use crate::attention::hadamard::{rotate, rotate_back};
use crate::attention::options::AttentionOptions;
use crate::attention::tile::AttentionTile;
use crate::cache_line::CacheLine;
use crate::kv::{KvLayout, Span};

impl CpuExecutor {
    /// Writes the keys and values of some tokens, both `[tokens, n_kv_heads, head_dim]`, to one layer's cache.
    pub fn store(
        &mut self,
        k: &[f32],
        v: &[f32],
        layout: KvLayout,
        spans: &[Span],
        blocks: &[u32],
        cache: &mut [CacheLine],
    ) {
        let (dim, heads) = (layout.head_dim, layout.n_kv_heads);
        let tokens: usize = spans.iter().map(|span| span.tokens).sum();
        let cache: &mut [f32] = bytemuck::cast_slice_mut(cache);
        let encoded = layout.row_bytes(0).max(layout.row_bytes(1));
        let room = layout.dim() + encoded.div_ceil(size_of::<f32>());
        reserve(&mut self.scratch, |scratch| &mut scratch.floats, room, 0.0);
        // A task has all of a head, so that no block table, however wrong, makes two tasks write to one place.
        self.rows(cache, layout.head_bytes() / size_of::<f32>(), 16 * tokens * dim, &|head, bytes, scratch| {
            let (row, rest) = scratch.floats.split_at_mut(layout.dim());
            row[dim..].fill(0.0);
            let (encoded, bytes) = (&mut bytemuck::cast_slice_mut(rest)[..encoded], bytemuck::cast_slice_mut(bytes));
            for span in spans {
                let blocks = &blocks[span.table(&layout)];
                for token in 0..span.tokens {
                    let from = ((span.row + token) * heads + head) * dim;
                    for (which, x) in [k, v].into_iter().enumerate() {
                        row[..dim].copy_from_slice(&x[from..][..dim]);
                        if layout.is_rotated(which) {
                            rotate(&mut row[..dim]);
                        }
                        layout.store(bytes, which, blocks, span.cached + token, row, encoded);
                    }
                }
            }
        });
    }

    /// `softmax(q kᵀ scale) v` for each token and head, `[tokens, n_heads, head_dim]`, over the
    /// positions that the options let it see.
    ///
    /// # Panics
    /// When the shapes disagree, or a window is zero.
    pub fn attention(&mut self, job: &Attention, out: &mut [f32]) {
        let dim = job.layout.head_dim;
        assert!(job.q.len() == out.len() && job.n_heads.is_multiple_of(job.layout.n_kv_heads));
        assert!(job.options.window != Some(0), "a token sees itself");
        assert!(job.sinks.is_empty() || job.sinks.len() == job.n_heads);
        assert!(job.spans.windows(2).all(|pair| pair[0].row + pair[0].tokens <= pair[1].row));
        assert!(job.spans.last().is_none_or(|span| (span.row + span.tokens) * job.n_heads * dim <= out.len()));
        let mut tiling = std::mem::take(&mut self.tiling);
        let (plan, threads) = (Plan::new(job, &mut tiling), self.threads());
        reserve(&mut self.scratch, |scratch| &mut scratch.lines, plan.scratch_len(), CacheLine::ZERO);
        let out = Output { job, data: Disjoint::of(out) };
        if plan.is_by_tile(threads) {
            self.attend_by_tile(&plan, &out);
        } else {
            self.attend_by_chunk(&plan, &out);
        }
        self.tiling = tiling;
    }

    /// A tile per task: its chunks are computed and merged one after the other.
    fn attend_by_tile(&mut self, plan: &Plan, out: &Output) {
        let (table, scratch) = (self.table, &self.scratch);
        let (rows, len) = (plan.rows, plan.state_len);
        let body = |task: usize, thread: usize| {
            let (tile, scratch) = (plan.tile(task), &mut lock(&scratch[thread]).lines);
            let (states, scratch) = scratch.split_at_mut(2 * rows * len);
            let (states, next) = states.split_at_mut(rows * len);
            for (part, chunks) in tile.parts() {
                let first = (part.first - tile.first) * plan.group * len;
                let (states, next) = (&mut states[first..][..part.rows() * len], &mut next[..part.rows() * len]);
                for chunk in chunks {
                    (table.attend_chunk)(&part, chunk, scratch, next);
                    for (row, (state, next)) in states.chunks_exact_mut(len).zip(next.chunks_exact(len)).enumerate() {
                        match part.chunks_of(row) {
                            seen if seen.start == chunk => state.copy_from_slice(next),
                            seen if seen.contains(&chunk) => (table.merge)(state, next),
                            _ => {}
                        }
                    }
                }
            }
            let states = &states[..tile.rows() * len];
            states.chunks_exact(len).enumerate().for_each(|(row, state)| out.write(&tile, row, state));
        };
        if plan.work < MIN_PARALLEL_WORK {
            (0..plan.tasks()).for_each(|task| body(task, 0))
        } else {
            self.pool.run(plan.tasks(), &body)
        }
    }

    /// For few tiles of many chunks: runs of chunks are tasks, whose states are merged afterwards.
    fn attend_by_chunk(&mut self, plan: &Plan, out: &Output) {
        let (table, scratch, threads) = (self.table, &self.scratch, self.pool.threads());
        let (len, tasks) = (plan.state_len, plan.tasks());
        grow(&mut self.states, plan.states_len(), CacheLine::ZERO);
        let states = Disjoint::of(&mut self.states);
        let runs = (8 * threads).div_ceil(tasks).min(plan.chunks);
        self.pool.run(tasks * runs, &|task, thread| {
            let (run, task) = (task % runs, task / runs);
            let (tile, scratch) = (plan.tile(task), &mut lock(&scratch[thread]).lines);
            let chunks = || tile.parts().flat_map(|(part, chunks)| chunks.map(move |chunk| (part.clone(), chunk)));
            let all = chunks().count();
            let range = run * all / runs..(run + 1) * all / runs;
            for (part, chunk) in chunks().take(range.end).skip(range.start) {
                // SAFETY: inside the states, and this task's alone.
                let states = unsafe { states.slice(plan.first_state(&part, chunk), part.rows() * len) };
                (table.attend_chunk)(&part, chunk, scratch, states);
            }
        });
        let group = plan.group;
        self.pool.run(plan.tokens() * group, &|task, _| {
            let (row, token) = (task % group, plan.token(task / group));
            // SAFETY: the states of one row, which no other task of this loop touches.
            let state = |chunk| unsafe { states.slice(plan.first_state(&token, chunk) + row * len, len) };
            let mut seen = token.chunks_of(row);
            let sum = state(seen.next().expect("a token sees itself"));
            seen.for_each(|chunk| (table.merge)(sum, state(chunk)));
            out.write(&token, row, sum);
        });
    }
}

/// Bytes that attention over these spans takes beside its output: the scratch of all threads, and the states that they share.
pub fn attention_bytes(
    layout: KvLayout,
    n_heads: usize,
    options: AttentionOptions,
    spans: &[Span],
    blocks: &[u32],
    threads: usize,
) -> usize {
    let job = Attention { q: &[], n_heads, layout, cache: &[], options, sinks: &[], spans, blocks };
    let mut tiling = Tiling::default();
    let plan = Plan::new(&job, &mut tiling);
    let states = if plan.is_by_tile(threads) { 0 } else { plan.states_len() };
    (threads * plan.scratch_len() + states) * size_of::<CacheLine>()
}

/// Where attention writes, `[tokens, n_heads, head_dim]`.
struct Output<'a> {
    job: &'a Attention<'a>,
    data: Disjoint<f32>,
}

impl Output<'_> {
    /// Writes a row of a tile from its final state.
    fn write(&self, tile: &AttentionTile, row: usize, state: &[CacheLine]) {
        let (head, dim) = (tile.head(row), self.job.layout.head_dim);
        let sink = self.job.sinks.get(head % self.job.n_heads).copied();
        // SAFETY: the row of a tile is inside the output, and no other tile has it.
        let row = unsafe { self.data.row(head, dim) };
        normalize(state, sink, row);
        if self.job.layout.is_rotated(1) {
            rotate_back(row);
        }
    }
}
