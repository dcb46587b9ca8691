//! Logits to a token: a chain of filters, each in a file of its own, then a draw.

mod bad_words;
mod candidates;
mod chain;
mod dry;
mod logit_bias;
mod min_p;
mod min_tokens;
mod mirostat;
mod occurrence;
mod random;
mod repetition;
mod temperature;
mod thinking;
mod top_k;
mod top_n_sigma;
mod top_p;
mod typical;
mod xtc;

pub use candidates::{Candidate, Candidates, Softmax};
pub use chain::{Chain, Logprob, Sampled};
pub(crate) use random::mix;
pub use thinking::thinks;
pub use trine_model::runner::argmax;

use crate::Error;
use crate::param::Param;
use crate::sampling::Sampling;
use std::sync::Arc;
use trine_text::Tokenizer;

/// The tokens before the one that is sampled.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// Prompt and answer so far.
    pub tokens: &'a [u32],
    /// How many of them are the prompt.
    pub prompt: usize,
}

/// Changes what may be sampled and how likely it is. A filter belongs to one request and may keep state, such as a grammar's. What goes wrong in
/// it is an error, which ends its request; a panic ends the engine that runs it, with all requests of a [`Handle`](crate::Handle).
pub trait Filter: Send {
    /// Changes the candidates for the token that follows `history`. There is at least one; without any left the request ends with
    /// [`Error::NoCandidates`]. A logit of negative infinity forbids a token; NaN and infinity end the request with [`Error::FilterLogit`].
    ///
    /// # Errors
    /// Whatever makes it impossible to go on: the request ends with it.
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error>;

    /// Its name in errors: by default that of its type.
    fn name(&self) -> &str {
        std::any::type_name::<Self>()
    }

    /// A token follows: it was sampled, or it is proposed and [`Filter::rollback`] may undo it. A proposed token may be one that the filter
    /// forbids.
    fn accept(&mut self, _token: u32) {}

    /// Undoes the last `n` calls of [`Filter::accept`].
    fn rollback(&mut self, _n: usize) {}

    /// A filter of the same state, for another answer to the same request. Without one, the default, a request has one answer.
    fn fork(&self) -> Option<Box<dyn Filter>> {
        None
    }

    /// Whether [`Filter::prepare`] does anything.
    fn prepares(&self) -> bool {
        false
    }

    /// Does work for the token that follows `history` while the model computes its logits, such as the mask of a grammar. It may run on another
    /// thread ([`Engine::prepare_beside`](crate::Engine::prepare_beside)), and its sequence alone waits for it. A step may ask for
    /// several tokens, with [`Filter::accept`] between them and one [`Filter::rollback`] at the end.
    fn prepare(&mut self, _history: History) {}

    /// A logit below which it keeps no token of these, if it is the first filter: candidates that it would drop need not be made. All are
    /// finite, and `most` is the highest.
    fn floor(&self, _logits: &[f32], _most: f32) -> Option<f32> {
        None
    }
}

/// Makes a filter of a request's options.
pub type BuildFilter = fn(&Sampling, &Arc<Tokenizer>) -> Option<Box<dyn Filter>>;

/// A filter as the rest of the world sees it.
#[derive(Debug)]
pub struct FilterRow {
    pub name: &'static str,
    pub params: &'static [Param],
    /// Whether it may change which token is the most likely one; at temperature 0 only those filters run.
    pub reorders: bool,
    /// Whether it drops unlikely tokens, or likely ones, in place of which [`Sampling::mirostat`] works.
    pub truncates: bool,
    /// The filter, unless the options say that it does nothing. They have a seed.
    pub build: BuildFilter,
}

/// Every filter, in the order in which they run: what an answer must or may not have, then llama.cpp's default.
pub static FILTERS: &[FilterRow] = &[
    thinking::ROW,
    min_tokens::ROW,
    bad_words::ROW,
    logit_bias::ROW,
    repetition::ROW,
    occurrence::ROW,
    dry::ROW,
    top_n_sigma::ROW,
    top_k::ROW,
    typical::ROW,
    top_p::ROW,
    min_p::ROW,
    xtc::ROW,
    temperature::ROW,
    mirostat::ROW,
];
