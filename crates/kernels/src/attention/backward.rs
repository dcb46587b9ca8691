//! Gradients of attention, in tiles: memory grows with the length of a sequence, not with its square (arXiv:2205.14135, algorithm 4).
//!
//! With `P = softmax(S)`, `S = softcap(scale Q Kᵀ)` and `O = P V`, the gradient `dO` of the output gives
//! `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP - rowsum(dO O)) softcap'`, `dQ = scale dS K` and `dK = scale dSᵀ Q`.
//! The weights `P` are computed again. A sequence and a KV head are one task, which adds tiles of queries up in their order: the bits depend
//! on nothing else.

use super::{Attend, softcap, softmax};
use crate::elementwise::exp16;
use crate::gemm::{self, Factors, Product, Strided};
use crate::kv::{Line, Span};
use crate::machine::{Machine, Slots, WORTH};
use crate::simd::{LANES, Simd};
use crate::table::Table;
use std::cmp::Reverse;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Keys whose scores are held at once.
const KEYS: usize = 512;
/// Lines of a row of scores.
const WIDTH: usize = KEYS / LANES;
/// Query rows that a tile aims at: all heads of a group for some tokens.
const ROWS: usize = 64;

/// What was attended with and to, all of it in the order of the spans' rows, and what came of it.
#[derive(Clone, Copy)]
pub struct AttentionBack<'a> {
    /// Queries, `[tokens, heads, head_dim]`.
    pub q: &'a [f32],
    /// Keys, `[tokens, kv_heads, head_dim]`.
    pub k: &'a [f32],
    /// Values, `[tokens, kv_heads, head_dim]`.
    pub v: &'a [f32],
    /// The output, `[tokens, heads, head_dim]`.
    pub out: &'a [f32],
    /// The gradient of the output.
    pub dout: &'a [f32],
    /// Query heads, a multiple of `kv_heads`.
    pub heads: usize,
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// How scores became weights.
    pub attend: Attend,
    /// Whole sequences, one behind the other from row 0 on: nothing is cached, and blocks play no part.
    pub spans: &'a [Span],
}

/// Consecutive tokens of a sequence with the query heads of one KV head, and some of the keys that they see.
pub(crate) struct Part {
    attend: Attend,
    group: usize,
    /// The position of the first token.
    position: usize,
    tokens: usize,
    keys: Range<usize>,
}

impl Part {
    fn rows(&self) -> usize {
        self.tokens * self.group
    }

    /// Which of the keys a row sees, counted from the first of them.
    #[inline(always)]
    fn seen(&self, row: usize) -> Range<usize> {
        let seen = self.attend.seen(self.position + row / self.group, 0);
        let inside = |position: usize| position.clamp(self.keys.start, self.keys.end) - self.keys.start;
        inside(seen.start)..inside(seen.end)
    }
}

/// Makes weights of the scores of some keys, `[rows, WIDTH]`: zeros where a row does not see. `states` gets the largest score of each row
/// and the sum of its weights, `slopes`, if scores are capped, the derivatives of the capped by the others.
#[inline(always)]
pub(crate) fn soften<S: Simd>(simd: S, part: &Part, scores: &mut [Line], slopes: &mut [Line], states: &mut [Line]) {
    let lines = part.keys.len().div_ceil(LANES);
    for row in 0..part.rows() {
        let scores = &mut scores[row * WIDTH..][..lines];
        if let Some(cap) = part.attend.softcap {
            softcap(simd, scores, cap);
            for (score, slope) in scores.iter().zip(&mut slopes[row * WIDTH..]) {
                let tanh = simd.mul(simd.load(&score.0), simd.splat(1.0 / cap));
                let square = simd.mul(tanh, tanh);
                simd.store(simd.sub(simd.splat(1.0), square), &mut slope.0);
            }
        }
        let seen = part.seen(row);
        if seen.is_empty() {
            scores.fill(Line::ZERO);
            continue;
        }
        scores[..seen.start / LANES].fill(Line::ZERO);
        scores[seen.end.div_ceil(LANES)..].fill(Line::ZERO);
        [states[row].0[0], states[row].0[1]] = softmax(simd, scores, seen);
    }
}

/// From the weights of [`soften`] and the gradients of final weights, both `[rows, WIDTH]`: the final weights and the gradients of scores.
/// `totals` has the largest score of a row among all keys, the sum of all weights, and `rowsum(dO O)`.
#[inline(always)]
pub(crate) fn differentiate<S: Simd>(
    simd: S,
    part: &Part,
    weights: &mut [Line],
    grads: &mut [Line],
    slopes: &[Line],
    states: &[Line],
    totals: &[Line],
) {
    let lines = part.keys.len().div_ceil(LANES);
    for row in 0..part.rows() {
        let weights = &mut weights[row * WIDTH..][..lines];
        let grads = &mut grads[row * WIDTH..][..lines];
        if part.seen(row).is_empty() {
            grads.fill(Line::ZERO);
            continue;
        }
        let [largest, sum, delta] = [0, 1, 2].map(|i| totals[row].0[i]);
        let factor = simd.div(exp16(simd, simd.splat(states[row].0[0] - largest)), simd.splat(sum));
        for (weight, grad) in weights.iter_mut().zip(&mut *grads) {
            let final_weight = simd.mul(simd.load(&weight.0), factor);
            simd.store(final_weight, &mut weight.0);
            let above = simd.sub(simd.load(&grad.0), simd.splat(delta));
            simd.store(simd.mul(final_weight, above), &mut grad.0);
        }
        if part.attend.softcap.is_some() {
            for (grad, slope) in grads.iter_mut().zip(&slopes[row * WIDTH..]) {
                simd.store(simd.mul(simd.load(&grad.0), simd.load(&slope.0)), &mut grad.0);
            }
        }
    }
}

/// What a thread works in.
#[derive(Default)]
pub(crate) struct Room {
    /// Queries times the scale, and gradients, of a tile: `[rows, head_dim]`.
    q: Vec<f32>,
    dout: Vec<f32>,
    dq: Vec<f32>,
    /// Gradients of all keys and values of a head, `[tokens, head_dim]`.
    dk: Vec<f32>,
    dv: Vec<f32>,
    /// `[rows, WIDTH]`.
    weights: Vec<Line>,
    grads: Vec<Line>,
    slopes: Vec<Line>,
    /// See [`soften`] and [`differentiate`], `[rows]`.
    states: Vec<Line>,
    totals: Vec<Line>,
    packed: gemm::Room,
}

/// Where gradients go.
struct Gradients {
    dq: Slots<f32>,
    dk: Slots<f32>,
    dv: Slots<f32>,
}

impl Machine {
    /// Overwrites `dq`, `dk` and `dv`, of the shapes of `q`, `k` and `v`, with their gradients.
    ///
    /// # Panics
    /// When the shapes disagree, a window is zero, or the spans are not what they must be.
    pub fn attention_back(&mut self, job: &AttentionBack, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
        let AttentionBack { heads, kv_heads, head_dim: dim, spans, .. } = *job;
        let tokens = spans.iter().fold(0, |row, span| {
            assert!(span.row == row && span.cached == 0);
            row + span.tokens
        });
        assert!(heads.is_multiple_of(kv_heads) && job.attend.window != Some(0));
        assert!([job.q, job.out, job.dout, dq].iter().all(|x| x.len() == tokens * heads * dim));
        assert!([job.k, job.v, dk, dv].iter().all(|x| x.len() == tokens * kv_heads * dim));
        let to = Gradients { dq: Slots::of(dq), dk: Slots::of(dk), dv: Slots::of(dv) };
        let (table, rooms) = (self.table, &mut self.attention.back);
        rooms.resize_with(self.pool.threads(), Mutex::default);
        // The longest first: what is left at the end should be short.
        let mut order: Vec<&Span> = spans.iter().collect();
        order.sort_by_key(|span| Reverse(span.tokens));
        let body = |task: usize, thread: usize| {
            let mut room = rooms[thread].lock().unwrap_or_else(PoisonError::into_inner);
            head_back(table, job, order[task / kv_heads], task % kv_heads, &mut room, &to);
        };
        let window = job.attend.window.unwrap_or(usize::MAX);
        let work: usize = spans.iter().map(|span| span.tokens * span.tokens.min(window)).sum();
        let tasks = spans.len() * kv_heads;
        if 5 * work * heads * dim < WORTH {
            (0..tasks).for_each(|task| body(task, 0))
        } else {
            self.pool.run(tasks, &body)
        }
    }
}

/// The gradients of one KV head of a sequence, and of its query heads.
fn head_back<'a>(table: &Table, job: &AttentionBack<'a>, span: &Span, kv_head: usize, room: &mut Room, to: &Gradients) {
    let AttentionBack { heads, kv_heads, head_dim: dim, attend, .. } = *job;
    let group = heads / kv_heads;
    let each = (ROWS / group).max(1);
    let Room { q, dout, dq, dk, dv, weights, grads, slopes, states, totals, packed } = room;
    for tile in [&mut *q, dout, dq] {
        tile.resize(each * group * dim, 0.0);
    }
    for all in [&mut *dk, dv] {
        all.clear();
        all.resize(span.tokens * dim, 0.0);
    }
    for scores in [&mut *weights, grads] {
        scores.resize(each * group * WIDTH, Line::ZERO);
    }
    if attend.softcap.is_some() {
        slopes.resize(each * group * WIDTH, Line::ZERO);
    }
    for rows in [&mut *states, totals] {
        rows.resize(each * group, Line::ZERO);
    }
    let mut product = |shape, a: Strided, b: Strided, add, stride, out: &mut [f32]| {
        gemm::gemm(table, &Product { shape, a, b, add, factors: Factors::F32 }, stride, out, packed);
    };
    // Keys or values from a position on.
    let from = |x: &'a [f32], position| plain(&x[((span.row + position) * kv_heads + kv_head) * dim..], kv_heads * dim);

    for position in (0..span.tokens).step_by(each) {
        let tokens = each.min(span.tokens - position);
        let rows = tokens * group;
        // Where a row's head is in `[tokens, heads, head_dim]`.
        let at = |row: usize| ((span.row + position + row / group) * heads + kv_head * group + row % group) * dim;
        for row in 0..rows {
            let (tile, all) = (row * dim..(row + 1) * dim, at(row)..at(row) + dim);
            q[tile.clone()].iter_mut().zip(&job.q[all.clone()]).for_each(|(to, q)| *to = q * attend.scale);
            dout[tile].copy_from_slice(&job.dout[all.clone()]);
            let total = [f32::NEG_INFINITY, 0.0, dot(&job.dout[all.clone()], &job.out[all])];
            totals[row].0[..3].copy_from_slice(&total);
        }
        let (q, dout) = (plain(q, dim), plain(dout, dim));
        let all = attend.seen(position, 0).start..position + tokens;
        let parts = || {
            let keys = all.clone().step_by(KEYS).map(|start| start..all.end.min(start + KEYS));
            keys.map(|keys| Part { attend, group, position, tokens, keys })
        };
        for part in parts() {
            let k = from(job.k, part.keys.start);
            product([rows, part.keys.len(), dim], q, k.transposed(), false, KEYS, floats(weights));
            (table.soften)(&part, weights, slopes, states);
            for row in (0..rows).filter(|&row| !part.seen(row).is_empty()) {
                (table.fold)(&mut totals[row..=row], &states[row..=row]);
            }
        }
        for part in parts() {
            let (start, seen) = (part.keys.start, part.keys.len());
            let (k, v) = (from(job.k, start), from(job.v, start));
            // The weights of a single chunk are still there.
            if all.len() > KEYS {
                product([rows, seen, dim], q, k.transposed(), false, KEYS, floats(weights));
                (table.soften)(&part, weights, slopes, states);
            }
            product([rows, seen, dim], dout, v.transposed(), false, KEYS, floats(grads));
            (table.differentiate)(&part, weights, grads, slopes, states, totals);
            let [weights, grads] = [&*weights, grads].map(|lines| plain(bytemuck::cast_slice(lines), KEYS));
            product([seen, dim, rows], weights.transposed(), dout, true, dim, &mut dv[start * dim..]);
            product([seen, dim, rows], grads.transposed(), q, true, dim, &mut dk[start * dim..]);
            product([rows, dim, seen], grads, k, start > all.start, dim, dq);
        }
        for row in 0..rows {
            // SAFETY: the row of a head inside `dq`, which is this task's alone.
            let to = unsafe { std::slice::from_raw_parts_mut(to.dq.at(at(row)), dim) };
            to.iter_mut().zip(&dq[row * dim..]).for_each(|(to, dq)| *to = dq * attend.scale);
        }
    }
    for (all, to) in [(dk, &to.dk), (dv, &to.dv)] {
        for (i, row) in all.chunks_exact(dim).enumerate() {
            // SAFETY: the row of a head inside `dk` or `dv`, which is this task's alone.
            unsafe { to.row((span.row + i) * kv_heads + kv_head, dim) }.copy_from_slice(row);
        }
    }
}

fn plain(data: &[f32], row: usize) -> Strided<'_> {
    Strided { data, row, col: 1 }
}

fn floats(lines: &mut [Line]) -> &mut [f32] {
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
