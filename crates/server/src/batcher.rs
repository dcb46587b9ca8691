//! Texts of several requests for embeddings in one pass through the model.

use crate::recent::Typical;
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{io, thread};
use tokio::sync::oneshot;
use trine_api::{Problem, ProblemKind};
use trine_engine::Error;

/// Embeds texts, given by their tokens: a vector for each.
pub type Embed = dyn FnMut(&[&[u32]]) -> Result<Vec<Vec<f32>>, String> + Send;

/// How requests share passes.
#[derive(Clone, Copy, Debug)]
pub struct BatcherOptions {
    /// Requests that may wait.
    pub max_queued: usize,
    /// Texts of a pass at most.
    pub max_texts: usize,
    /// Tokens of a pass at most, unless a single text has more.
    pub max_tokens: usize,
    /// How long a request may wait for others to share its pass, when the model is free.
    pub max_wait: Duration,
}

/// What requests do at a moment, and what passes have done until then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatcherLoad {
    /// Requests that have texts in the pass under way, or had some in the last.
    pub running: usize,
    pub waiting: usize,
    pub passes: u64,
    pub texts: u64,
}

#[derive(Debug, Default)]
struct Counts {
    requests: AtomicUsize,
    running: AtomicUsize,
    passes: AtomicU64,
    texts: AtomicU64,
    /// From a request to its end.
    typical: Typical,
}

/// A request that waits or runs: it counts as long as this lives.
#[derive(Debug)]
pub struct Place(Arc<Counts>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// Embeds texts, on the thread that asks while nobody else does, or else on a thread of its own. A pass begins as soon as the one before it has
/// ended, with the texts that wait: one of each request in turn, so that a request of many texts does not keep others waiting. An embedding does
/// not depend on what shares its pass.
pub struct Batcher {
    sender: Sender<Request>,
    /// Whoever has the lock embeds, and leaves no request in the queue.
    worker: Arc<Mutex<Worker>>,
    counts: Arc<Counts>,
    max_queued: usize,
}

impl Batcher {
    /// Starts the thread, which ends when the batcher is dropped.
    ///
    /// # Errors
    /// When the system starts no thread.
    pub fn spawn(options: BatcherOptions, embed: Box<Embed>) -> io::Result<Batcher> {
        let (sender, inbox) = channel();
        let counts = Arc::<Counts>::default();
        let worker = Worker { options, queue: VecDeque::new(), counts: counts.clone(), embed };
        let worker = Arc::new(Mutex::new(worker));
        let shared = worker.clone();
        let run = move || {
            while let Ok(request) = inbox.recv() {
                shared.lock().unwrap_or_else(PoisonError::into_inner).run(request, &inbox);
            }
        };
        thread::Builder::new().name("trine-embedder".to_owned()).spawn(run)?;
        Ok(Batcher { sender, worker, counts, max_queued: options.max_queued })
    }

    /// A place among those that wait. Nobody waits for an idle model.
    ///
    /// # Errors
    /// When as many wait as may.
    pub(crate) fn place(&self) -> Result<Place, Problem> {
        let Counts { requests, running, typical, .. } = &*self.counts;
        let waiting = |requests: usize| requests.saturating_sub(running.load(Relaxed));
        let more = |requests| (requests == 0 || waiting(requests) < self.max_queued).then_some(requests + 1);
        match requests.fetch_update(Relaxed, Relaxed, more) {
            Ok(_) => Ok(Place(self.counts.clone())),
            Err(requests) => {
                let full = Error::QueueFull { queued: waiting(requests), asked: 1, most: self.max_queued };
                // Those that wait now have ended then.
                let seconds = typical.get().as_secs_f64().ceil() as u64;
                Err(Problem { retry_after: Some(seconds.clamp(1, 600)), ..full.into() })
            }
        }
    }

    /// Embeds texts: at once if the model is free and one pass has room for them, and otherwise in turn. A request whose answer is dropped
    /// meanwhile takes part in no further pass.
    pub(crate) fn begin(&self, place: Place, texts: Vec<Vec<u32>>) -> Pending {
        let (reply, answer) = oneshot::channel();
        let embedded = Vec::with_capacity(texts.len());
        let request = Request { texts, embedded, failure: None, begun: Instant::now(), place, reply };
        match self.worker.try_lock() {
            Ok(mut worker) if worker.takes_alone(&request) => worker.run_alone(request),
            // Without the thread the answer fails.
            _ => _ = self.sender.send(request),
        }
        Pending(answer)
    }

    pub fn load(&self) -> BatcherLoad {
        let Counts { requests, running, passes, texts, .. } = &*self.counts;
        let running = running.load(Relaxed);
        let waiting = requests.load(Relaxed).saturating_sub(running);
        BatcherLoad { running, waiting, passes: passes.load(Relaxed), texts: texts.load(Relaxed) }
    }
}

/// The answer to a request.
pub(crate) struct Pending(oneshot::Receiver<Result<Vec<Vec<f32>>, Problem>>);

impl Pending {
    /// Waits for the embeddings.
    ///
    /// # Errors
    /// When a pass fails.
    pub async fn embeddings(self) -> Result<Vec<Vec<f32>>, Problem> {
        self.0.await.unwrap_or_else(|_| Err(Problem::new(ProblemKind::Server, "the request failed")))
    }
}

struct Request {
    texts: Vec<Vec<u32>>,
    /// The embeddings of the first texts.
    embedded: Vec<Vec<f32>>,
    failure: Option<String>,
    begun: Instant,
    place: Place,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, Problem>>,
}

/// A text of a pass: the index of its request, and its own there.
type Chosen = (usize, usize);

struct Worker {
    options: BatcherOptions,
    /// The first has its turn first.
    queue: VecDeque<Request>,
    counts: Arc<Counts>,
    embed: Box<Embed>,
}

impl Worker {
    /// Embeds the texts of a request and of those that come meanwhile, until nobody waits.
    fn run(&mut self, first: Request, inbox: &Receiver<Request>) {
        self.queue.push_back(first);
        loop {
            while let Ok(request) = inbox.recv_timeout(self.patience()) {
                self.queue.push_back(request);
            }
            self.queue.retain(|request| !request.reply.is_closed());
            if self.queue.is_empty() {
                break;
            }
            let (chosen, next) = self.choose();
            self.pass(&chosen);
            self.queue.rotate_left(next.unwrap_or(0));
            self.reply();
        }
        self.counts.running.store(0, Relaxed);
    }

    /// Whether a request waits for no others, and one pass has room for it.
    fn takes_alone(&self, request: &Request) -> bool {
        let tokens: usize = request.texts.iter().map(Vec::len).sum();
        let BatcherOptions { max_texts, max_tokens, max_wait, .. } = self.options;
        max_wait.is_zero() && request.texts.len() <= max_texts && tokens <= max_tokens
    }

    /// Embeds the texts of such a request.
    fn run_alone(&mut self, request: Request) {
        let chosen: Vec<Chosen> = (0..request.texts.len()).map(|i| (0, i)).collect();
        self.queue.push_back(request);
        self.pass(&chosen);
        self.reply();
        self.counts.running.store(0, Relaxed);
    }

    /// How long the next pass may wait for more texts.
    fn patience(&self) -> Duration {
        let waited = self.queue.iter().map(|request| request.begun.elapsed()).max();
        let left = waited.and_then(|waited| self.options.max_wait.checked_sub(waited));
        let has_room = || {
            let (chosen, next) = self.choose();
            next.is_none() && chosen.len() < self.options.max_texts
        };
        left.filter(|_| has_room()).unwrap_or_default()
    }

    /// The texts of the next pass, and the request whose turn comes after it, if not all texts have room.
    fn choose(&self) -> (Vec<Chosen>, Option<usize>) {
        let (mut chosen, mut tokens) = (Vec::new(), 0);
        for round in 0.. {
            let before = chosen.len();
            for (i, request) in self.queue.iter().enumerate() {
                let index = request.embedded.len() + round;
                let Some(text) = request.texts.get(index) else { continue };
                tokens += text.len();
                let full = chosen.len() == self.options.max_texts || tokens > self.options.max_tokens;
                if full && !chosen.is_empty() {
                    return (chosen, Some(i));
                }
                chosen.push((i, index));
            }
            if chosen.len() == before {
                break;
            }
        }
        (chosen, None)
    }

    fn pass(&mut self, chosen: &[Chosen]) {
        let Worker { queue, counts, embed, .. } = self;
        let running: BTreeSet<usize> = chosen.iter().map(|&(i, _)| i).collect();
        counts.running.store(running.len(), Relaxed);
        let texts: Vec<&[u32]> = chosen.iter().map(|&(i, index)| queue[i].texts[index].as_slice()).collect();
        // A pass that panics fails its own requests alone.
        let embedded = catch_unwind(AssertUnwindSafe(|| embed(&texts)));
        match embedded.unwrap_or_else(|_| Err("the request failed".to_owned())) {
            Ok(vectors) => chosen.iter().zip(vectors).for_each(|(&(i, _), vector)| queue[i].embedded.push(vector)),
            Err(error) => running.into_iter().for_each(|i| queue[i].failure = Some(error.clone())),
        }
        counts.passes.fetch_add(1, Relaxed);
        counts.texts.fetch_add(chosen.len() as u64, Relaxed);
    }

    /// Answers the requests that have ended.
    fn reply(&mut self) {
        for request in std::mem::take(&mut self.queue) {
            if request.failure.is_none() && request.embedded.len() < request.texts.len() {
                self.queue.push_back(request);
                continue;
            }
            let Request { embedded, failure, begun, place, reply, .. } = request;
            self.counts.typical.note(begun.elapsed());
            // Who has an answer waits no more.
            drop(place);
            self.counts.running.fetch_sub(1, Relaxed);
            let failed = |error| Err(Problem::new(ProblemKind::Server, error));
            // A client may have left.
            let _ = reply.send(failure.map_or(Ok(embedded), failed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_free_model_embeds_on_the_thread_that_asks() {
        let options = BatcherOptions { max_queued: 4, max_texts: 2, max_tokens: 100, max_wait: Duration::default() };
        let (threads, on) = channel();
        let (opens, gate) = channel::<()>();
        let embed = move |texts: &[&[u32]]| {
            threads.send(thread::current().id()).unwrap();
            if texts[0] == [7] {
                gate.recv().unwrap();
            }
            Ok(texts.iter().map(|text| text.iter().map(|&id| id as f32).collect()).collect())
        };
        let batcher = Batcher::spawn(options, Box::new(embed)).unwrap();
        let begin = |texts: &[u32]| batcher.begin(batcher.place().unwrap(), texts.iter().map(|&id| vec![id]).collect());
        let own = thread::current().id();
        assert_eq!(begin(&[1, 2]).embeddings().await.unwrap(), [[1.0], [2.0]]);
        assert_eq!(on.recv().unwrap(), own);
        // More than a pass, and what comes while that is under way.
        let long = begin(&[7, 8, 9]);
        let other = on.recv().unwrap();
        let beside = begin(&[3]);
        opens.send(()).unwrap();
        assert_eq!(long.embeddings().await.unwrap(), [[7.0], [8.0], [9.0]]);
        assert_eq!(beside.embeddings().await.unwrap(), [[3.0]]);
        assert!(other != own && on.try_iter().all(|thread| thread == other));
        assert_eq!(batcher.load().running, 0);
    }
}
