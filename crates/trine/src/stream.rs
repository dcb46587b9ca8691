use crate::Error;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use trine_engine::{Answer, Engine, Finish, SeqId, Token, Update, Usage};

/// An answer as it is generated. When it ends, [`Stream::finish`] tells why.
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
    ready: VecDeque<Token>,
    end: Option<(Finish, Usage)>,
}

impl<'a> Stream<'a> {
    pub(crate) fn new(engine: &'a mut Engine, sequence: SeqId) -> Stream<'a> {
        Stream { engine, sequence, stop: None, ready: VecDeque::new(), end: None }
    }

    /// Ends with [`Finish::Cancelled`] as soon as `flag` is set: at most one batch later, also while the prompt is still being read.
    pub fn stop_when(mut self, flag: Arc<AtomicBool>) -> Stream<'a> {
        self.stop = Some(flag);
        self
    }

    /// Why the answer ended; `None` as long as it goes on.
    pub fn finish(&self) -> Option<&Finish> {
        self.end.as_ref().map(|(finish, _)| finish)
    }

    /// What the answer took; `None` as long as it goes on.
    pub fn usage(&self) -> Option<Usage> {
        self.end.as_ref().map(|(_, usage)| *usage)
    }

    /// Waits for the whole answer.
    ///
    /// # Errors
    /// When a logit is not finite, or a filter ends the request.
    pub fn answer(mut self) -> Result<Answer, Error> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        for token in &mut self {
            let token = token?;
            tokens.push(token.id);
            text.push_str(&token.text);
        }
        let (finish, usage) = self.end.take().expect("nothing follows");
        Ok(Answer { text, tokens, finish, usage })
    }

    fn step(&mut self) {
        if self.stop.as_ref().is_some_and(|stop| stop.load(Relaxed)) {
            let usage = self.engine.cancel(self.sequence).unwrap_or_default();
            self.end = Some((Finish::Cancelled, usage));
            return;
        }
        self.engine.step(&mut |event| {
            if event.sequence == self.sequence {
                match event.kind.into() {
                    Update::Token(token) => self.ready.push_back(token),
                    Update::Finished { reason, usage } => self.end = Some((reason, usage)),
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
        match (self.ready.pop_front(), &mut self.end) {
            (Some(token), _) => Some(Ok(token)),
            (None, Some((finish @ Finish::Failed(_), _))) => {
                // An error is given once; what remains is that nothing follows.
                match std::mem::replace(finish, Finish::Cancelled) {
                    Finish::Failed(error) => Some(Err(error.into())),
                    _ => None,
                }
            }
            (None, _) => None,
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
