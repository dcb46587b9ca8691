//! Gradients of attention, in tiles: memory grows with the length of a sequence, not with its square
//! (arXiv:2205.14135, algorithm 4).
//!
//! With `P = softmax(S)`, `S = softcap(scale Q Kᵀ)` and `O = P V`, the gradient `dO` of the output gives
//! `dV = Pᵀ dO`, `dP = dO Vᵀ`, `dS = P (dP - rowsum(dO O)) softcap'`, `dQ = scale dS K` and `dK = scale dSᵀ Q`. The
//! weights `P` are computed again. A sequence and a KV head are one task, which adds up tiles of queries in order:
//! the bits depend on nothing else.

use super::options::AttentionOptions;
use super::softmax::{softcap, softmax};
use crate::cache_line::CacheLine;
use crate::kv::Span;
use crate::math::exp;
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Keys whose scores are held at once.
pub(crate) const KEYS: usize = 512;
/// Lines of a row of scores.
pub(crate) const WIDTH: usize = KEYS / LANES;
/// Target of query rows in a tile: all heads of a group for some tokens.
pub(crate) const ROWS: usize = 64;

/// The inputs and the output of attention, rows in the order of the spans, and the gradient of the output.
#[derive(Clone, Copy)]
pub struct AttentionBackward<'a> {
    /// Queries, `[tokens, n_heads, head_dim]`.
    pub q: &'a [f32],
    /// Keys, `[tokens, n_kv_heads, head_dim]`.
    pub k: &'a [f32],
    /// Values, `[tokens, n_kv_heads, head_dim]`.
    pub v: &'a [f32],
    /// The output, `[tokens, n_heads, head_dim]`.
    pub out: &'a [f32],
    /// The gradient of the output.
    pub dout: &'a [f32],
    /// Query heads, a multiple of `n_kv_heads`.
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub options: AttentionOptions,
    /// Whole sequences, one after the other from row 0 on, nothing cached; their blocks are not used.
    pub spans: &'a [Span],
}

/// Consecutive tokens of a sequence with the query heads of one KV head, and some of the keys that they see.
pub(crate) struct BackwardTile {
    pub options: AttentionOptions,
    /// Query heads per KV head.
    pub group: usize,
    /// The position of the first token.
    pub position: usize,
    pub tokens: usize,
    pub keys: Range<usize>,
}

impl BackwardTile {
    fn rows(&self) -> usize {
        self.tokens * self.group
    }

    /// Which of the keys a row sees, counted from the first of them.
    #[inline(always)]
    pub fn seen(&self, row: usize) -> Range<usize> {
        let seen = self.options.seen(self.position + row / self.group, 0);
        let inside = |position: usize| position.clamp(self.keys.start, self.keys.end) - self.keys.start;
        inside(seen.start)..inside(seen.end)
    }
}

/// Turns the scores of some keys, `[rows, WIDTH]`, into unnormalized weights: zeros where a row does
/// not see. `states` gets the largest score of each row and the sum of its weights; `slopes`, if there
/// is a soft cap, its derivatives.
#[inline(always)]
pub(crate) fn softmax_part<S: Simd>(
    simd: S,
    part: &BackwardTile,
    scores: &mut [CacheLine],
    slopes: &mut [CacheLine],
    states: &mut [CacheLine],
) {
    let lines = part.keys.len().div_ceil(LANES);
    for row in 0..part.rows() {
        let scores = &mut scores[row * WIDTH..][..lines];
        if let Some(cap) = part.options.softcap {
            softcap(simd, scores, cap);
            for (score, slope) in scores.iter().zip(&mut slopes[row * WIDTH..]) {
                let tanh = simd.mul(simd.load(&score.0), simd.splat(1.0 / cap));
                let square = simd.mul(tanh, tanh);
                simd.store(simd.sub(simd.splat(1.0), square), &mut slope.0);
            }
        }
        let seen = part.seen(row);
        if seen.is_empty() {
            scores.fill(CacheLine::ZERO);
            continue;
        }
        scores[..seen.start / LANES].fill(CacheLine::ZERO);
        scores[seen.end.div_ceil(LANES)..].fill(CacheLine::ZERO);
        [states[row].0[0], states[row].0[1]] = softmax(simd, scores, seen);
    }
}

/// Turns the weights of [`softmax_part`] into final ones and their gradients into those of the
/// scores, both `[rows, WIDTH]`. `totals` has the largest score of a row among all keys, the sum of
/// all weights, and `rowsum(dO O)`.
#[inline(always)]
pub(crate) fn score_gradients<S: Simd>(
    simd: S,
    part: &BackwardTile,
    weights: &mut [CacheLine],
    grads: &mut [CacheLine],
    slopes: &[CacheLine],
    states: &[CacheLine],
    totals: &[CacheLine],
) {
    let lines = part.keys.len().div_ceil(LANES);
    for row in 0..part.rows() {
        let weights = &mut weights[row * WIDTH..][..lines];
        let grads = &mut grads[row * WIDTH..][..lines];
        if part.seen(row).is_empty() {
            grads.fill(CacheLine::ZERO);
            continue;
        }
        let [largest, sum, delta] = [0, 1, 2].map(|i| totals[row].0[i]);
        let factor = simd.div(exp(simd, simd.splat(states[row].0[0] - largest)), simd.splat(sum));
        for (weight, grad) in weights.iter_mut().zip(&mut *grads) {
            let final_weight = simd.mul(simd.load(&weight.0), factor);
            simd.store(final_weight, &mut weight.0);
            let above = simd.sub(simd.load(&grad.0), simd.splat(delta));
            simd.store(simd.mul(final_weight, above), &mut grad.0);
        }
        if part.options.softcap.is_some() {
            for (grad, slope) in grads.iter_mut().zip(&slopes[row * WIDTH..]) {
                simd.store(simd.mul(simd.load(&grad.0), simd.load(&slope.0)), &mut grad.0);
            }
        }
    }
}
