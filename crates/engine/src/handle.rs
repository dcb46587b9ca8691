//! An engine on a thread of its own.

use crate::{
    Answer, Engine, Error, EventKind, FinishReason, Load, Prompt, Request, SeqId, Token, Update, Usage, prompt_tokens,
};
use async_channel::{Receiver, Sender, TrySendError};
use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use trine_text::Tokenizer;

/// Updates that a generation holds before its sequence is paused.
const CAPACITY: usize = 32;

/// A handle to an engine that runs on its own thread. Clones share the engine; threads and async tasks may use them at once.
///
/// The thread ends when [`Handle::shutdown`] is called, or when all handles and generations are dropped.
///
/// ```
/// use trine_engine::{Engine, EngineOptions, Error, Handle, Request, Sampling};
/// use trine_model::{DeviceOptions, EMBEDDED, Language, ModelOptions, load, open_file};
///
/// let handle = Handle::spawn(|| {
///     let file = open_file(EMBEDDED, &Default::default()).map_err(trine_model::Error::from)?;
///     let mut go_on = |_| std::ops::ControlFlow::Continue(());
///     let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut go_on)?;
///     let tokenizer = Language::of(&file)?.tokenizer.into();
///     Engine::new(runner, tokenizer, &EngineOptions::default())
/// })?;
/// let stories = ["Once upon a time", "The little dog"].map(|prompt| {
///     let handle = handle.clone();
///     let sampling = Sampling { max_tokens: Some(8), ..Sampling::greedy() };
///     std::thread::spawn(move || handle.submit(Request::new(prompt, sampling))?.answer())
/// });
/// for story in stories {
///     println!("{}", story.join().unwrap()?.text);
/// }
/// handle.shutdown();
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    tokenizer: Arc<Tokenizer>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
    panicked: Arc<AtomicBool>,
}

/// Why an engine's thread does not answer.
fn gone(panicked: &AtomicBool) -> Error {
    if panicked.load(Ordering::SeqCst) { Error::Panicked } else { Error::ShutDown }
}

/// The answer to a request, as it is generated. When it is dropped, the request is cancelled within one step, whether it waits, reads its
/// prompt or generates.
///
/// Updates come through a channel that holds 32 of them: as long as nobody takes any, this sequence is paused, and no other. Threads wait with
/// [`Generation::recv`] or iterate; async tasks await [`Generation::next_async`], with any executor.
pub struct Generation {
    id: SeqId,
    updates: Receiver<Update>,
    commands: Sender<Command>,
    shared: Arc<Shared>,
    panicked: Arc<AtomicBool>,
    finished: bool,
}

/// What a generation and the engine's thread share beside the channel.
#[derive(Default)]
struct Shared {
    /// Set when the sequence is paused because the channel is full.
    paused: AtomicBool,
    /// Updates that found the channel full when the engine was shut down.
    rest: Mutex<VecDeque<Update>>,
}

impl Shared {
    fn rest(&self) -> MutexGuard<'_, VecDeque<Update>> {
        self.rest.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Commands to the engine's thread.
enum Command {
    Submit(Box<Request>, Sender<Result<Generation, Error>>),
    Cancel(SeqId),
    /// A generation that was full has room again.
    Resume(SeqId),
    Load(Sender<Load>),
    Shutdown,
}

impl Handle {
    /// Starts a thread, makes an engine on it and runs it there. CPU affinity thus binds the thread that computes.
    ///
    /// # Errors
    /// Those of `make`, and [`Error::Panicked`] when it panics.
    pub fn spawn<E: From<Error> + Send + 'static>(
        make: impl FnOnce() -> Result<Engine, E> + Send + 'static,
    ) -> Result<Handle, E> {
        let (commands, inbox) = async_channel::unbounded();
        let (ready, made) = async_channel::bounded(1);
        let panicked = Arc::<AtomicBool>::default();
        let (own, flag) = (commands.downgrade(), panicked.clone());
        let run = move || match make() {
            Ok(engine) => {
                let _ = ready.send_blocking(Ok(engine.tokenizer().clone()));
                Worker { engine, inbox, commands: own, outlets: HashMap::new(), panicked: flag }.run();
            }
            Err(error) => {
                let _ = ready.send_blocking(Err(error));
            }
        };
        let thread = std::thread::Builder::new().name("trine-engine".to_owned()).spawn(run);
        let thread = thread.map_err(|source| {
            let threads = trine_backend::Error::Threads(source);
            Error::Model(threads.into())
        })?;
        let tokenizer = made.recv_blocking().map_err(|_| Error::Panicked)??;
        Ok(Handle { commands, tokenizer, thread: Arc::new(Mutex::new(Some(thread))), panicked })
    }

    /// The tokenizer of the model.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    fn gone(&self) -> Error {
        gone(&self.panicked)
    }

    /// Submits a request. It waits until the engine has taken it, not until it is answered.
    ///
    /// # Errors
    /// Those of [`Engine::submit`], and [`Error::ShutDown`] or [`Error::Panicked`] when the engine is gone.
    pub fn submit(&self, request: Request) -> Result<Generation, Error> {
        let (reply, answer) = async_channel::bounded(1);
        let request = Box::new(self.encoded(request));
        self.commands.send_blocking(Command::Submit(request, reply)).map_err(|_| self.gone())?;
        answer.recv_blocking().map_err(|_| self.gone())?
    }

    /// [`Handle::submit`] for async tasks.
    ///
    /// # Errors
    /// Those of [`Handle::submit`].
    pub async fn submit_async(&self, request: Request) -> Result<Generation, Error> {
        let (reply, answer) = async_channel::bounded(1);
        let request = Box::new(self.encoded(request));
        self.commands.send(Command::Submit(request, reply)).await.map_err(|_| self.gone())?;
        answer.recv().await.map_err(|_| self.gone())?
    }

    /// The request with a prompt of tokens: a long text is encoded on the caller's thread, not on the engine's.
    fn encoded(&self, mut request: Request) -> Request {
        if let Prompt::Text(text) = &request.prompt {
            request.prompt = prompt_tokens(&self.tokenizer, text).into();
        }
        request
    }

    /// Cancels a request: its last update is [`FinishReason::Cancelled`]. Does nothing when it has finished.
    pub fn cancel(&self, sequence: SeqId) {
        let _ = self.commands.send_blocking(Command::Cancel(sequence));
    }

    /// How busy the engine is.
    ///
    /// # Errors
    /// [`Error::ShutDown`] or [`Error::Panicked`] when the engine is gone.
    pub fn load(&self) -> Result<Load, Error> {
        let (reply, answer) = async_channel::bounded(1);
        self.commands.send_blocking(Command::Load(reply)).map_err(|_| self.gone())?;
        answer.recv_blocking().map_err(|_| self.gone())
    }

    /// Cancels all requests, ends the engine's thread and waits for it. Generations get [`FinishReason::Cancelled`]; later calls fail with
    /// [`Error::ShutDown`], or [`Error::Panicked`] if the thread panicked before. Blocks until the current step ends.
    pub fn shutdown(&self) {
        let _ = self.commands.send_blocking(Command::Shutdown);
        // Whoever else shuts it down waits for the lock until it has ended.
        let mut thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(thread) = thread.take() {
            // A panic has been reported on the thread itself.
            let _ = thread.join();
        }
    }
}

impl Generation {
    /// The id of its sequence, for [`Handle::cancel`].
    pub fn id(&self) -> SeqId {
        self.id
    }

    /// Waits for the next update; `None` after [`Update::Finished`].
    pub fn recv(&mut self) -> Option<Update> {
        if self.finished {
            return None;
        }
        let update = self.updates.recv_blocking().ok();
        self.taken(update)
    }

    /// [`Generation::recv`] for async tasks. It may be dropped while it waits, without losing an update.
    pub async fn next_async(&mut self) -> Option<Update> {
        if self.finished {
            return None;
        }
        let update = self.updates.recv().await.ok();
        self.taken(update)
    }

    /// Wakes a sequence that rests, and notes the end. Without an update the engine's thread is gone.
    fn taken(&mut self, update: Option<Update>) -> Option<Update> {
        if self.shared.paused.swap(false, Ordering::SeqCst) {
            let _ = self.commands.try_send(Command::Resume(self.id));
        }
        let update = update.or_else(|| self.shared.rest().pop_front());
        let update = update.unwrap_or_else(|| Update::Finished {
            reason: FinishReason::Failed(gone(&self.panicked)),
            usage: Usage::default(),
        });
        self.finished = matches!(update, Update::Finished { .. });
        Some(update)
    }

    /// Waits for the end, and returns the tokens that were not received yet.
    ///
    /// # Errors
    /// When the request fails on the way.
    pub fn answer(mut self) -> Result<Answer, Error> {
        let (mut text, mut tokens) = (String::new(), Vec::new());
        loop {
            match self.recv() {
                Some(Update::Token(Token { id, text: more, .. })) => {
                    tokens.push(id);
                    text.push_str(&more);
                }
                Some(Update::Finished { reason: FinishReason::Failed(error), .. }) => return Err(error),
                Some(Update::Finished { reason: finish_reason, usage }) => {
                    return Ok(Answer { text, tokens, finish_reason, usage });
                }
                None => return Err(gone(&self.panicked)),
            }
        }
    }
}

impl Iterator for Generation {
    type Item = Update;

    fn next(&mut self) -> Option<Update> {
        self.recv()
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.commands.try_send(Command::Cancel(self.id));
        }
    }
}

/// Where the updates of a sequence go.
struct Outlet {
    updates: Sender<Update>,
    /// Updates that found the channel full.
    held: VecDeque<Update>,
    shared: Arc<Shared>,
}

impl Outlet {
    /// Sends what is held, as far as there is room; whether all is sent.
    fn flush(&mut self) -> bool {
        while let Some(update) = self.held.pop_front() {
            match self.updates.try_send(update) {
                Ok(()) => {}
                Err(TrySendError::Full(update)) => {
                    self.held.push_front(update);
                    self.shared.paused.store(true, Ordering::SeqCst);
                    // Whoever takes an update from now on sees the flag and sends a command; whoever took one before left room.
                    if self.updates.is_full() {
                        return false;
                    }
                }
                // Nobody takes them any more: a command to cancel is on its way.
                Err(TrySendError::Closed(_)) => self.held.clear(),
            }
        }
        true
    }
}

/// The engine's thread.
struct Worker {
    engine: Engine,
    inbox: Receiver<Command>,
    commands: async_channel::WeakSender<Command>,
    outlets: HashMap<SeqId, Outlet>,
    panicked: Arc<AtomicBool>,
}

impl Drop for Worker {
    /// Drops the commands that nobody will obey, also after a panic: whoever waits for an answer finds its channel closed.
    fn drop(&mut self) {
        self.panicked.store(std::thread::panicking(), Ordering::SeqCst);
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
    }
}

impl Worker {
    fn run(mut self) {
        loop {
            // Without work there is nothing to do but to wait for a command, and without senders none comes.
            if self.engine.is_idle() {
                let Ok(command) = self.inbox.recv_blocking() else { break };
                if self.obey(command).is_break() {
                    break;
                }
            }
            // Those that are there now, and no later ones: commands must not keep sequences waiting.
            let commands: Vec<Command> =
                std::iter::from_fn(|| self.inbox.try_recv().ok()).take(self.inbox.len()).collect();
            if commands.into_iter().any(|command| self.obey(command).is_break()) {
                break;
            }
            if !self.engine.is_idle() {
                self.step();
            }
        }
        let waiting: Vec<SeqId> = self.outlets.keys().copied().collect();
        waiting.into_iter().for_each(|id| self.cancel(id));
        for (_, outlet) in self.outlets.drain() {
            *outlet.shared.rest() = outlet.held;
        }
    }

    fn obey(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Submit(request, reply) => {
                let generation = self.engine.submit(*request).and_then(|id| self.generation(id));
                // A caller that has gone drops its generation with the reply, which cancels it.
                let _ = reply.try_send(generation);
            }
            Command::Cancel(id) => self.cancel(id),
            Command::Resume(id) => {
                if self.flush(id) {
                    self.engine.pause(id, false);
                }
            }
            Command::Load(reply) => {
                let _ = reply.try_send(self.engine.load());
            }
            Command::Shutdown => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn generation(&mut self, id: SeqId) -> Result<Generation, Error> {
        let Some(commands) = self.commands.upgrade() else {
            self.engine.cancel(id);
            return Err(Error::ShutDown);
        };
        let (sender, updates) = async_channel::bounded(CAPACITY);
        let shared = Arc::<Shared>::default();
        self.outlets.insert(id, Outlet { updates: sender, held: VecDeque::new(), shared: shared.clone() });
        let panicked = self.panicked.clone();
        Ok(Generation { id, updates, commands, shared, panicked, finished: false })
    }

    fn cancel(&mut self, id: SeqId) {
        if let (Some(usage), Some(outlet)) = (self.engine.cancel(id), self.outlets.get_mut(&id)) {
            outlet.held.push_back(Update::Finished { reason: FinishReason::Cancelled, usage });
        }
        // A sequence that has ended may still hold updates that nobody takes any more.
        self.flush(id);
    }

    fn step(&mut self) {
        let Worker { engine, outlets, .. } = self;
        let mut touched = Vec::new();
        engine.step(&mut |event| {
            let Some(outlet) = outlets.get_mut(&event.sequence) else { return ControlFlow::Break(()) };
            if outlet.updates.is_closed() && matches!(event.kind, EventKind::Token { .. }) {
                return ControlFlow::Break(());
            }
            outlet.held.push_back(event.kind.into());
            if touched.last() != Some(&event.sequence) {
                touched.push(event.sequence);
            }
            ControlFlow::Continue(())
        });
        for id in touched {
            if !self.flush(id) {
                self.engine.pause(id, true);
            }
        }
    }

    /// Sends what a sequence's outlet holds; whether all is sent. With its last update the outlet goes.
    fn flush(&mut self, id: SeqId) -> bool {
        let Some(outlet) = self.outlets.get_mut(&id) else { return true };
        let finished = matches!(outlet.held.back(), Some(Update::Finished { .. }));
        let flushed = outlet.flush();
        if flushed && (finished || outlet.updates.is_closed()) {
            self.outlets.remove(&id);
        }
        flushed
    }
}
