//! When the threads of a pool work, for a trace.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// When each thread of a [`Pool`](super::pool::Pool) took part in a parallel loop. Clones share it. It is off until [`Timeline::set`], and then costs
/// two looks at the clock for each thread and loop.
#[derive(Clone, Debug, Default)]
pub struct Timeline(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    on: AtomicBool,
    /// Maximum spans of a thread.
    most: usize,
    /// The spans of each thread.
    threads: Mutex<Vec<Lane>>,
}

pub(super) type Lane = Arc<Mutex<Vec<WorkSpan>>>;

/// What a thread did of a parallel loop.
#[derive(Clone, Copy, Debug)]
pub struct WorkSpan {
    pub start: Instant,
    pub end: Instant,
    /// Tasks that the thread took.
    pub tasks: usize,
}

impl Timeline {
    /// A timeline that keeps at most so many spans of a thread.
    pub fn new(most: usize) -> Timeline {
        Timeline(Arc::new(Shared { most, ..Shared::default() }))
    }

    /// Begins to write down spans, or ends it.
    pub fn set(&self, on: bool) {
        self.0.on.store(on, Relaxed);
    }

    /// What there is of each thread, the one that calls [`Pool::run`](super::pool::Pool::run) first.
    pub fn spans(&self) -> Vec<Vec<WorkSpan>> {
        self.lanes().iter().map(|lane| lock(lane).clone()).collect()
    }

    fn lanes(&self) -> MutexGuard<'_, Vec<Lane>> {
        lock(&self.0.threads)
    }

    /// Places for the spans of so many threads.
    pub(super) fn add(&self, threads: usize) -> Vec<Lane> {
        let mut lanes = self.lanes();
        let known = lanes.len();
        lanes.extend((0..threads).map(|_| Lane::default()));
        lanes[known..].to_vec()
    }

    /// Runs a part of a loop, which returns how many tasks it took, and writes down when if anybody wants to know.
    pub(super) fn record(&self, lane: &Lane, work: impl FnOnce() -> usize) {
        if !self.0.on.load(Relaxed) {
            work();
            return;
        }
        let start = Instant::now();
        let tasks = work();
        let mut spans = lock(lane);
        if tasks > 0 && spans.len() < self.0.most {
            spans.push(WorkSpan { start, end: Instant::now(), tasks });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
