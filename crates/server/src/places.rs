//! The places of connections: when all are taken, a connection that waits for a request makes room for one that comes.

use axum::body::{Body, HttpBody};
use hyper::body::{Bytes, Frame, SizeHint};
use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// How long one that is told to leave may take before another is told, too.
const NOTICE: Duration = Duration::from_millis(20);

pub struct Places {
    free: Arc<Semaphore>,
    all: u32,
    /// Connections that wait for a request, those that have waited the longest first.
    idle: Mutex<BTreeMap<u64, Arc<Notify>>>,
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
                && let Some((_, leave)) = self.idle().pop_first()
            {
                leave.notify_one();
            }
            if let Ok(free) = tokio::time::timeout(NOTICE, self.free.clone().acquire_owned()).await {
                break free.map_err(io::Error::other)?;
            }
        };
        let place = Place {
            places: self.clone(),
            leave: Arc::default(),
            since: AtomicU64::new(0),
            asked: false.into(),
            _free: free,
        };
        place.rest();
        Ok(Arc::new(place))
    }

    /// Waits until all are free.
    pub async fn all_free(&self) {
        let _ = self.free.acquire_many(self.all).await;
    }

    fn idle(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Notify>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a connection.
pub struct Place {
    places: Arc<Places>,
    leave: Arc<Notify>,
    /// Its number among those that wait for a request.
    since: AtomicU64,
    /// Whether a request has come.
    asked: AtomicBool,
    _free: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until it has to make room.
    pub async fn told_to_leave(&self) {
        self.leave.notified().await;
    }

    /// Whether a request has ever come, so that an answer may be on its way.
    pub fn was_asked(&self) -> bool {
        self.asked.load(Relaxed)
    }

    /// Notes that a request has come. Until the guard is dropped, the place is not given to others.
    pub fn busy(self: &Arc<Place>) -> Busy {
        self.asked.store(true, Relaxed);
        self.places.idle().remove(&self.since.load(Relaxed));
        Busy(self.clone())
    }

    /// Notes that it waits for a request.
    fn rest(&self) {
        let now = self.places.count.fetch_add(1, Relaxed);
        self.since.store(now, Relaxed);
        self.places.idle().insert(now, self.leave.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.idle().remove(&self.since.load(Relaxed));
    }
}

/// A connection with a request that is not answered to its end.
pub struct Busy(Arc<Place>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
    }
}

/// The body of a response, whose connection is busy until it has ended.
pub struct Answer {
    pub body: Body,
    pub _busy: Busy,
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
