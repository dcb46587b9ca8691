use crate::vocabulary::first_line;
use llguidance::Matcher;
use llguidance::toktrie::SimpleVob;
use std::collections::VecDeque;
use trine_engine::Error;
use trine_engine::sample::{Candidates, Filter, History};

/// Forbids the tokens that a grammar does not allow.
pub(crate) struct GrammarFilter {
    matcher: Matcher,
    /// Accepted tokens that the matcher is yet to be given: it takes as long for them as for a mask, and [`Filter::prepare`] has the time.
    pending: Vec<u32>,
    /// Tokens after one that the grammar forbids, that one included, or after its end: the matcher does not know them.
    beyond: usize,
    /// Those that are prepared, the first for the shortest history.
    masks: VecDeque<Mask>,
}

/// The tokens that may follow a history.
struct Mask {
    len: usize,
    last: Option<u32>,
    /// Or why it could not be computed.
    allowed: Result<SimpleVob, Error>,
}

impl Mask {
    fn follows(&self, history: History) -> bool {
        self.len == history.tokens.len() && self.last == history.tokens.last().copied()
    }
}

impl GrammarFilter {
    pub fn new(matcher: Matcher) -> GrammarFilter {
        GrammarFilter { matcher, pending: Vec::new(), beyond: 0, masks: VecDeque::new() }
    }

    /// Gives the matcher what is pending.
    fn consume(&mut self) {
        for token in self.pending.drain(..) {
            // An error stays in the matcher, whose next mask is that error.
            if self.beyond > 0 || self.matcher.try_consume_tokens(&[token]).is_ok_and(|consumed| consumed == 0) {
                self.beyond += 1;
            }
        }
    }

    fn compute(&mut self) -> Result<SimpleVob, Error> {
        self.consume();
        // After the end, which `ignore_eos` passes, there is nothing but its tokens.
        if self.beyond > 0 && !self.ended() {
            return Err(Error::Filter("a token that the grammar forbids is part of the answer".to_owned()));
        }
        self.matcher.compute_mask_or_eos().map_err(|error| Error::Filter(problem(&error)))
    }

    fn ended(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }
}

/// Why there is no mask.
fn problem(error: &dyn std::fmt::Display) -> String {
    let text = first_line(error);
    let problem = match text.as_str() {
        "NoExtensionBias" => "no token of the vocabulary continues the answer",
        text if text.contains("too many expressions") => "the limit `mask_expressions` is reached",
        text if text.contains("too many states") => "the limit `states` is reached",
        text if text.contains("Too many items") || text.contains("max items exceeded") => {
            "the limit `mask_items` is reached"
        }
        text if text.contains("Current row has") => {
            "too many alternatives are open: the grammar is ambiguous, or too wide"
        }
        text => text.strip_prefix("panic: ").unwrap_or(text),
    };
    format!("the grammar gives no mask: {problem}")
}

impl Filter for GrammarFilter {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        let prepared = loop {
            match self.masks.pop_front() {
                Some(mask) if mask.follows(history) => break Some(mask.allowed),
                Some(_) => {}
                None => break None,
            }
        };
        let allowed = prepared.unwrap_or_else(|| self.compute())?;
        candidates.retain(|id| (id as usize) < allowed.len() && allowed.is_allowed(id));
        Ok(())
    }

    fn name(&self) -> &str {
        "grammar"
    }

    fn accept(&mut self, token: u32) {
        self.pending.push(token);
    }

    fn rollback(&mut self, n: usize) {
        let pending = self.pending.len().min(n);
        self.pending.truncate(self.pending.len() - pending);
        let n = n - pending;
        let beyond = self.beyond.min(n);
        self.beyond -= beyond;
        // An error stays in the matcher here, too.
        let _ = self.matcher.rollback(n - beyond);
    }

    fn fork(&self) -> Option<Box<dyn Filter>> {
        let matcher = self.matcher.deep_clone();
        let (pending, beyond) = (self.pending.clone(), self.beyond);
        Some(Box::new(GrammarFilter { matcher, pending, beyond, masks: VecDeque::new() }))
    }

    fn prepares(&self) -> bool {
        true
    }

    fn prepare(&mut self, history: History) {
        // Those of proposals that were not sampled.
        self.masks.retain(|mask| mask.len < history.tokens.len());
        let (len, last) = (history.tokens.len(), history.tokens.last().copied());
        self.consume();
        // What follows a forbidden token is never sampled.
        if self.beyond == 0 || self.ended() {
            let allowed = self.compute();
            self.masks.push_back(Mask { len, last, allowed });
        }
    }
}
