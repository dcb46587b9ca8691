use crate::Error;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_engine::{Answer, Engine, FinishReason, PromptToken, SeqId, Timing, Token, Update, Usage};

/// An answer as it is generated. When it ends, [`Stream::finish_reason`] tells why.
///
/// ```
/// use trine::prelude::*;
///
/// let mut llm = Llm::embedded()?; // or Llm::open("model.gguf")?
/// let sampling = Sampling { max_tokens: Some(64), ..Sampling::preset("balanced")? };
/// for token in llm.stream("Once upon a time", &sampling)? {
///     print!("{}", token?.text);
/// }
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Stream<'a> {
    engine: &'a mut Engine,
    sequence: SeqId,
    stop: Option<Arc<AtomicBool>>,
    /// Tokens of the prompt, when their log probabilities were requested.
    prompt: Vec<PromptToken>,
    ready: VecDeque<Token>,
    /// What [`Stream::rest`] gives.
    rest: String,
    /// Why the answer ended, unless the iterator has given the error it failed with; and what it took.
    end: Option<(Option<FinishReason>, Usage, Timing)>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(engine: &'a mut Engine, sequence: SeqId) -> Stream<'a> {
        Stream {
            engine,
            sequence,
            stop: None,
            prompt: Vec::new(),
            ready: VecDeque::new(),
            rest: String::new(),
            end: None,
        }
    }

    /// Ends with [`FinishReason::Cancelled`] as soon as `flag` is set: at most one batch later, also while the prompt is still being read.
    pub fn stop_when(mut self, flag: Arc<AtomicBool>) -> Stream<'a> {
        self.stop = Some(flag);
        self
    }

    /// Runs at most `chunk` tokens of the prompt, and tells how many are done, of how many; `None` when the answer has begun or ended.
    /// The iterator does the same without a break, in chunks of [`EngineOptions::prefill_chunk`](trine_engine::EngineOptions).
    ///
    /// # Panics
    /// With a chunk of 0.
    pub fn read_prompt(&mut self, chunk: usize) -> Option<(usize, usize)> {
        if !self.ready.is_empty() || self.end.is_some() {
            return None;
        }
        let before = self.engine.set_prefill_chunk(chunk);
        self.step();
        self.engine.set_prefill_chunk(before);
        self.engine.prompt_progress(self.sequence).filter(|_| self.ready.is_empty() && self.end.is_none())
    }

    /// The tokens of the prompt with their log probabilities, when [`Sampling::prompt_logprobs`](trine_engine::Sampling) asks for them: all as soon
    /// as there is a token of the answer.
    pub fn prompt_logprobs(&self) -> &[PromptToken] {
        &self.prompt
    }

    /// Why the answer ended; `None` as long as it goes on, and after the iterator has given the error that it failed with.
    pub fn finish_reason(&self) -> Option<&FinishReason> {
        self.end.as_ref()?.0.as_ref()
    }

    /// What the answer took; `None` as long as it goes on.
    pub fn usage(&self) -> Option<Usage> {
        self.end.as_ref().map(|(_, usage, _)| *usage)
    }

    /// Text without a token of its own, after all others: what was held back as the beginning of a stop string when the answer was cancelled or
    /// failed. Otherwise empty.
    pub fn rest(&self) -> &str {
        &self.rest
    }

    /// Waits for the end, and collects the tokens that the iterator has not given yet: the whole answer, if it has given none.
    ///
    /// # Errors
    /// When a logit is not finite, or a filter ends the request; and [`Error::AlreadyFailed`].
    pub fn answer(mut self) -> Result<Answer, Error> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        for token in &mut self {
            let token = token?;
            tokens.push(token.id);
            text.push_str(&token.text);
        }
        text.push_str(&self.rest);
        match self.end.take() {
            Some((Some(finish_reason), usage, timing)) => Ok(Answer { text, tokens, finish_reason, usage, timing }),
            _ => Err(Error::AlreadyFailed),
        }
    }

    fn step(&mut self) {
        if self.stop.as_ref().is_some_and(|stop| stop.load(Relaxed)) {
            let (text, usage, timing) = self.engine.cancel(self.sequence).unwrap_or_default();
            self.rest = text;
            self.end = Some((Some(FinishReason::Cancelled), usage, timing));
            return;
        }
        self.engine.step(&mut |event| {
            if event.sequence == self.sequence {
                match event.kind.into() {
                    Update::Progress(_) => {}
                    Update::Prompt(token) => self.prompt.push(token),
                    Update::Token(token) => self.ready.push_back(token),
                    Update::Finished { text, finish_reason, usage, timing } => {
                        self.rest = text;
                        self.end = Some((Some(finish_reason), usage, timing));
                    }
                }
            }
            ControlFlow::Continue(())
        });
    }
}

impl Iterator for Stream<'_> {
    type Item = Result<Token, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() && self.end.is_none() {
            self.step();
        }
        if let Some(token) = self.ready.pop_front() {
            return Some(Ok(token));
        }
        let (finish, ..) = self.end.as_mut()?;
        match finish.take() {
            Some(FinishReason::Failed(error)) => Some(Err(error.into())),
            other => {
                *finish = other;
                None
            }
        }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.engine.cancel(self.sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::failing::{Failing, Faults};
    use crate::prelude::*;
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use trine_model::load;

    const PROMPT: &str = "Once upon a time";

    /// The third pass fails, that of the prompt is the first.
    #[test]
    fn a_stream_that_failed_never_becomes_an_answer() {
        let faults = Arc::<Faults>::default();
        let open = Options::default().open_on(EMBEDDED, |file, device| {
            let inner = load(file, device, Default::default(), &mut |_| ControlFlow::Continue(()))?;
            Ok(Box::new(Failing { inner, faults: faults.clone() }))
        });
        let (mut llm, sampling) = (open.unwrap(), Sampling { max_tokens: Some(8), ..Sampling::greedy() });
        faults.forward.store(3, Relaxed);
        let mut failing = llm.stream(PROMPT, &sampling).unwrap();
        assert!(failing.by_ref().take(2).all(|token| token.is_ok()));
        assert!(failing.finish_reason().is_none() && failing.usage().is_none());
        assert!(matches!(failing.next(), Some(Err(Error::Engine(trine_engine::Error::Forward(_))))));
        assert!(failing.next().is_none() && failing.finish_reason().is_none() && failing.usage().is_some());
        assert!(matches!(failing.answer(), Err(Error::AlreadyFailed)));
        // What may be the beginning of a stop string is held back until then.
        let text = llm.generate(PROMPT, &Sampling { max_tokens: Some(2), ..sampling.clone() }).unwrap().text;
        let held = Sampling { stop: vec![format!("{text}never")], ..sampling.clone() };
        faults.forward.store(3, Relaxed);
        let mut failing = llm.stream(PROMPT, &held).unwrap();
        assert!(failing.by_ref().map_while(Result::ok).all(|token| token.text.is_empty()));
        assert_eq!(failing.rest(), text);
        drop(failing);
        let stop = Arc::<AtomicBool>::default();
        let mut stopped = llm.stream(PROMPT, &held).unwrap().stop_when(stop.clone());
        assert!(stopped.by_ref().take(2).all(|token| token.unwrap().text.is_empty()));
        stop.store(true, Relaxed);
        assert_eq!(stopped.answer().unwrap().text, text);
        // The error is the answer's if the iterator has not given it.
        faults.forward.store(3, Relaxed);
        assert!(matches!(llm.generate(PROMPT, &sampling), Err(Error::Engine(trine_engine::Error::Forward(_)))));
        // What the iterator has given is no part of the answer.
        let whole = llm.generate(PROMPT, &sampling).unwrap();
        let mut rest = llm.stream(PROMPT, &sampling).unwrap();
        assert!(rest.by_ref().take(2).all(|token| token.is_ok()));
        assert_eq!(rest.answer().unwrap().tokens, whole.tokens[2..]);
    }
}
