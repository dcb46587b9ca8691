//! Logits to a token: a chain of filters, each in a file of its own, then a draw.

mod argmax;
mod candidates;
mod chain;
mod logit_bias;
mod min_p;
mod occurrence;
mod random;
mod repetition;
mod temperature;
mod top_k;
mod top_p;
mod typical;

pub use argmax::argmax;
pub use candidates::{Candidate, Candidates};
pub use chain::{Chain, Logprob, Pick};
pub(crate) use random::mix;

use crate::Sampling;
use crate::param::Param;

/// The tokens before the one to pick.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Prompt and answer so far.
    pub tokens: &'a [u32],
    /// How many of them are the prompt.
    pub prompt: usize,
}

/// Changes what may be picked and how likely it is. It never takes the last candidate away.
pub trait Filter: Send {
    /// Changes the candidates for the token behind `history`.
    fn apply(&self, candidates: &mut Candidates, history: History);

    /// A logit below which it keeps no token of these, if it is the first filter: candidates that it would drop need not be made. All are
    /// finite, and `most` is the highest.
    fn floor(&self, _logits: &[f32], _most: f32) -> Option<f32> {
        None
    }
}

/// A filter as the rest of the world sees it.
#[derive(Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Its options.
    pub params: &'static [Param],
    /// Whether it may change which token is the most likely one; at temperature 0 only those filters run.
    pub reorders: bool,
    /// The filter, unless the options say that it does nothing.
    pub build: fn(&Sampling) -> Option<Box<dyn Filter>>,
}

/// Every filter, in the order in which they run: llama.cpp's default.
pub static FILTERS: &[Row] = &[
    logit_bias::ROW,
    repetition::ROW,
    occurrence::ROW,
    top_k::ROW,
    typical::ROW,
    top_p::ROW,
    min_p::ROW,
    temperature::ROW,
];
