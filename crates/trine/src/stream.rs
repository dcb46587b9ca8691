use crate::Error;
use crate::backend::{Backend, Cpu};
use crate::engine::sample::Logprob;
use crate::engine::{Engine, EventKind, Finish, SeqId, Usage};
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The token.
    pub id: u32,
    /// Text that became certain with it: often a word, sometimes none, or that of several tokens.
    pub text: String,
    /// The logarithm of its probability, when asked for.
    pub logprob: Option<f64>,
    /// The most likely tokens in its place, as many as asked for.
    pub top: Vec<Logprob>,
}

/// An answer as it is generated. When it ends, [`Stream::finish`] tells why.
pub struct Stream<'a, B: Backend = Cpu> {
    engine: &'a mut Engine<B>,
    sequence: SeqId,
    stop: Option<Arc<AtomicBool>>,
    ready: VecDeque<Token>,
    end: Option<(Finish, Usage)>,
}

impl<'a, B: Backend> Stream<'a, B> {
    pub(crate) fn new(engine: &'a mut Engine<B>, sequence: SeqId) -> Stream<'a, B> {
        Stream { engine, sequence, stop: None, ready: VecDeque::new(), end: None }
    }

    /// Ends with [`Finish::Cancelled`] as soon as `flag` is set: at most one batch later, also while the prompt is still being read.
    pub fn stop_when(mut self, flag: Arc<AtomicBool>) -> Stream<'a, B> {
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

    fn step(&mut self) {
        if self.stop.as_ref().is_some_and(|stop| stop.load(Relaxed)) {
            let usage = self.engine.cancel(self.sequence).unwrap_or_default();
            self.end = Some((Finish::Cancelled, usage));
            return;
        }
        self.engine.step(&mut |event| {
            if event.sequence == self.sequence {
                match event.kind {
                    EventKind::Token { id, text, logprob, top } => {
                        self.ready.push_back(Token { id, text: text.to_owned(), logprob, top: top.to_vec() });
                    }
                    EventKind::Finished { reason, usage } => self.end = Some((reason, usage)),
                }
            }
            ControlFlow::Continue(())
        });
    }
}

impl<B: Backend> Iterator for Stream<'_, B> {
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

impl<B: Backend> Drop for Stream<'_, B> {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.engine.cancel(self.sequence);
        }
    }
}
