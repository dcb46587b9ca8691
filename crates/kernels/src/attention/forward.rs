//! Attention of query rows over cached keys and values, in tiles.
//!
//! The canonical order, which depends on nothing but a token's position:
//! - a score is one chain of fused multiply-adds over the numbers of a head, then the scale and the soft cap; 16 positions are the lanes of a vector;
//! - positions form chunks of [`CHUNK`], counted from the first of the sequence. Within one: the largest score, the weights
//!   `e^(score - largest)`, their sum in 16 lanes added in the tree, and for each number of a head one chain over the positions;
//! - a position outside the window has no part in any of it, and a chunk without positions inside it none in the next step;
//! - chunks are folded into one another in order, first to last (the online softmax of arXiv:1805.02867).

use super::{Attend, Room, softcap, softmax};
use crate::elementwise::exp16;
use crate::kv::{KvLayout, Line, Span};
use crate::machine::{Machine, Slots, WORTH};
use crate::simd::{LANES, Simd, scalar::Scalar};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Positions that are weighed before their sums are scaled.
const CHUNK: usize = 256;
/// Vectors of a chunk's positions.
const STRIPS: usize = CHUNK / LANES;
/// Query rows that a tile aims at: all heads of a group for some tokens.
const ROWS: usize = 64;
/// Strips of keys whose scores are computed together.
const PAIR: usize = 2;

/// What to attend with, and to.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Queries, `[tokens, heads, head_dim]`.
    pub q: &'a [f32],
    /// Query heads, a multiple of the layout's heads.
    pub heads: usize,
    /// What `cache` is.
    pub layout: KvLayout,
    /// One layer.
    pub cache: &'a [Line],
    /// How scores become weights.
    pub attend: Attend,
    /// A score of each query head that takes part in the sum of weights and has no value; empty where there is none.
    pub sinks: &'a [f32],
    /// Which rows belong to which sequence. Keys and values of the rows are in the cache already.
    pub spans: &'a [Span],
    /// Cache blocks of all spans.
    pub blocks: &'a [u32],
}

/// Consecutive tokens of a sequence, and the query heads of one KV head.
pub(crate) struct Tile<'a> {
    job: &'a Attention<'a>,
    blocks: &'a [u32],
    /// The cache of its KV head.
    cache: &'a [Line],
    kv_head: usize,
    /// The first token.
    token: usize,
    tokens: usize,
    /// Positions up to and with its own.
    len: usize,
    /// Positions of the whole sequence so far.
    total: usize,
}

impl<'a> Tile<'a> {
    fn group(&self) -> usize {
        self.job.heads / self.job.layout.n_kv_heads
    }

    fn rows(&self) -> usize {
        self.tokens * self.group()
    }

    /// Chunks of which any row sees something.
    fn chunks(&self) -> Range<usize> {
        self.chunks_of(0).start..self.chunks_of(self.rows() - 1).end
    }

    /// Chunks of which a row sees something.
    fn chunks_of(&self, row: usize) -> Range<usize> {
        let seen = self.job.attend.seen(self.len + row / self.group() - 1, self.total);
        seen.start / CHUNK..seen.end.div_ceil(CHUNK)
    }

    /// Where a row's head is in `[tokens, heads]`.
    #[inline(always)]
    fn head(&self, row: usize) -> usize {
        (self.token + row / self.group()) * self.job.heads + self.kv_head * self.group() + row % self.group()
    }

    #[inline(always)]
    fn query(&self, row: usize) -> &'a [f32] {
        &self.job.q[self.head(row) * self.job.layout.head_dim..][..self.job.layout.head_dim]
    }

    /// The positions of a chunk that a row sees, counted from the chunk's first.
    #[inline(always)]
    fn seen(&self, row: usize, chunk: usize) -> Range<usize> {
        let seen = self.job.attend.seen(self.len + row / self.group() - 1, self.total);
        let inside = |position: usize| position.saturating_sub(chunk * CHUNK).min(CHUNK);
        inside(seen.start)..inside(seen.end)
    }
}

/// Lines of the state of a row: weighted values, then a line with the largest score and the sum of weights.
fn record(layout: &KvLayout) -> usize {
    layout.dim() / LANES + 1
}

/// Lines that [`attend`] needs: queries, scores, two strips of keys, a chunk of values.
fn room(layout: &KvLayout, rows: usize) -> usize {
    rows * (layout.dim() / LANES + STRIPS) + (PAIR + STRIPS) * layout.dim()
}

/// The states of a tile's rows over one chunk, `[rows, record]`. Rows that see nothing of it get no sensible state.
#[inline(always)]
pub(crate) fn attend<S: Simd>(simd: S, tile: &Tile, chunk: usize, scratch: &mut [Line], states: &mut [Line]) {
    let (layout, rows) = (&tile.job.layout, tile.rows());
    let (dim, record) = (layout.dim(), record(layout));
    let strips = tile.seen(0, chunk).start / LANES..tile.seen(rows - 1, chunk).end.div_ceil(LANES);
    let position = |strip: usize| chunk * CHUNK + strip * LANES;
    let width = dim / LANES;
    let (queries, rest) = scratch.split_at_mut(rows * width);
    for (row, query) in queries.chunks_exact_mut(width).enumerate() {
        bytemuck::cast_slice_mut(query)[..layout.head_dim].copy_from_slice(tile.query(row));
    }
    let queries = &*queries;
    let (scores, rest) = rest.split_at_mut(rows * STRIPS);
    let (keys_room, values_room) = rest.split_at_mut(PAIR * dim);

    // Only the first rows ask for the next chunk: the others find what they asked for.
    let ahead = |row: usize, which: usize, strip: usize| -> &[u8] {
        let next = (chunk + 1) * CHUNK + strip * LANES;
        let there = row == 0 && next < tile.len + tile.tokens - 1;
        if there { layout.bytes_of(tile.cache, which, tile.blocks, next) } else { &[] }
    };

    for first in strips.clone().step_by(PAIR) {
        let both = first + 1 < strips.end;
        let mut keys: [&[Line]; PAIR] = [&[]; PAIR];
        for (i, room) in keys_room.chunks_exact_mut(dim).enumerate().take(strips.end - first) {
            keys[i] = layout.load(simd, tile.cache, 0, tile.blocks, position(first + i), room);
        }
        let mut row = 0;
        while row < rows {
            let four = row + 4 <= rows;
            let next = if four { row + 4 } else { row + 1 };
            let mut out = Scores { queries, scores, row, strip: first };
            let (a, b) = ((keys[0], ahead(row, 0, first)), (keys[1], ahead(row, 0, first + 1)));
            match (four, both) {
                _ if tile.seen(next - 1, chunk).end <= first * LANES => {}
                _ if tile.seen(row, chunk).start >= (first + PAIR) * LANES => {}
                (true, true) if S::WIDE => score::<S, 4, 2>(simd, tile, [a, b], &mut out),
                (true, true) => {
                    score::<S, 4, 1>(simd, tile, [a], &mut out);
                    out.strip += 1;
                    score::<S, 4, 1>(simd, tile, [b], &mut out);
                }
                (true, false) => score::<S, 4, 1>(simd, tile, [a], &mut out),
                (false, true) => score::<S, 1, 2>(simd, tile, [a, b], &mut out),
                (false, false) => score::<S, 1, 1>(simd, tile, [a], &mut out),
            }
            row = next;
        }
    }

    for (row, (scores, state)) in scores.chunks_exact_mut(STRIPS).zip(states.chunks_exact_mut(record)).enumerate() {
        state.fill(Line::ZERO);
        let seen = tile.seen(row, chunk);
        if !seen.is_empty() {
            if let Some(cap) = tile.job.attend.softcap {
                softcap(simd, &mut scores[seen.start / LANES..seen.end.div_ceil(LANES)], cap);
            }
            [state[record - 1].0[0], state[record - 1].0[1]] = softmax(simd, scores, seen);
        }
    }

    let mut values: [(&[Line], &[u8]); STRIPS] = [(&[], &[]); STRIPS];
    for (strip, room) in values_room.chunks_exact_mut(dim).enumerate().take(strips.end).skip(strips.start) {
        values[strip].0 = layout.load(simd, tile.cache, 1, tile.blocks, position(strip), room);
    }
    let mut row = 0;
    while row < rows {
        let next = if row + 4 <= rows { row + 4 } else { row + 1 };
        let (scores, states) = (&scores[row * STRIPS..next * STRIPS], &mut states[row * record..next * record]);
        for strip in 0..STRIPS {
            values[strip].1 = ahead(row, 1, strip);
        }
        if next == row + 4 {
            // Those of earlier tokens begin alone, and those of later ones go on alone.
            let start = tile.seen(row + 3, chunk).start;
            let end = tile.seen(row, chunk).end.max(start);
            for (i, (scores, state)) in scores.chunks_exact(STRIPS).zip(states.chunks_exact_mut(record)).enumerate() {
                let seen = tile.seen(row + i, chunk);
                weigh::<S, 1>(simd, scores, &values, seen.start..seen.end.min(start), state);
            }
            weigh::<S, 4>(simd, scores, &values, start..end, states);
            for (i, (scores, state)) in scores.chunks_exact(STRIPS).zip(states.chunks_exact_mut(record)).enumerate() {
                let seen = tile.seen(row + i, chunk);
                weigh::<S, 1>(simd, scores, &values, seen.start.max(end)..seen.end, state);
            }
        } else {
            weigh::<S, 1>(simd, scores, &values, tile.seen(row, chunk), states);
        }
        row = next;
    }
}

/// Which scores are computed, and where they go.
struct Scores<'a> {
    /// `[rows, dim / 16]`.
    queries: &'a [Line],
    /// `[rows, STRIPS]`.
    scores: &'a mut [Line],
    row: usize,
    strip: usize,
}

/// Asks for step `i` of `steps` steps through some bytes.
#[inline(always)]
fn ask<S: Simd>(simd: S, bytes: &[u8], i: usize, steps: usize) {
    const LINE: usize = size_of::<Line>();
    if bytes.is_empty() {
        return;
    }
    let step = bytes.len().div_ceil(LINE * steps) * LINE;
    for line in bytes.get(i * step..).unwrap_or(&[]).chunks(LINE).take(step / LINE) {
        simd.prefetch_second(line.as_ptr());
    }
}

/// Scores of `R` rows with `P` strips of keys, each `[dim]` lines, beside bytes to be asked for meanwhile.
#[inline(always)]
fn score<S: Simd, const R: usize, const P: usize>(simd: S, tile: &Tile, keys: [(&[Line], &[u8]); P], out: &mut Scores) {
    let (dim, width) = (tile.job.layout.head_dim, tile.job.layout.dim() / LANES);
    let mut queries: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        queries[r] = &bytemuck::cast_slice(&out.queries[(out.row + r) * width..][..width])[..dim];
    }
    let mut strips: [&[Line]; P] = [&[]; P];
    for p in 0..P {
        strips[p] = &keys[p].0[..dim];
    }
    let mut sums = [[simd.splat(0.0); P]; R];
    for d in 0..dim {
        for p in 0..P {
            ask(simd, keys[p].1, d, dim);
        }
        let mut k = [simd.splat(0.0); P];
        for p in 0..P {
            k[p] = simd.load(&strips[p][d].0);
        }
        for r in 0..R {
            let q = simd.splat(queries[r][d]);
            for p in 0..P {
                sums[r][p] = simd.fma(q, k[p], sums[r][p]);
            }
        }
    }
    let scale = simd.splat(tile.job.attend.scale);
    for r in 0..R {
        for p in 0..P {
            let to = &mut out.scores[(out.row + r) * STRIPS + out.strip + p];
            simd.store(simd.mul(sums[r][p], scale), &mut to.0);
        }
    }
}

/// Adds the values of some positions of a chunk, times their weights, to the states of `R` rows; and asks for the bytes beside them.
#[inline(always)]
fn weigh<S: Simd, const R: usize>(
    simd: S,
    weights: &[Line],
    values: &[(&[Line], &[u8]); STRIPS],
    positions: Range<usize>,
    states: &mut [Line],
) {
    if positions.is_empty() {
        return;
    }
    let width = states.len() / R - 1;
    let mut at = 0;
    while at < width {
        if at + 4 <= width && (S::WIDE || R == 1) {
            weigh_some::<S, R, 4>(simd, weights, values, positions.clone(), states, at);
            at += 4;
        } else {
            weigh_some::<S, R, 1>(simd, weights, values, positions.clone(), states, at);
            at += 1;
        }
    }
}

/// [`weigh`] for `D` lines of the values, from `at` on.
#[inline(always)]
fn weigh_some<S: Simd, const R: usize, const D: usize>(
    simd: S,
    weights: &[Line],
    values: &[(&[Line], &[u8]); STRIPS],
    positions: Range<usize>,
    states: &mut [Line],
    at: usize,
) {
    let (record, mut position) = (states.len() / R, positions.start);
    let mut sums = [[simd.splat(0.0); D]; R];
    for r in 0..R {
        for d in 0..D {
            sums[r][d] = simd.load(&states[r * record + at + d].0);
        }
    }
    while position < positions.end {
        let strip = position / LANES;
        let end = positions.end.min((strip + 1) * LANES);
        let mut lines = [&[0.0; LANES]; R];
        for r in 0..R {
            lines[r] = &weights[r * STRIPS + strip].0;
        }
        let (values, ahead) = values[strip];
        let rows = values.chunks_exact(record - 1).skip(position % LANES);
        for (lane, row) in (position % LANES..LANES.min(end - strip * LANES)).zip(rows) {
            ask(simd, ahead, (at / D) * LANES + lane, (record - 1) / D * LANES);
            let row = &row[at..][..D];
            let mut v = [simd.splat(0.0); D];
            for d in 0..D {
                v[d] = simd.load(&row[d].0);
            }
            for r in 0..R {
                let weight = simd.splat(lines[r][lane]);
                for d in 0..D {
                    sums[r][d] = simd.fma(weight, v[d], sums[r][d]);
                }
            }
        }
        position = end;
    }
    for r in 0..R {
        for d in 0..D {
            simd.store(sums[r][d], &mut states[r * record + at + d].0);
        }
    }
}

/// Brings the state of the next chunk into `state`.
#[inline(always)]
pub(crate) fn fold<S: Simd>(simd: S, state: &mut [Line], next: &[Line]) {
    let last = state.len() - 1;
    let ([most, sum], [other, more]) = ([state[last].0[0], state[last].0[1]], [next[last].0[0], next[last].0[1]]);
    let largest = most.max(other);
    let (a, b) = (exp16(simd, simd.splat(most - largest)), exp16(simd, simd.splat(other - largest)));
    for (state, next) in state[..last].iter_mut().zip(next) {
        let scaled = simd.mul(simd.load(&state.0), a);
        simd.store(simd.fma(simd.load(&next.0), b, scaled), &mut state.0);
    }
    let mut sums = [0.0; LANES];
    simd.store(simd.fma(simd.splat(more), b, simd.mul(simd.splat(sum), a)), &mut sums);
    (state[last].0[0], state[last].0[1]) = (largest, sums[0]);
}

/// Weighted values over the sum of weights, and that of the sink (arXiv:2309.17453).
fn finish(state: &[Line], sink: Option<f32>, out: &mut [f32]) {
    let [largest, sum, ..] = state[state.len() - 1].0;
    let mut inverse = 1.0 / sum;
    if let Some(sink) = sink {
        // The scalar table's exponential: the bits of all.
        let simd = Scalar(());
        let power = |x: f32| exp16(simd, simd.splat(x - largest.max(sink)))[0];
        inverse = power(largest) / power(largest).mul_add(sum, power(sink));
    }
    for (out, value) in out.iter_mut().zip(bytemuck::cast_slice::<Line, f32>(state)) {
        *out = value * inverse;
    }
}

/// What attention keeps between calls.
#[derive(Default)]
pub(crate) struct Scratch {
    /// For each thread.
    threads: Vec<Mutex<Vec<Line>>>,
    /// States of all chunks, when several threads share a tile.
    states: Vec<Line>,
    /// For each thread that goes back.
    pub(super) back: Vec<Mutex<Room>>,
}

fn grow(lines: &mut Vec<Line>, len: usize) {
    if lines.len() < len {
        lines.resize(len, Line::ZERO);
    }
}

impl Machine {
    /// Writes keys and values of some tokens, both `[tokens, heads, head_dim]`, to the cache of one layer.
    pub fn store(
        &mut self,
        k: &[f32],
        v: &[f32],
        layout: KvLayout,
        spans: &[Span],
        blocks: &[u32],
        cache: &mut [Line],
    ) {
        let (dim, heads) = (layout.head_dim, layout.n_kv_heads);
        let tokens: usize = spans.iter().map(|span| span.tokens).sum();
        let cache: &mut [f32] = bytemuck::cast_slice_mut(cache);
        // A task has all of a head, so that no blocks, however wrong, make two tasks write to one place.
        self.rows(cache, layout.head_bytes() / size_of::<f32>(), 16 * tokens * dim, &|head, bytes, scratch| {
            let encoded = layout.dim() / layout.format.block * layout.format.bytes;
            let floats = &mut scratch.floats;
            floats.resize(floats.len().max(layout.dim() + encoded.div_ceil(size_of::<f32>())), 0.0);
            let (row, room) = floats.split_at_mut(layout.dim());
            row[dim..].fill(0.0);
            let (room, bytes) = (&mut bytemuck::cast_slice_mut(room)[..encoded], bytemuck::cast_slice_mut(bytes));
            for span in spans {
                let blocks = &blocks[span.blocks.clone()];
                for token in 0..span.tokens {
                    let from = ((span.row + token) * heads + head) * dim;
                    for (which, x) in [k, v].into_iter().enumerate() {
                        row[..dim].copy_from_slice(&x[from..][..dim]);
                        layout.store(bytes, which, blocks, span.cached + token, row, room);
                    }
                }
            }
        });
    }

    /// `softmax(q kᵀ scale) v` for each token and head, `[tokens, heads, head_dim]`, over the positions up to and with the token's own, or
    /// those of them in its window.
    ///
    /// # Panics
    /// When the shapes disagree, or a window is zero.
    pub fn attention(&mut self, job: &Attention, out: &mut [f32]) {
        let (layout, table, threads) = (&job.layout, self.table, self.threads());
        let (dim, group, record) = (layout.head_dim, job.heads / layout.n_kv_heads, record(layout));
        assert!(job.q.len() == out.len() && job.heads == group * layout.n_kv_heads);
        assert!(job.attend.window != Some(0), "a token sees itself");
        assert!(job.sinks.is_empty() || job.sinks.len() == job.heads);
        assert!(job.spans.windows(2).all(|pair| pair[0].row + pair[0].tokens <= pair[1].row));
        assert!(job.spans.last().is_none_or(|span| (span.row + span.tokens) * job.heads * dim <= out.len()));
        let each = (ROWS / group).max(1);
        let rows = each * group;
        let tiles: usize = job.spans.iter().map(|span| span.tokens.div_ceil(each)).sum();
        let tile = |index: usize| {
            let kv_head = index % layout.n_kv_heads;
            // The last first: they see the most, and what is left at the end should be short.
            let mut left = tiles - 1 - index / layout.n_kv_heads;
            let mut spans = job.spans.iter();
            let span = loop {
                let span = spans.next().expect("a tile is in a span");
                match left.checked_sub(span.tokens.div_ceil(each)) {
                    Some(rest) => left = rest,
                    None => break span,
                }
            };
            let (first, lines) = (left * each, layout.head_bytes() / size_of::<Line>());
            let tokens = each.min(span.tokens - first);
            let (token, len) = (span.row + first, span.cached + first + 1);
            let blocks = &job.blocks[span.blocks.clone()];
            let (cache, total) = (&job.cache[kv_head * lines..][..lines], span.cached + span.tokens);
            Tile { job, blocks, cache, kv_head, token, tokens, len, total }
        };
        let tasks = tiles * layout.n_kv_heads;
        let window = job.attend.window.unwrap_or(usize::MAX);
        let window = if job.attend.causal { window } else { window.saturating_mul(2) };
        let seen = |span: &Span| span.tokens * (span.cached + span.tokens).min(window);
        let work = 2 * dim * job.heads * job.spans.iter().map(seen).sum::<usize>();
        // Of one tile: all, or those that its windows touch.
        let chunks = job.spans.iter().map(|span| (span.cached + span.tokens).div_ceil(CHUNK)).max().unwrap_or(0);
        let chunks = chunks.min(window.saturating_add(each).div_ceil(CHUNK) + 1);
        let slots = Slots::of(out);
        let finish = |tile: &Tile, row: usize, state: &[Line]| {
            let sink = job.sinks.get(tile.head(row) % job.heads).copied();
            // SAFETY: the row of a tile is inside `out`, and no other tile has it.
            finish(state, sink, unsafe { std::slice::from_raw_parts_mut(slots.at(tile.head(row) * dim), dim) });
        };
        let Scratch { threads: scratch, states, .. } = &mut self.attention;
        scratch.resize_with(threads, Mutex::default);
        let scratch = |thread: usize| scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
        let need = room(layout, rows) + 2 * rows * record;

        if work < WORTH || threads == 1 || chunks <= 1 || tasks >= 4 * threads {
            let body = |task: usize, thread: usize| {
                let (tile, mut scratch) = (tile(task), scratch(thread));
                grow(&mut scratch, need);
                let (states, scratch) = scratch.split_at_mut(2 * rows * record);
                let (states, next) = states.split_at_mut(rows * record);
                let mut all = tile.chunks();
                (table.attend)(
                    &tile,
                    all.next().expect("a tile sees itself"),
                    scratch,
                    &mut states[..tile.rows() * record],
                );
                for chunk in all {
                    (table.attend)(&tile, chunk, scratch, &mut next[..tile.rows() * record]);
                    let rows = states.chunks_exact_mut(record).zip(next.chunks_exact(record)).take(tile.rows());
                    for (row, (state, next)) in rows.enumerate() {
                        match tile.chunks_of(row) {
                            seen if seen.start == chunk => state.copy_from_slice(next),
                            seen if seen.contains(&chunk) => (table.fold)(state, next),
                            _ => {}
                        }
                    }
                }
                (0..tile.rows()).for_each(|row| finish(&tile, row, &states[row * record..][..record]));
            };
            if work < WORTH {
                (0..tasks).for_each(|task| body(task, 0))
            } else {
                self.pool.run(tasks, &body)
            }
            return;
        }
        // Few tiles of many chunks: runs of chunks are tasks, and the states of all chunks wait for one another.
        grow(states, tasks * chunks * rows * record);
        let states = Slots::of(states);
        // Chunks are counted from the first that the tile sees.
        let states = |task: usize, chunk: usize| states.at((task * chunks + chunk) * rows * record);
        let runs = (8 * threads).div_ceil(tasks).min(chunks);
        self.pool.run(tasks * runs, &|task, thread| {
            let (run, task) = (task % runs, task / runs);
            let (tile, mut scratch) = (tile(task), scratch(thread));
            grow(&mut scratch, need);
            let seen = tile.chunks();
            for chunk in run * chunks / runs..((run + 1) * chunks / runs).min(seen.len()) {
                // SAFETY: inside the states, and this task's alone.
                let states = unsafe { std::slice::from_raw_parts_mut(states(task, chunk), tile.rows() * record) };
                (table.attend)(&tile, seen.start + chunk, &mut scratch, states);
            }
        });
        self.pool.run(tasks * rows, &|task, _| {
            let (row, task) = (task % rows, task / rows);
            let tile = tile(task);
            if row < tile.rows() {
                // SAFETY: the states of one row, which no other task of this loop touches.
                let state = |chunk| unsafe {
                    std::slice::from_raw_parts_mut(states(task, chunk).wrapping_add(row * record), record)
                };
                let (first, seen) = (tile.chunks().start, tile.chunks_of(row));
                let sum = state(seen.start - first);
                (seen.start + 1..seen.end).for_each(|chunk| (table.fold)(sum, state(chunk - first)));
                finish(&tile, row, sum);
            }
        });
    }
}
