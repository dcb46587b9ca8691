use std::ops::Range;

/// How scores become weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionOptions {
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// Sliding window: a token sees itself and the `window - 1` positions before it. At least 1; all positions if `None`.
    pub window: Option<usize>,
    /// Scores become `softcap * tanh(score / softcap)` (Gemma 2, arXiv:2408.00118).
    pub softcap: Option<f32>,
    /// A token sees no later position. Otherwise it sees as far ahead as back, and its whole
    /// sequence must be in the batch.
    pub causal: bool,
}

impl AttentionOptions {
    /// The positions that the token at `position` of a sequence of `len` tokens sees.
    #[inline(always)]
    pub fn seen(&self, position: usize, len: usize) -> Range<usize> {
        let window = self.window.unwrap_or(usize::MAX);
        let end = if self.causal { position + 1 } else { position.saturating_add(window).min(len) };
        (position + 1).saturating_sub(window)..end
    }
}
