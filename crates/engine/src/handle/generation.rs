use super::Command;
use super::status::Status;
use crate::{Answer, Error, FinishReason, SeqId, Timing, Token, Update, Usage};
use async_channel::{Receiver, Sender};
use futures_core::Stream;
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, ready};

/// The answer to a request, as it is generated. When it is dropped, the request is cancelled within one step, whether it waits, reads its
/// prompt or generates.
///
/// Updates come through a channel that holds 16 of them: as long as nobody takes any, this sequence is paused, and no other. Threads wait with
/// [`Generation::recv`] or [`Generation::iter`]; async tasks await [`Generation::next_async`], with any executor, or use it as a [`Stream`]:
///
/// ```
/// use futures_util::{StreamExt, stream::select_all};
/// use trine_engine::{Error, Handle, Request, Sampling, Update};
///
/// async fn tell(handle: &Handle, prompts: [&str; 2]) -> Result<(), Error> {
///     let mut stories = Vec::new();
///     for prompt in prompts {
///         let sampling = Sampling { max_tokens: Some(8), ..Sampling::greedy() };
///         let story = handle.submit_async(Request::new(prompt, sampling)).await?;
///         stories.push(story.map(move |update| (prompt, update)));
///     }
///     let mut updates = select_all(stories);
///     while let Some((prompt, update)) = updates.next().await {
///         if let Update::Token(token) = update {
///             println!("{prompt}: {}", token.text);
///         }
///     }
///     handle.shutdown_async().await
/// }
/// # use trine_engine::{Engine, EngineOptions};
/// # use trine_model::{DeviceOptions, EMBEDDED, Language, ModelOptions, load, open_file};
/// # let handle = Handle::spawn(|| {
/// #     let file = open_file(EMBEDDED, &Default::default()).map_err(trine_model::Error::from)?;
/// #     let mut go_on = |_| std::ops::ControlFlow::Continue(());
/// #     let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut go_on)?;
/// #     Engine::new(runner, Language::of(&file)?.tokenizer.into(), &EngineOptions::default())
/// # })?;
///
/// let runtime = tokio::runtime::Runtime::new().unwrap();
/// runtime.block_on(tell(&handle, ["Once upon a time", "The little dog"]))?;
/// # Ok::<(), Error>(())
/// ```
pub struct Generation {
    id: SeqId,
    updates: Pin<Box<Receiver<Update>>>,
    commands: Sender<Command>,
    shared: Arc<Shared>,
    status: Arc<Status>,
    finished: bool,
}

/// What a generation and the engine's thread share beside the channel.
#[derive(Default)]
pub struct Shared {
    /// Set when the sequence is paused because the channel is full.
    pub paused: AtomicBool,
    /// Updates that found the channel full when the engine was shut down.
    rest: Mutex<VecDeque<Update>>,
}

impl Shared {
    pub fn rest(&self) -> MutexGuard<'_, VecDeque<Update>> {
        self.rest.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Generation {
    pub(super) fn new(
        id: SeqId,
        updates: Receiver<Update>,
        commands: Sender<Command>,
        shared: Arc<Shared>,
        status: Arc<Status>,
    ) -> Generation {
        Generation { id, updates: Box::pin(updates), commands, shared, status, finished: false }
    }

    /// The id of its sequence, for [`Handle::cancel`](crate::Handle::cancel).
    pub fn id(&self) -> SeqId {
        self.id
    }

    /// Waits for the next update; `None` after [`Update::Finished`]. On the engine's own thread the generation ends with
    /// [`Error::OwnThread`].
    pub fn recv(&mut self) -> Option<Update> {
        if self.finished {
            return None;
        }
        if let Err(error) = self.status.check_thread() {
            return Some(self.abandon(error));
        }
        let update = self.updates.recv_blocking().ok();
        Some(self.taken(update))
    }

    /// [`Generation::recv`] for async tasks. It may be dropped while it waits, without losing an update.
    pub async fn next_async(&mut self) -> Option<Update> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }

    /// [`Generation::recv`] until the end.
    pub fn iter(&mut self) -> impl Iterator<Item = Update> {
        std::iter::from_fn(|| self.recv())
    }

    /// Cancels the request and ends with an error.
    fn abandon(&mut self, error: Error) -> Update {
        let _ = self.commands.try_send(Command::Cancel(self.id));
        self.finished = true;
        failed(error)
    }

    /// Wakes a sequence that rests, and notes the end. Without an update the engine's thread is gone.
    fn taken(&mut self, update: Option<Update>) -> Update {
        if self.shared.paused.swap(false, Ordering::SeqCst) {
            let _ = self.commands.try_send(Command::Resume(self.id));
        }
        let update = update.or_else(|| self.shared.rest().pop_front());
        let update = update.unwrap_or_else(|| failed(self.status.gone()));
        self.finished = matches!(update, Update::Finished { .. });
        update
    }

    /// Waits for the end, and returns the tokens that were not received yet. Those of a request that was cancelled, or whose engine was shut down,
    /// end with [`FinishReason::Cancelled`](crate::FinishReason).
    ///
    /// # Errors
    /// When the request fails on the way.
    pub fn answer(mut self) -> Result<Answer, Error> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        loop {
            match self.recv() {
                Some(Update::Progress(_) | Update::Prompt(_)) => {}
                Some(Update::Token(Token { id, text: more, .. })) => {
                    tokens.push(id);
                    text.push_str(&more);
                }
                Some(Update::Finished { finish_reason: FinishReason::Failed(error), .. }) => return Err(error),
                Some(Update::Finished { text: rest, finish_reason, usage, timing }) => {
                    text.push_str(&rest);
                    return Ok(Answer { text, tokens, finish_reason, usage, timing });
                }
                None => return Err(self.status.gone()),
            }
        }
    }
}

/// The end of a generation that the engine does not end.
fn failed(error: Error) -> Update {
    let (usage, timing) = (Usage::default(), Timing::default());
    Update::Finished { text: String::new(), finish_reason: FinishReason::Failed(error), usage, timing }
}

impl Stream for Generation {
    type Item = Update;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Option<Update>> {
        if self.finished {
            return Poll::Ready(None);
        }
        if let Err(error) = self.status.check_thread() {
            return Poll::Ready(Some(self.abandon(error)));
        }
        let update = ready!(self.updates.as_mut().poll_next(context));
        Poll::Ready(Some(self.taken(update)))
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.commands.try_send(Command::Cancel(self.id));
        }
    }
}
