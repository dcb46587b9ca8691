use crate::{Error, Progress};
use async_channel::{Receiver, Sender};
use std::future::{Future, IntoFuture};
use std::ops::ControlFlow;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A model that is being loaded on a thread of its own, for async tasks: [`Options::open_async`](crate::Options::open_async) and
/// [`Options::spawn_async`](crate::Options::spawn_async).
///
/// It is awaited, on any runtime. Dropping it, or the future that waits for it, cancels.
///
/// ```
/// use trine::prelude::*;
///
/// # fn run<T>(task: impl Future<Output = T>) -> T {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(task)
/// # }
/// # run(async {
/// let mut loading = Options::default().open_async(EMBEDDED)?;
/// while let Some(progress) = loading.next_async().await {
///     eprintln!("{} of {} bytes", progress.done, progress.total);
/// }
/// let llm = loading.await?;
/// # assert_eq!(llm.context(), llm.spec().context_length);
/// # Ok::<(), trine::Error>(())
/// # })?;
/// # Ok::<(), trine::Error>(())
/// ```
#[must_use = "it is cancelled when it is dropped"]
pub struct Loading<T> {
    progress: Receiver<Progress>,
    result: Receiver<Result<T, Error>>,
    cancelled: Arc<AtomicBool>,
}

/// What the thread that loads calls as it goes on.
pub(crate) type Note = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;

impl<T: Send + 'static> Loading<T> {
    /// Starts a thread that does this.
    pub(crate) fn start(load: impl FnOnce(Note) -> Result<T, Error> + Send + 'static) -> Result<Loading<T>, Error> {
        let (sender, progress) = async_channel::unbounded();
        let (done, result) = async_channel::bounded(1);
        let cancelled = Arc::new(AtomicBool::new(false));
        let note = note(sender, cancelled.clone());
        let run = move || {
            // Whoever waits may be gone.
            let _ = done.try_send(load(note));
        };
        let thread = std::thread::Builder::new().name("trine-load".to_owned()).spawn(run);
        thread.map_err(|source| trine_model::Error::from(trine_backend::Error::Threads(source)))?;
        Ok(Loading { progress, result, cancelled })
    }

    /// How far loading is, when that changes; `None` once all weights are loaded, or loading has failed.
    pub async fn next_async(&mut self) -> Option<Progress> {
        self.progress.recv().await.ok()
    }

    /// Gives up. What is awaited is [`trine_model::Error::Cancelled`] then, unless all weights are loaded.
    pub fn cancel(&self) {
        self.cancelled.store(true, Relaxed);
    }
}

fn note(sender: Sender<Progress>, cancelled: Arc<AtomicBool>) -> Note {
    Box::new(move |progress| {
        let _ = sender.try_send(progress);
        if cancelled.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

impl<T> Drop for Loading<T> {
    fn drop(&mut self) {
        self.cancelled.store(true, Relaxed);
    }
}

impl<T: Send + 'static> IntoFuture for Loading<T> {
    type Output = Result<T, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.result.recv().await.unwrap_or(Err(trine_engine::Error::Panicked.into())) })
    }
}
