//! Attention over the KV cache: how a batch is cut into tiles and chunks.

use super::disjoint::Disjoint;
use super::scratch::{grow, lock};
use super::{CpuExecutor, MIN_PARALLEL_WORK};
use crate::attention::forward::{Attention, AttentionTile, CHUNK, ROWS, normalize, scratch_len, state_len};
use crate::attention::hadamard::{rotate, rotate_back};
use crate::attention::options::AttentionOptions;
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
        // A task has all of a head, so that no block table, however wrong, makes two tasks write to one place.
        self.rows(cache, layout.head_bytes() / size_of::<f32>(), 16 * tokens * dim, &|head, bytes, scratch| {
            let encoded = layout.row_bytes(0).max(layout.row_bytes(1));
            let floats = &mut scratch.floats;
            grow(floats, layout.dim() + encoded.div_ceil(size_of::<f32>()), 0.0);
            let (row, rest) = floats.split_at_mut(layout.dim());
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
        let (plan, threads) = (Plan::new(job), self.threads());
        let out = Output { job, data: Disjoint::of(out) };
        if plan.is_by_tile(threads) {
            self.attend_by_tile(&plan, &out);
        } else {
            self.attend_by_chunk(&plan, &out);
        }
    }

    /// A tile per task: its chunks are computed and merged one after the other.
    fn attend_by_tile(&mut self, plan: &Plan, out: &Output) {
        let (table, scratch) = (self.table, &self.scratch);
        let (rows, len) = (plan.rows, plan.state_len);
        let body = |task: usize, thread: usize| {
            let (tile, scratch) = (plan.tile(task), &mut lock(&scratch[thread]).lines);
            grow(scratch, plan.scratch_len(), CacheLine::ZERO);
            let (states, scratch) = scratch.split_at_mut(2 * rows * len);
            let (states, next) = states.split_at_mut(rows * len);
            let (states, next) = (&mut states[..tile.rows() * len], &mut next[..tile.rows() * len]);
            let mut chunks = tile.chunks();
            (table.attend_chunk)(&tile, chunks.next().expect("a tile sees itself"), scratch, states);
            for chunk in chunks {
                (table.attend_chunk)(&tile, chunk, scratch, next);
                for (row, (state, next)) in states.chunks_exact_mut(len).zip(next.chunks_exact(len)).enumerate() {
                    match tile.chunks_of(row) {
                        seen if seen.start == chunk => state.copy_from_slice(next),
                        seen if seen.contains(&chunk) => (table.merge)(state, next),
                        _ => {}
                    }
                }
            }
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
        let (rows, len, chunks, tasks) = (plan.rows, plan.state_len, plan.chunks, plan.tasks());
        grow(&mut self.states, tasks * chunks * rows * len, CacheLine::ZERO);
        let states = Disjoint::of(&mut self.states);
        // Chunks are counted from the first that the tile sees.
        let first_state = |task: usize, chunk: usize| (task * chunks + chunk) * rows * len;
        let runs = (8 * threads).div_ceil(tasks).min(chunks);
        self.pool.run(tasks * runs, &|task, thread| {
            let (run, task) = (task % runs, task / runs);
            let (tile, scratch) = (plan.tile(task), &mut lock(&scratch[thread]).lines);
            grow(scratch, plan.scratch_len(), CacheLine::ZERO);
            let seen = tile.chunks();
            for chunk in run * chunks / runs..((run + 1) * chunks / runs).min(seen.len()) {
                // SAFETY: inside the states, and this task's alone.
                let states = unsafe { states.slice(first_state(task, chunk), tile.rows() * len) };
                (table.attend_chunk)(&tile, seen.start + chunk, scratch, states);
            }
        });
        self.pool.run(tasks * rows, &|task, _| {
            let (row, task) = (task % rows, task / rows);
            let tile = plan.tile(task);
            if row < tile.rows() {
                // SAFETY: the states of one row, which no other task of this loop touches.
                let state = |chunk| unsafe { states.slice(first_state(task, chunk) + row * len, len) };
                let (first, seen) = (tile.chunks().start, tile.chunks_of(row));
                let sum = state(seen.start - first);
                (seen.start + 1..seen.end).for_each(|chunk| (table.merge)(sum, state(chunk - first)));
                out.write(&tile, row, sum);
            }
        });
    }
}

/// Bytes that attention over these spans takes beside its output: the scratch of all threads, and the states that they share.
pub fn attention_bytes(
    layout: KvLayout,
    n_heads: usize,
    options: AttentionOptions,
    spans: &[Span],
    threads: usize,
) -> usize {
    let job = Attention { q: &[], n_heads, layout, cache: &[], options, sinks: &[], spans, blocks: &[] };
    let plan = Plan::new(&job);
    let states = if plan.is_by_tile(threads) { 0 } else { plan.tasks() * plan.chunks * plan.rows * plan.state_len };
    (threads * plan.scratch_len() + states) * size_of::<CacheLine>()
}

/// How the attention of a batch is cut into tiles: a task is a tile of one KV head.
struct Plan<'a> {
    job: &'a Attention<'a>,
    /// Tokens per tile, at most.
    tokens: usize,
    /// Query rows per tile, at most.
    rows: usize,
    /// Tiles of one KV head.
    tiles: usize,
    /// Chunks of a tile, at most: all, or those that its windows touch.
    chunks: usize,
    state_len: usize,
    /// Multiplications in total, about.
    work: usize,
}

impl<'a> Plan<'a> {
    fn new(job: &'a Attention<'a>) -> Plan<'a> {
        let (layout, spans) = (&job.layout, job.spans);
        let group = job.n_heads / layout.n_kv_heads;
        let tokens = (ROWS / group).max(1);
        let window = job.options.window.unwrap_or(usize::MAX);
        let window = if job.options.causal { window } else { window.saturating_mul(2) };
        let seen = |span: &Span| span.tokens * (span.cached + span.tokens).min(window);
        let chunks = spans.iter().map(|span| (span.cached + span.tokens).div_ceil(CHUNK)).max().unwrap_or(0);
        Plan {
            job,
            tokens,
            rows: tokens * group,
            tiles: spans.iter().map(|span| span.tokens.div_ceil(tokens)).sum(),
            chunks: chunks.min(window.saturating_add(tokens).div_ceil(CHUNK) + 1),
            state_len: state_len(layout),
            work: 2 * layout.head_dim * job.n_heads * spans.iter().map(seen).sum::<usize>(),
        }
    }

    /// Whether a tile is a task, or else a run of its chunks.
    fn is_by_tile(&self, threads: usize) -> bool {
        self.work < MIN_PARALLEL_WORK || threads == 1 || self.chunks <= 1 || self.tasks() >= 4 * threads
    }

    fn tasks(&self) -> usize {
        self.tiles * self.job.layout.n_kv_heads
    }

    /// Lines of scratch per thread: that of the kernel, and two states per row.
    fn scratch_len(&self) -> usize {
        scratch_len(&self.job.layout, self.rows) + 2 * self.rows * self.state_len
    }

    fn tile(&self, task: usize) -> AttentionTile<'a> {
        let (job, layout) = (self.job, &self.job.layout);
        let kv_head = task % layout.n_kv_heads;
        // The last tile first: it sees the most, and what is left at the end should be short.
        let mut left = self.tiles - 1 - task / layout.n_kv_heads;
        let mut spans = job.spans.iter();
        let span = loop {
            let span = spans.next().expect("a tile is in a span");
            match left.checked_sub(span.tokens.div_ceil(self.tokens)) {
                Some(rest) => left = rest,
                None => break span,
            }
        };
        let (first, lines) = (left * self.tokens, layout.head_bytes() / size_of::<CacheLine>());
        AttentionTile {
            job,
            blocks: &job.blocks[span.table(layout)],
            cache: &job.cache[kv_head * lines..][..lines],
            kv_head,
            token: span.row + first,
            tokens: self.tokens.min(span.tokens - first),
            len: span.cached + first + 1,
            total: span.cached + span.tokens,
        }
    }
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
