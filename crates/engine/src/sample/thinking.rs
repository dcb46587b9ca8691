use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};
use std::sync::Arc;
use trine_text::{ChatFormat, EncodeOptions, REASONING_FORMATS, ReasoningFormat, Tokenizer};

/// Tokens by which the budget is exceeded at most, so that no character is broken.
const CHARACTER: usize = 3;

/// Whether a model has tags of thinking, which a budget needs.
pub fn thinks(tokenizer: &Tokenizer) -> bool {
    tags(tokenizer).is_some()
}

/// The tags of a model: those that a chat template of it shows, or else those that are tokens.
pub(super) fn tags(tokenizer: &Tokenizer) -> Option<&'static ReasoningFormat> {
    let shown = tokenizer.templates().iter().find_map(|(_, source)| ChatFormat::of(source).reasoning);
    let is_token = |tag: &str| tokenizer.id(tag).is_some();
    let tokens = || REASONING_FORMATS.iter().copied().find(|format| is_token(format.open) && is_token(format.close));
    shown.or_else(tokens)
}

/// Forces the closing tag of thinking after some tokens of it, as llama.cpp's `reasoning-budget`. Thinking may begin in the prompt; its tokens
/// are counted in the answer, all parts of it together.
struct Thinking {
    budget: usize,
    tags: &'static ReasoningFormat,
    /// The tokens of the closing tag.
    close: Vec<u32>,
    tokenizer: Arc<Tokenizer>,
    /// Tokens of the request that were looked at.
    seen: usize,
    /// The end of their text, as long as the longer tag.
    tail: Vec<u8>,
    /// Whether they end within thinking.
    inside: bool,
    /// Tokens of the answer within thinking.
    thought: usize,
    /// How many tokens of the closing tag were forced, once that began.
    forced: Option<usize>,
}

impl Thinking {
    /// Takes note of a token, and whether the answer has it.
    fn see(&mut self, token: u32, answer: bool) {
        if let Some(forced) = self.forced {
            let done = forced + 1 == self.close.len();
            self.forced = Some(forced + 1).filter(|_| !done);
            self.inside = !done;
            return;
        }
        self.thought += usize::from(self.inside && answer);
        let ReasoningFormat { open, close, .. } = self.tags;
        for &byte in self.tokenizer.piece(token).unwrap_or_default() {
            self.tail.push(byte);
            let tag = if self.inside { close } else { open };
            if self.tail.ends_with(tag.as_bytes()) {
                self.inside = !self.inside;
                self.tail.clear();
            }
        }
        let more = self.tail.len().saturating_sub(open.len().max(close.len()));
        self.tail.drain(..more);
    }

    /// Whether no character is incomplete.
    fn complete(&self) -> bool {
        let last = self.tail.utf8_chunks().last().map_or(&[][..], |chunk| chunk.invalid());
        std::str::from_utf8(last).err().is_none_or(|error| error.error_len().is_some())
    }
}

impl Filter for Thinking {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        while let Some(&token) = history.tokens.get(self.seen) {
            self.see(token, self.seen >= history.prompt);
            self.seen += 1;
        }
        let more = self.thought.checked_sub(self.budget).filter(|_| self.inside && self.forced.is_none());
        if more.is_some_and(|more| more >= CHARACTER || self.complete()) {
            self.forced = Some(0);
            self.tail.clear();
        }
        if let Some(forced) = self.forced {
            let next = self.close[forced];
            candidates.retain(|id| id == next);
        }
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "thinking_budget",
    params: &[Param {
        name: "thinking_budget",
        help: "Maximum number of tokens to think, after which the closing tag is forced",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Limit(&mut sampling.thinking_budget),
    }],
    reorders: true,
    truncates: false,
    build: |sampling, tokenizer| {
        let (budget, tags) = (sampling.thinking_budget?, tags(tokenizer)?);
        let close = tokenizer.encode(tags.close, EncodeOptions { parse_special: true, add_special: false });
        Some(Box::new(Thinking {
            budget,
            tags,
            close,
            tokenizer: tokenizer.clone(),
            seen: 0,
            tail: Vec::new(),
            inside: false,
            thought: 0,
            forced: None,
        }))
    },
};
