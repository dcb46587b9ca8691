//! The places of connections: when all are taken, a connection that has waited for its client for a while makes room for one that comes.

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

/// How long a client may let its connection wait before others may have the place.
pub const PAUSE: Duration = Duration::from_secs(1);

/// How long one that is told to leave may take before another is told, too.
const NOTICE: Duration = Duration::from_millis(20);

/// Connections that wait, by when they may be told to leave, and their numbers.
type Idle = BTreeMap<(Instant, u64), Arc<watch::Sender<()>>>;

pub struct Places {
    free: Arc<Semaphore>,
    all: u32,
    idle: Mutex<Idle>,
    count: AtomicU64,
    /// Whether somebody waits for a place.
    crowded: AtomicBool,
}

impl Places {
    pub fn new(all: usize) -> Places {
        let all = u32::try_from(all).unwrap_or(u32::MAX);
        let free = Arc::new(Semaphore::new(all as usize));
        Places { free, all, idle: Mutex::default(), count: AtomicU64::new(0), crowded: AtomicBool::new(false) }
    }

    /// A place, for which others have to leave one after the other if none is free, unless all are busy.
    pub async fn take(self: &Arc<Places>) -> io::Result<Arc<Place>> {
        let free = loop {
            let full = self.free.available_permits() == 0;
            self.crowded.store(full, Relaxed);
            if full && let Some(first) = self.idle().first_entry().filter(|first| first.key().0 <= Instant::now()) {
                first.remove().send_replace(());
            }
            if let Ok(free) = tokio::time::timeout(NOTICE, self.free.clone().acquire_owned()).await {
                break free.map_err(io::Error::other)?;
            }
        };
        self.crowded.store(false, Relaxed);
        let place = Place {
            places: self.clone(),
            number: self.count.fetch_add(1, Relaxed),
            leave: Arc::new(watch::Sender::new(())),
            state: Mutex::new(State { since: Instant::now(), busy: false, asked: false, begun: false }),
            _free: free,
        };
        place.rest();
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
    leave: Arc<watch::Sender<()>>,
    state: Mutex<State>,
    _free: OwnedSemaphorePermit,
}

/// What a connection does.
struct State {
    /// When it may be told to leave, if it waits.
    since: Instant,
    /// Whether it has a request that is not answered to its end.
    busy: bool,
    /// Whether a request has ever come.
    asked: bool,
    /// Whether something of the next request has come.
    begun: bool,
}

impl Place {
    /// What waits until it is told to make room, from now on.
    pub fn told_to_leave(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut leave = self.leave.subscribe();
        async move {
            // Without the place, nobody is told anything.
            let _ = leave.changed().await;
        }
    }

    /// Whether somebody waits for a place: the answer under way is the last of its connection, then.
    pub fn is_wanted(&self) -> bool {
        self.places.crowded.load(Relaxed)
    }

    /// Whether it has a request that is not answered to its end.
    pub fn is_busy(&self) -> bool {
        self.state().busy
    }

    /// Whether a request has ever come, so that an answer may be on its way.
    pub fn was_asked(&self) -> bool {
        self.state().asked
    }

    /// Whether it was told to leave, and nothing has come since.
    pub fn must_leave(&self) -> bool {
        let state = self.state();
        !state.busy && !self.places.idle().contains_key(&(state.since, self.number))
    }

    /// Notes that it waits for a request, of which nothing has come.
    pub fn rest(&self) {
        let mut state = self.state();
        (state.busy, state.begun) = (false, false);
        self.wait(&mut state);
    }

    /// Notes that something has come. Only the beginning of a request gives its client more time.
    pub fn came(&self) {
        let mut state = self.state();
        if !state.busy && !std::mem::replace(&mut state.begun, true) {
            self.wait(&mut state);
        }
    }

    /// Notes that a request has come. Until all its guards are dropped, the place is given to others only while the client is waited for.
    pub fn busy(self: &Arc<Place>) -> Arc<Busy> {
        let mut state = self.state();
        (state.busy, state.asked) = (true, true);
        self.stir(&state);
        drop(state);
        Arc::new(Busy(self.clone()))
    }

    /// Notes that it waits for its client, and that others may have it after a while.
    fn wait(&self, state: &mut State) {
        let mut idle = self.places.idle();
        idle.remove(&(state.since, self.number));
        state.since = Instant::now() + PAUSE;
        idle.insert((state.since, self.number), self.leave.clone());
    }

    /// Notes that it waits no longer.
    fn stir(&self, state: &State) {
        self.places.idle().remove(&(state.since, self.number));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stir(&self.state());
    }
}

/// A connection with a request that is not answered to its end.
pub struct Busy(Arc<Place>);

impl Busy {
    /// Notes that the client is waited for, and that others may have the place after a while; what tells so.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let told = self.0.told_to_leave();
        self.0.wait(&mut self.0.state());
        told
    }

    /// Notes that the client is waited for no longer.
    pub fn go_on(&self) {
        self.0.stir(&self.0.state());
    }

    pub fn place(&self) -> &Place {
        &self.0
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.rest();
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
