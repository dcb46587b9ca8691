//! An engine on a thread of its own.

mod generation;
mod status;
mod worker;

pub use generation::Generation;

use crate::{Engine, Error, Load, Request, SeqId};
use async_channel::{Receiver, Sender};
use status::{Reply, Status};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use trine_text::Tokenizer;
use worker::Worker;

/// A handle to an engine that runs on its own thread. Clones share the engine; threads and async tasks may use them at once.
///
/// What waits for the engine has two forms, as [`Handle::submit`] for threads and [`Handle::submit_async`] for async tasks, with any
/// executor. On the engine's own thread, where filters run, both fail with [`Error::OwnThread`].
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
/// handle.shutdown()?;
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Handle {
    commands: Sender<Command>,
    tokenizer: Arc<Tokenizer>,
    status: Arc<Status>,
    /// Closed when the thread has ended.
    running: Receiver<Infallible>,
}

/// Commands to the engine's thread.
enum Command {
    /// A request, and when it came.
    Submit(Box<Request>, Instant, Reply<Result<Vec<Generation>, Error>>),
    Cancel(SeqId),
    /// A generation that was full has room again.
    Resume(SeqId),
    ClearPrefixCache,
    Ping(Reply<()>),
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
        let (guard, running) = async_channel::bounded(1);
        let own = commands.downgrade();
        let run = move || {
            // The last to be dropped.
            let _guard = guard;
            match make().and_then(|mut engine| engine.calibrate().map(|()| engine).map_err(E::from)) {
                Ok(engine) => {
                    let status = Arc::new(Status::here(engine.load()));
                    let _ = ready.send_blocking(Ok((engine.tokenizer().clone(), status.clone())));
                    Worker::new(engine, inbox, own, status).run();
                }
                Err(error) => {
                    let _ = ready.send_blocking(Err(error));
                }
            }
        };
        let thread = std::thread::Builder::new().name("trine-engine".to_owned()).spawn(run);
        thread.map_err(|source| {
            let threads = trine_backend::Error::Threads(source);
            Error::Model(threads.into())
        })?;
        let (tokenizer, status) = made.recv_blocking().map_err(|_| Error::Panicked)??;
        Ok(Handle { commands, tokenizer, status, running })
    }

    /// The tokenizer of the model.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Submits a request. It waits until the engine has taken it, not until it is answered.
    ///
    /// # Errors
    /// Those of [`Engine::submit`]; [`Error::ShutDown`] or [`Error::Panicked`] when the engine is gone; [`Error::OwnThread`].
    pub fn submit(&self, request: Request) -> Result<Generation, Error> {
        request.one_answer()?;
        Ok(self.submit_all(request)?.remove(0))
    }

    /// Submits a request of several answers, as [`Engine::submit_all`]: a generation for each, in order of their index.
    ///
    /// # Errors
    /// Those of [`Engine::submit_all`] and [`Handle::submit`].
    pub fn submit_all(&self, request: Request) -> Result<Vec<Generation>, Error> {
        let answer = self.send_request(request)?;
        answer.recv_blocking().map_err(|_| self.status.gone())?
    }

    /// [`Handle::submit`] for async tasks.
    ///
    /// # Errors
    /// Those of [`Handle::submit`].
    pub async fn submit_async(&self, request: Request) -> Result<Generation, Error> {
        request.one_answer()?;
        Ok(self.submit_all_async(request).await?.remove(0))
    }

    /// [`Handle::submit_all`] for async tasks.
    ///
    /// # Errors
    /// Those of [`Handle::submit_all`].
    pub async fn submit_all_async(&self, request: Request) -> Result<Vec<Generation>, Error> {
        let answer = self.send_request(request)?;
        answer.recv().await.map_err(|_| self.status.gone())?
    }

    /// A long text is encoded on the caller's thread, not on the engine's.
    fn send_request(&self, mut request: Request) -> Result<Receiver<Result<Vec<Generation>, Error>>, Error> {
        let came = Instant::now();
        request.prompt = request.prompt.into_tokens(&self.tokenizer).into();
        self.status.check_thread()?;
        self.status.arrive(request.users());
        self.send(|reply| Command::Submit(Box::new(request), came, reply))
    }

    /// Cancels a request: its last update is [`FinishReason::Cancelled`](crate::FinishReason). Does not wait, and does nothing when the
    /// request has finished.
    pub fn cancel(&self, sequence: SeqId) {
        let _ = self.commands.try_send(Command::Cancel(sequence));
    }

    /// Forgets the keys and values of earlier requests, after the current step; does not wait for it. Requests that run keep theirs.
    pub fn clear_prefix_cache(&self) {
        let _ = self.commands.try_send(Command::ClearPrefixCache);
    }

    /// How busy the engine was when the current step began, or when it last did something; requests that came since wait. Waits for nothing.
    ///
    /// # Errors
    /// [`Error::ShutDown`] or [`Error::Panicked`] when the engine is gone.
    pub fn load(&self) -> Result<Load, Error> {
        self.status.load()
    }

    /// Waits until the engine takes commands again, when the current step ends: it does not hang, and [`Handle::load`] is of now.
    ///
    /// # Errors
    /// [`Error::ShutDown`] or [`Error::Panicked`] when the engine is gone; [`Error::OwnThread`].
    pub fn ping(&self) -> Result<(), Error> {
        self.send(Command::Ping)?.recv_blocking().map_err(|_| self.status.gone())
    }

    /// [`Handle::ping`] for async tasks.
    ///
    /// # Errors
    /// Those of [`Handle::ping`].
    pub async fn ping_async(&self) -> Result<(), Error> {
        self.send(Command::Ping)?.recv().await.map_err(|_| self.status.gone())
    }

    /// Cancels all requests, ends the engine's thread and waits for it, until the current step ends. Generations get
    /// [`FinishReason::Cancelled`](crate::FinishReason); later requests fail with [`Error::ShutDown`].
    ///
    /// # Errors
    /// [`Error::Panicked`] if the thread panicked instead; [`Error::OwnThread`].
    pub fn shutdown(&self) -> Result<(), Error> {
        self.send_shutdown()?;
        let _ = self.running.recv_blocking();
        self.status.check_panicked()
    }

    /// [`Handle::shutdown`] for async tasks. When it is dropped while it waits, the thread ends all the same.
    ///
    /// # Errors
    /// Those of [`Handle::shutdown`].
    pub async fn shutdown_async(&self) -> Result<(), Error> {
        self.send_shutdown()?;
        let _ = self.running.recv().await;
        self.status.check_panicked()
    }

    fn send_shutdown(&self) -> Result<(), Error> {
        self.status.check_thread()?;
        // One that has ended already is not told again.
        let _ = self.commands.try_send(Command::Shutdown);
        Ok(())
    }

    /// Sends a command, whose answer will be received by what this returns. The channel of commands is never full.
    fn send<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<Receiver<T>, Error> {
        self.status.check_thread()?;
        let (reply, answer) = Reply::new(self.status.clone());
        self.commands.try_send(command(reply)).map_err(|_| self.status.gone())?;
        Ok(answer)
    }
}
