//! The places of connections: when all are taken, a connection that waits for its client makes room for one that comes.

use axum::body::{Body, HttpBody};
use hyper::body::{Bytes, Frame, SizeHint};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// How long one that is told to leave may take before another is told, too.
const NOTICE: Duration = Duration::from_millis(20);

/// Connections that wait, by when they may be told to leave, and their numbers.
type Idle = BTreeMap<(Instant, u64), Arc<watch::Sender<bool>>>;

pub struct Places {
    free: Arc<Semaphore>,
    all: u32,
    idle: Mutex<Idle>,
    count: AtomicU64,
}

impl Places {
    pub fn new(all: usize) -> Places {
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let free = Arc::new(Semaphore::new(all as usize));
        Places { free, all, idle: Mutex::default(), count: AtomicU64::new(0) }
    }

    /// A place, for which others have to leave one after the other if none is free, unless all are busy.
    pub async fn take(self: &Arc<Places>) -> io::Result<Arc<Place>> {
        let free = loop {
            if self.free.available_permits() == 0
                && let Some(first) = self.idle().first_entry().filter(|first| first.key().0 <= Instant::now())
            {
                first.remove().send_replace(true);
            }
            if let Ok(free) = tokio::time::timeout(NOTICE, self.free.clone().acquire_owned()).await {
                break free.map_err(io::Error::other)?;
            }
        };
        let place = Place {
            places: self.clone(),
            number: self.count.fetch_add(1, Relaxed),
            leave: Arc::new(watch::Sender::new(false)),
            since: Mutex::new(Instant::now()),
            asked: false.into(),
            _free: free,
        };
        place.rest(Duration::ZERO);
        Ok(Arc::new(place))
    }

    /// Waits until all are free.
    pub async fn all_free(&self) {
        let _ = self.free.acquire_many(self.all).await;
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection.
pub struct Place {
    places: Arc<Places>,
    number: u64,
    leave: Arc<watch::Sender<bool>>,
    /// When it may be told to leave, if it waits.
    since: Mutex<Instant>,
    /// Whether a request has come.
    asked: AtomicBool,
    _free: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until it has to make room.
    pub fn told_to_leave(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leave = self.leave.subscribe();
        async move {
            // Without the place, nobody is told anything.
            let _ = leave.wait_for(|leave| *leave).await;
        }
    }

    /// Waits until it is told so again, from now on.
    pub fn told_anew(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leave = self.leave.subscribe();
        async move {
            let _ = leave.changed().await;
        }
    }

    /// Whether a request has ever come, so that an answer may be on its way.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// Notes that a request has come. Until all its guards are dropped, the place is given to others only while the client is waited for.
    pub fn busy(self: &Arc<Place>) -> Arc<Busy> {
        self.asked.store(true, Relaxed);
        self.stir();
        Arc::new(Busy(self.clone()))
    }

    /// Notes that it waits for its client, and that others may have it after a while.
    fn rest(&self, after: Duration) {
        let (mut since, mut idle) = (self.since(), self.places.idle());
        idle.remove(&(*since, self.number));
        *since = Instant::now() + after;
        idle.insert((*since, self.number), self.leave.clone());
    }

    /// Notes that it waits no longer.
    fn stir(&self) {
        let (since, mut idle) = (self.since(), self.places.idle());
        idle.remove(&(*since, self.number));
    }

    fn since(&self) -> MutexGuard<'_, Instant> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stir();
    }
}

/// A connection with a request that is not answered to its end.
pub struct Busy(Arc<Place>);

impl Busy {
    /// Notes that the client is waited for, and that others may have the place after a while.
    pub fn wait(&self, after: Duration) {
        self.0.rest(after);
    }

    /// Notes that the client is waited for no longer.
    pub fn go_on(&self) {
        self.0.stir();
    }

    pub fn place(&self) -> &Place {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest(Duration::ZERO);
    }
}

/// The body of a response, whose connection is busy until it has ended.
pub struct Answer {
    pub body: Body,
    pub _busy: Arc<Busy>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
