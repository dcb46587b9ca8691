//! Attention of query rows over cached keys and values, in tiles.
//!
//! The canonical order, which depends on nothing but a token's position:
//! - a score is one chain of fused multiply-adds over the numbers of a head, then the scale and the soft cap; 16 positions are the lanes of a vector;
//! - positions form chunks of [`CHUNK`], counted from the first of the sequence. Within one: the largest score, the weights
//!   `e^(score - largest)`, their sum in 16 lanes added in the tree, and for each number of a head one chain over the positions;
//! - a position outside the window has no part in any of it, and a chunk without positions inside it none in the next step;
//! - chunks are merged in order, first to last (the online softmax of arXiv:1805.02867).

use super::hadamard::rotate_back;
use super::options::AttentionOptions;
use super::softmax::{softcap, softmax};
use super::tile::AttentionTile;
use crate::cache_line::CacheLine;
use crate::kv::{KvLayout, Span};
use crate::math::exp;
use crate::simd::scalar::Scalar;
use crate::simd::{LANES, Simd, SimdF32};
use std::ops::Range;

/// Positions whose weights share one maximum.
pub(crate) const CHUNK: usize = 256;
/// Vectors of a chunk's positions.
const STRIPS: usize = CHUNK / LANES;
/// Strips of keys whose scores are computed together.
const PAIR: usize = 2;

/// The inputs of attention over one layer's cache.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    /// Queries, `[tokens, n_heads, head_dim]`.
    pub q: &'a [f32],
    /// Query heads, a multiple of the layout's `n_kv_heads`.
    pub n_heads: usize,
    /// The layout of `cache`.
    pub layout: KvLayout,
    pub cache: &'a [CacheLine],
    pub options: AttentionOptions,
    /// Attention sinks (arXiv:2309.17453): a score for each query head that takes part in the sum of
    /// weights and has no value; or empty.
    pub sinks: &'a [f32],
    /// The rows of each sequence, whose keys and values are in the cache already.
    pub spans: &'a [Span],
    /// The block tables of all spans.
    pub blocks: &'a [u32],
}

/// Lines of the state of a row: weighted values, then a line with the largest score and the sum of weights.
pub(crate) fn state_len(layout: &KvLayout) -> usize {
    layout.dim() / LANES + 1
}

/// Lines of scratch that [`attend_chunk`] needs: queries, scores, two strips of keys, a chunk of values.
pub(crate) fn scratch_len(layout: &KvLayout, rows: usize) -> usize {
    rows * (layout.dim() / LANES + STRIPS) + (PAIR + STRIPS) * layout.dim()
}

/// Computes the states of a tile's rows over one chunk of a [part](AttentionTile::parts), `[rows, state_len]`. The state
/// of a row that sees none of it is unspecified.
#[inline(always)]
pub(crate) fn attend_chunk<S: Simd>(
    simd: S,
    tile: &AttentionTile,
    chunk: usize,
    scratch: &mut [CacheLine],
    states: &mut [CacheLine],
) {
    let (layout, blocks, rows) = (&tile.job.layout, tile.blocks(), tile.rows());
    let (dim, state_len) = (layout.dim(), state_len(layout));
    let strips = tile.seen(0, chunk).start / LANES..tile.seen(rows - 1, chunk).end.div_ceil(LANES);
    let position = |strip: usize| chunk * CHUNK + strip * LANES;
    let width = dim / LANES;
    let (queries, rest) = scratch.split_at_mut(rows * width);
    for (row, query) in queries.chunks_exact_mut(width).enumerate() {
        let query = &mut bytemuck::cast_slice_mut(query)[..layout.head_dim];
        query.copy_from_slice(tile.query(row));
        if layout.is_rotated(0) {
            rotate_back(query);
        }
    }
    let queries = &*queries;
    let (scores, rest) = rest.split_at_mut(rows * STRIPS);
    let (key_scratch, value_scratch) = rest.split_at_mut(PAIR * dim);

    // Only the first rows prefetch the next chunk, for all.
    let ahead = |row: usize, which: usize, strip: usize| -> &[u8] {
        let next = (chunk + 1) * CHUNK + strip * LANES;
        let there = row == 0 && next < tile.tokens[0].seen.end;
        if there { layout.bytes_of(tile.cache, which, blocks, next) } else { &[] }
    };

    for first in strips.clone().step_by(PAIR) {
        let both = first + 1 < strips.end;
        let mut keys: [&[CacheLine]; PAIR] = [&[]; PAIR];
        for (i, scratch) in key_scratch.chunks_exact_mut(dim).enumerate().take(strips.end - first) {
            keys[i] = layout.load(simd, tile.cache, 0, blocks, position(first + i), scratch);
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

    for (row, (scores, state)) in scores.chunks_exact_mut(STRIPS).zip(states.chunks_exact_mut(state_len)).enumerate() {
        state.fill(CacheLine::ZERO);
        let seen = tile.seen(row, chunk);
        if !seen.is_empty() {
            if let Some(cap) = tile.job.options.softcap {
                softcap(simd, &mut scores[seen.start / LANES..seen.end.div_ceil(LANES)], cap);
            }
            [state[state_len - 1].0[0], state[state_len - 1].0[1]] = softmax(simd, scores, seen);
        }
    }

    let mut values: [(&[CacheLine], &[u8]); STRIPS] = [(&[], &[]); STRIPS];
    for (strip, scratch) in value_scratch.chunks_exact_mut(dim).enumerate().take(strips.end).skip(strips.start) {
        values[strip].0 = layout.load(simd, tile.cache, 1, blocks, position(strip), scratch);
    }
    let mut row = 0;
    while row < rows {
        let next = if row + 4 <= rows { row + 4 } else { row + 1 };
        let (scores, states) = (&scores[row * STRIPS..next * STRIPS], &mut states[row * state_len..next * state_len]);
        for strip in 0..STRIPS {
            values[strip].1 = ahead(row, 1, strip);
        }
        if next == row + 4 {
            // Positions that only some of the four rows see are accumulated row by row.
            let start = tile.seen(row + 3, chunk).start;
            let end = tile.seen(row, chunk).end.max(start);
            for (i, (scores, state)) in scores.chunks_exact(STRIPS).zip(states.chunks_exact_mut(state_len)).enumerate()
            {
                let seen = tile.seen(row + i, chunk);
                accumulate::<S, 1>(simd, scores, &values, seen.start..seen.end.min(start), state);
            }
            accumulate::<S, 4>(simd, scores, &values, start..end, states);
            for (i, (scores, state)) in scores.chunks_exact(STRIPS).zip(states.chunks_exact_mut(state_len)).enumerate()
            {
                let seen = tile.seen(row + i, chunk);
                accumulate::<S, 1>(simd, scores, &values, seen.start.max(end)..seen.end, state);
            }
        } else {
            accumulate::<S, 1>(simd, scores, &values, tile.seen(row, chunk), states);
        }
        row = next;
    }
}

/// Which scores are computed, and where they go.
struct Scores<'a> {
    /// `[rows, dim / 16]`.
    queries: &'a [CacheLine],
    /// `[rows, STRIPS]`.
    scores: &'a mut [CacheLine],
    row: usize,
    strip: usize,
}

/// Prefetches share `i` of `steps` equal shares of some bytes.
#[inline(always)]
fn prefetch<S: Simd>(simd: S, bytes: &[u8], i: usize, steps: usize) {
    const LINE: usize = size_of::<CacheLine>();
    if bytes.is_empty() {
        return;
    }
    let step = bytes.len().div_ceil(LINE * steps) * LINE;
    for line in bytes.get(i * step..).unwrap_or(&[]).chunks(LINE).take(step / LINE) {
        simd.prefetch_l2(line.as_ptr());
    }
}

/// Scores of `R` rows with `P` strips of keys, each `[dim]` lines, and prefetches the bytes beside them.
#[inline(always)]
fn score<S: Simd, const R: usize, const P: usize>(
    simd: S,
    tile: &AttentionTile,
    keys: [(&[CacheLine], &[u8]); P],
    out: &mut Scores,
) {
    let (dim, width) = (tile.job.layout.head_dim, tile.job.layout.dim() / LANES);
    let mut queries: [&[f32]; R] = [&[]; R];
    for r in 0..R {
        queries[r] = &bytemuck::cast_slice(&out.queries[(out.row + r) * width..][..width])[..dim];
    }
    let mut strips: [&[CacheLine]; P] = [&[]; P];
    for p in 0..P {
        strips[p] = &keys[p].0[..dim];
    }
    let mut sums = [[simd.splat(0.0); P]; R];
    for d in 0..dim {
        for p in 0..P {
            prefetch(simd, keys[p].1, d, dim);
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
    let scale = simd.splat(tile.job.options.scale);
    for r in 0..R {
        for p in 0..P {
            let to = &mut out.scores[(out.row + r) * STRIPS + out.strip + p];
            simd.store(simd.mul(sums[r][p], scale), &mut to.0);
        }
    }
}

/// Adds the values of some positions of a chunk, times their weights, to the states of `R` rows; and
/// prefetches the bytes beside them.
#[inline(always)]
fn accumulate<S: Simd, const R: usize>(
    simd: S,
    weights: &[CacheLine],
    values: &[(&[CacheLine], &[u8]); STRIPS],
    positions: Range<usize>,
    states: &mut [CacheLine],
) {
    if positions.is_empty() {
        return;
    }
    let width = states.len() / R - 1;
    let mut at = 0;
    while at < width {
        if at + 4 <= width && (S::WIDE || R == 1) {
            accumulate_lines::<S, R, 4>(simd, weights, values, positions.clone(), states, at);
            at += 4;
        } else {
            accumulate_lines::<S, R, 1>(simd, weights, values, positions.clone(), states, at);
            at += 1;
        }
    }
}

/// [`accumulate`] for `D` lines of the values, from `at` on.
#[inline(always)]
fn accumulate_lines<S: Simd, const R: usize, const D: usize>(
    simd: S,
    weights: &[CacheLine],
    values: &[(&[CacheLine], &[u8]); STRIPS],
    positions: Range<usize>,
    states: &mut [CacheLine],
    at: usize,
) {
    let (state_len, mut position) = (states.len() / R, positions.start);
    let mut sums = [[simd.splat(0.0); D]; R];
    for r in 0..R {
        for d in 0..D {
            sums[r][d] = simd.load(&states[r * state_len + at + d].0);
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
        let rows = values.chunks_exact(state_len - 1).skip(position % LANES);
        for (lane, row) in (position % LANES..LANES.min(end - strip * LANES)).zip(rows) {
            prefetch(simd, ahead, (at / D) * LANES + lane, (state_len - 1) / D * LANES);
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
            simd.store(sums[r][d], &mut states[r * state_len + at + d].0);
        }
    }
}

/// Merges the state of the next chunk into `state`.
#[inline(always)]
pub(crate) fn merge<S: Simd>(simd: S, state: &mut [CacheLine], next: &[CacheLine]) {
    let last = state.len() - 1;
    let ([most, sum], [other, more]) = ([state[last].0[0], state[last].0[1]], [next[last].0[0], next[last].0[1]]);
    let largest = most.max(other);
    let (a, b) = (exp(simd, simd.splat(most - largest)), exp(simd, simd.splat(other - largest)));
    for (state, next) in state[..last].iter_mut().zip(next) {
        let scaled = simd.mul(simd.load(&state.0), a);
        simd.store(simd.fma(simd.load(&next.0), b, scaled), &mut state.0);
    }
    let mut sums = [0.0; LANES];
    simd.store(simd.fma(simd.splat(more), b, simd.mul(simd.splat(sum), a)), &mut sums);
    (state[last].0[0], state[last].0[1]) = (largest, sums[0]);
}

/// Writes the weighted values over the sum of weights, the sink's included.
pub(crate) fn normalize(state: &[CacheLine], sink: Option<f32>, out: &mut [f32]) {
    let [largest, sum, ..] = state[state.len() - 1].0;
    let mut inverse = 1.0 / sum;
    if let Some(sink) = sink {
        // The scalar exponential, which has the bits of all instruction sets.
        let simd = Scalar;
        let numerator = |x: f32| exp(simd, simd.splat(x - largest.max(sink)))[0];
        inverse = numerator(largest) / numerator(largest).mul_add(sum, numerator(sink));
    }
    for (out, value) in out.iter_mut().zip(bytemuck::cast_slice::<CacheLine, f32>(state)) {
        *out = value * inverse;
    }
}
