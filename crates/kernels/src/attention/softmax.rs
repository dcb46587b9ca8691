//! The soft cap and the softmax of scores.

use crate::cache_line::CacheLine;
use crate::elementwise::{Map, Softcap};
use crate::math::exp;
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Applies the soft cap to scores.
#[inline(always)]
pub(crate) fn softcap<S: Simd>(simd: S, scores: &mut [CacheLine], cap: f32) {
    for line in scores {
        let score = simd.load(&line.0);
        simd.store(Softcap(cap).map(simd, score, score), &mut line.0);
    }
}

/// Turns the scores in `seen` into unnormalized weights, and the others in their lines into zeros; returns the
/// largest score and the sum of the weights.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(simd: S, scores: &mut [CacheLine], seen: Range<usize>) -> [f32; 2] {
    let scores = &mut scores[seen.start / LANES..seen.end.div_ceil(LANES)];
    let (last, before, beyond) = (scores.len() - 1, seen.start % LANES, (seen.end - 1) % LANES + 1);
    scores[0].0[..before].fill(f32::NEG_INFINITY);
    scores[last].0[beyond..].fill(f32::NEG_INFINITY);
    let mut most = simd.splat(f32::NEG_INFINITY);
    for line in &*scores {
        most = simd.max(most, simd.load(&line.0));
    }
    let largest = simd.reduce_max(most);
    let mut total = simd.splat(0.0);
    for (i, line) in scores.iter_mut().enumerate() {
        let weights = exp(simd, simd.sub(simd.load(&line.0), simd.splat(largest)));
        simd.store(weights, &mut line.0);
        if i == 0 {
            line.0[..before].fill(0.0);
        }
        if i == last {
            line.0[beyond..].fill(0.0);
        }
        total = simd.add(total, simd.load(&line.0));
    }
    [largest, simd.reduce_sum(total)]
}
