use super::random::uniform;
use super::{Candidate, Candidates, FILTERS, Filter, History, argmax, thinking};
use crate::Error;
use crate::sampling::Sampling;
use std::sync::Arc;
use trine_text::Tokenizer;

/// Samples the tokens of one request.
///
/// The order is llama.cpp's default: bias, penalties, DRY, top-nσ, top-k, typical, top-p, min-p, XTC, temperature, then a draw; Mirostat takes
/// the place of those from top-nσ to XTC. Equals go by id, sums run in a fixed order, and exponentials are computed in plain Rust: the same
/// logits give the same token on every machine.
pub struct Chain {
    /// `None` while they are lent.
    filters: Option<Vec<Box<dyn Filter>>>,
    greedy: bool,
    seed: u64,
    logprobs: Option<usize>,
    candidates: Candidates,
    /// What was sampled last, and its log probability.
    last: (u32, Option<f64>),
    top: Vec<Logprob>,
}

/// A token and the logarithm of the probability that the model gave it, before any filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logprob {
    pub id: u32,
    /// At most 0.
    pub logprob: f64,
}

/// A sampled token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampled<'a> {
    pub id: u32,
    /// Its log probability, if requested.
    pub logprob: Option<f64>,
    /// The most likely tokens, as many as requested.
    pub top: &'a [Logprob],
}

/// Whoever samples has asked [`Chain::is_lent`].
const LENT: &str = "filters that are not lent";

impl Chain {
    /// `own` filters, then those that the options ask for. `seed` is used when they name none.
    ///
    /// # Errors
    /// [`Error::Option`].
    pub fn new(
        sampling: &Sampling,
        own: Vec<Box<dyn Filter>>,
        tokenizer: &Arc<Tokenizer>,
        seed: u64,
    ) -> Result<Chain, Error> {
        sampling.check()?;
        if let Some(budget) = sampling.thinking_budget.filter(|_| thinking::tags(tokenizer).is_none()) {
            return Err(Error::Option {
                field: "thinking_budget",
                value: budget.to_string(),
                expected: "a model whose chat template or tokens have tags of thinking, such as <think>; omit it"
                    .to_owned(),
            });
        }
        let seed = sampling.seed.unwrap_or(seed);
        let sampling = Sampling { seed: Some(seed), ..sampling.clone() };
        let (greedy, mirostat) = (sampling.temperature == 0.0, sampling.mirostat != 0);
        let rows = FILTERS.iter().filter(|row| (row.reorders || !greedy) && !(row.truncates && mirostat));
        Ok(Chain {
            filters: Some(own.into_iter().chain(rows.filter_map(|row| (row.build)(&sampling, tokenizer))).collect()),
            greedy,
            seed,
            logprobs: sampling.logprobs,
            candidates: Candidates::default(),
            last: (0, None),
            top: Vec::with_capacity(sampling.logprobs.unwrap_or(0)),
        })
    }

    /// Samples the token that follows `history`. Allocates nothing once its buffers have grown to the vocabulary.
    ///
    /// # Errors
    /// [`Error::NotFinite`], [`Error::FilterLogit`], [`Error::BeyondVocabulary`], [`Error::NoCandidates`], and those of the filters.
    ///
    /// # Panics
    /// When there are no logits.
    pub fn sample(&mut self, logits: &[f32], history: History) -> Result<Sampled<'_>, Error> {
        let position = history.tokens.len();
        let best = argmax(logits).map_err(|id| Error::NotFinite { id, position, value: logits[id as usize] })?;
        let most = logits[best as usize];
        let filters = self.filters.as_mut().expect(LENT);
        let id = if self.greedy && filters.is_empty() {
            best
        } else {
            match filters.first().and_then(|filter| filter.floor(logits, most)) {
                // The minimum is a number, and leaves the best.
                Some(floor) => self.candidates.fill_from(logits, floor.min(most)),
                None => self.candidates.fill_finite(logits),
            }
            for filter in filters {
                filter.apply(&mut self.candidates, history)?;
                if let Err(Candidate { id, logit }) = self.candidates.check(logits.len()) {
                    let filter = filter.name().to_owned();
                    return Err(match id as usize >= logits.len() {
                        true => {
                            Error::BeyondVocabulary { place: format!("filter `{filter}`"), id, vocab: logits.len() }
                        }
                        false => Error::FilterLogit { filter, id, position, logit },
                    });
                }
                if self.candidates.items().is_empty() {
                    return Err(Error::NoCandidates { position });
                }
            }
            if self.greedy {
                self.candidates.best().expect("some are left").id
            } else {
                self.candidates.draw(uniform(self.seed, position))
            }
        };
        let logprob = self.logprobs.map(|n| self.logprobs(logits, most, id, n));
        self.last = (id, logprob);
        Ok(self.sampled())
    }

    /// Log probability of a token of the prompt, and the `n` most likely tokens in its place.
    ///
    /// # Errors
    /// [`Error::NotFinite`].
    pub fn score(&mut self, logits: &[f32], id: u32, n: usize, position: usize) -> Result<Sampled<'_>, Error> {
        let best = argmax(logits).map_err(|id| Error::NotFinite { id, position, value: logits[id as usize] })?;
        let logprob = self.logprobs(logits, logits[best as usize], id, n);
        Ok(Sampled { id, logprob: Some(logprob), top: &self.top })
    }

    /// What was sampled last.
    pub fn sampled(&self) -> Sampled<'_> {
        let (id, logprob) = self.last;
        Sampled { id, logprob, top: &self.top }
    }

    /// Tells the filters that a token is part of the answer.
    pub fn accept(&mut self, token: u32) {
        self.filters.as_mut().expect(LENT).iter_mut().for_each(|filter| filter.accept(token));
    }

    /// Whether a filter has work to do beside a forward pass, and is there.
    pub fn prepares(&self) -> bool {
        self.filters.iter().flatten().any(|filter| filter.prepares())
    }

    /// Gives the filters away, to prepare elsewhere, until [`Chain::take_back`]. Without them nothing can be sampled.
    pub(crate) fn lend(&mut self) -> Vec<Box<dyn Filter>> {
        self.filters.take().expect(LENT)
    }

    pub(crate) fn take_back(&mut self, filters: Vec<Box<dyn Filter>>) {
        self.filters = Some(filters);
    }

    pub(crate) fn is_lent(&self) -> bool {
        self.filters.is_none()
    }

    /// Lets the filters prepare for the token after each of the last `1 + proposed` of `tokens`.
    pub fn prepare(&mut self, tokens: &[u32], proposed: usize, prompt: usize) {
        Chain::prepare_filters(self.filters.as_mut().expect(LENT), tokens, proposed, prompt);
    }

    /// As [`Chain::prepare`] does.
    pub(crate) fn prepare_filters(filters: &mut [Box<dyn Filter>], tokens: &[u32], proposed: usize, prompt: usize) {
        let first = tokens.len() - proposed;
        for filter in filters.iter_mut().filter(|filter| filter.prepares()) {
            for len in first..=tokens.len() {
                filter.prepare(History { tokens: &tokens[..len], prompt });
                if let Some(&next) = tokens.get(len) {
                    filter.accept(next);
                }
            }
            filter.rollback(proposed);
        }
    }

    /// Log-softmax of the raw logits, of which the highest is `most`, of one token; its `n` highest go to `top`.
    fn logprobs(&mut self, logits: &[f32], most: f32, id: u32, n: usize) -> f64 {
        self.top.clear();
        for (id, &logit) in (0..).zip(logits) {
            let logprob = f64::from(logit);
            if self.top.len() < n || self.top.last().is_some_and(|last| last.logprob < logprob) {
                self.top.truncate(n.saturating_sub(1));
                let at = self.top.partition_point(|other| other.logprob >= logprob);
                self.top.insert(at, Logprob { id, logprob });
            }
        }
        let most = f64::from(most);
        let total: f64 = logits.iter().map(|&logit| libm::exp(f64::from(logit) - most)).sum();
        let total = libm::log(total);
        self.top.iter_mut().for_each(|top| top.logprob = top.logprob - most - total);
        f64::from(logits[id as usize]) - most - total
    }
}
