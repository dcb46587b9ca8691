//! Attention: what a query attends to, and how.

mod backward;
mod forward;

use backward::Room;

pub use backward::AttentionBack;
pub(crate) use backward::{Part, differentiate, soften};
pub use forward::Attention;
pub(crate) use forward::{Scratch, Tile, attend, fold};

use crate::elementwise::{Cap, Map, exp16};
use crate::kv::Line;
use crate::simd::{LANES, Simd};
use std::ops::Range;

/// How scores become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attend {
    /// Products of queries and keys are multiplied by this.
    pub scale: f32,
    /// A token sees itself and the `window - 1` positions before it; without one, all before it. At least 1.
    pub window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)` (Gemma 2, arXiv:2408.00118).
    pub softcap: Option<f32>,
    /// A token sees nothing behind it. Otherwise it sees as far ahead as back, and its whole sequence must be in the batch.
    pub causal: bool,
}

impl Attend {
    /// The positions that the token at `position` of a sequence of `len` sees.
    #[inline(always)]
    pub fn seen(&self, position: usize, len: usize) -> Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        let end = if self.causal { position + 1 } else { position.saturating_add(window).min(len) };
        (position + 1).saturating_sub(window)..end
    }
}

/// Caps scores.
#[inline(always)]
fn softcap<S: Simd>(simd: S, scores: &mut [Line], cap: f32) {
    for line in scores {
        let score = simd.load(&line.0);
        simd.store(Cap(cap).map(simd, score, score), &mut line.0);
    }
}

/// Makes weights of the scores that are seen, and zeros of the others in their lines; returns the largest score and the sum of the weights.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [Line], seen: Range<usize>) -> [f32; 2] {
    let scores = &mut scores[seen.start / LANES..seen.end.div_ceil(LANES)];
    let (last, before, beyond) = (scores.len() - 1, seen.start % LANES, (seen.end - 1) % LANES + 1);
    scores[0].0[..before].fill(f32::NEG_INFINITY);
    scores[last].0[beyond..].fill(f32::NEG_INFINITY);
    let mut most = simd.splat(f32::NEG_INFINITY);
    for line in &*scores {
        most = simd.max(most, simd.load(&line.0));
    }
    let largest = simd.largest(most);
    let mut total = simd.splat(0.0);
    for (i, line) in scores.iter_mut().enumerate() {
        let weights = exp16(simd, simd.sub(simd.load(&line.0), simd.splat(largest)));
        simd.store(weights, &mut line.0);
        if i == 0 {
            line.0[..before].fill(0.0);
        }
        if i == last {
            line.0[beyond..].fill(0.0);
        }
        total = simd.add(total, simd.load(&line.0));
    }
    [largest, simd.sum(total)]
}
