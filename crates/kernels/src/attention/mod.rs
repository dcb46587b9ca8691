//! Attention: what a query attends to, and how.

mod forward;

pub use forward::Attention;
pub(crate) use forward::{Scratch, Tile, attend, fold};

use crate::elementwise::tanh16;
use crate::simd::Simd;
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
}

impl Attend {
    /// The positions that the token at `position` sees.
    #[inline(always)]
    pub fn seen(&self, position: usize) -> Range<usize> {
        (position + 1).saturating_sub(self.window.unwrap_or(usize::MAX))..position + 1
    }
}

#[inline(always)]
fn softcap<S: Simd>(simd: S, score: S::F, cap: f32) -> S::F {
    simd.mul(tanh16(simd, simd.mul(score, simd.splat(1.0 / cap))), simd.splat(cap))
}
