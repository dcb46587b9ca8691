//! The thread pool: decoding a token takes some two hundred short parallel loops, so a loop must start
//! and end in under a microsecond.
//!
//! Workers spin for a moment after each loop, then park; with more threads than cores they yield instead. Tasks are
//! handed out by a counter, so that a delayed thread takes fewer; a worker that is late finds the loop closed and
//! takes none. Which thread runs a task never changes a result.

use super::timeline::{Lane, Timeline};
use crate::cpus::{Bound, bind};
use std::any::Any;
use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::*};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// More threads than any machine runs.
const MAX_THREADS: usize = 4096;

/// How long a worker spins before it parks.
const SPIN: Duration = Duration::from_micros(20);

/// A parallel loop: called with the task and the thread, both from 0.
type Body<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// Threads that run loops together with the caller.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<(Thread, JoinHandle<()>)>,
    /// Unbinds the thread that made the pool, if it is bound.
    _caller: Option<Bound>,
}

struct Shared {
    /// The loop's number (high half), [`OPEN`], and the number of workers inside (low bits).
    state: CachePadded<AtomicU64>,
    /// Workers that take part.
    active: AtomicUsize,
    /// Whether there are more threads than cores.
    crowded: bool,
    body: UnsafeCell<Option<*const Body<'static>>>,
    tasks: AtomicUsize,
    next: CachePadded<AtomicUsize>,
    parked: Vec<AtomicBool>,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// What writes down when each thread works, if anything does.
    timeline: OnceLock<(Timeline, Vec<Lane>)>,
}

/// What threads write often, on cache lines of its own: CPUs fetch them in pairs.
#[repr(align(128))]
struct CachePadded<T>(T);

impl<T> std::ops::Deref for CachePadded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

// SAFETY: `body` is written only while no loop is open and no worker inside, and read only by workers inside.
unsafe impl Sync for Shared {}
// SAFETY: the pointer is used only while `Pool::run` keeps what it points to alive.
unsafe impl Send for Shared {}

const OPEN: u64 = 1 << 31;
const INSIDE: u64 = OPEN - 1;
const LOOP: u64 = 1 << 32;

impl Pool {
    /// A pool of `threads` threads, the caller's included; at least one.
    ///
    /// # Errors
    /// When the system cannot start the threads.
    pub fn new(threads: usize) -> std::io::Result<Pool> {
        Pool::bound(threads, &[])
    }

    /// As [`Pool::new`], with threads bound round-robin to `cpus`. The first CPU is for the calling thread, which
    /// stays bound as long as the pool lives.
    ///
    /// # Errors
    /// As [`Pool::new`], and when the system does not allow a CPU.
    pub fn bound(threads: usize, cpus: &[usize]) -> std::io::Result<Pool> {
        if threads > MAX_THREADS {
            return Err(std::io::Error::other(format!("expected at most {MAX_THREADS} threads, found {threads}")));
        }
        let extra = threads.max(1) - 1;
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let shared = Arc::new(Shared {
            state: CachePadded(AtomicU64::new(0)),
            active: AtomicUsize::new(extra),
            crowded: threads > if cpus.is_empty() { cores } else { cpus.len() },
            body: UnsafeCell::new(None),
            tasks: AtomicUsize::new(0),
            next: CachePadded(AtomicUsize::new(0)),
            parked: (0..extra).map(|_| AtomicBool::new(false)).collect(),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            timeline: OnceLock::new(),
        });
        let caller = if cpus.is_empty() { None } else { Some(Bound::remember()?) };
        let mut pool = Pool { shared, workers: Vec::with_capacity(extra), _caller: caller };
        // A thread inherits the affinity of the one that starts it: bind here, where errors can be returned, and the caller last.
        for i in (0..extra).rev() {
            if let Some(cpu) = cpus.iter().cycle().nth(i + 1) {
                bind(*cpu)?;
            }
            let shared = pool.shared.clone();
            let spawned = std::thread::Builder::new().name(format!("trine-{}", i + 1)).spawn(move || shared.work(i))?;
            pool.workers.push((spawned.thread().clone(), spawned));
        }
        pool.workers.reverse();
        if let Some(cpu) = cpus.first() {
            bind(*cpu)?;
        }
        Ok(pool)
    }

    /// Lets a timeline write down when each thread works. The first that is given counts.
    pub fn watch(&mut self, timeline: &Timeline) {
        self.shared.timeline.get_or_init(|| (timeline.clone(), timeline.add(self.threads())));
    }

    /// Number of threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Number of threads that take part in loops, the caller's included.
    pub fn active(&self) -> usize {
        self.shared.active.load(Relaxed) + 1
    }

    /// Limits the threads that take part in the following loops, the caller's included. Clamped
    /// to at least one and at most all.
    pub fn limit(&mut self, threads: usize) {
        self.shared.active.store(threads.clamp(1, self.threads()) - 1, Relaxed);
    }

    /// Calls `body(range, thread)` with ranges that cover `0..len`: large ones first, then smaller ones down to
    /// `grain`, so that all threads end together even if one is delayed.
    pub fn run_ranges(&mut self, len: usize, grain: usize, body: &(dyn Fn(Range<usize>, usize) + Sync)) {
        let (next, threads) = (CachePadded(AtomicUsize::new(0)), self.active());
        let end = |start: usize| start + ((len - start) / (2 * threads)).max(grain).max(1).min(len - start);
        self.run(threads.min(len.div_ceil(grain.max(1))), &|_, thread| {
            while let Ok(start) = next.fetch_update(Relaxed, Relaxed, |start| (start < len).then(|| end(start))) {
                body(start..end(start), thread);
            }
        });
    }

    /// Calls `body(task, thread)` once for each task below `tasks`, on all threads, and returns when all are done.
    pub fn run(&mut self, tasks: usize, body: &Body) {
        let active = self.shared.active.load(Relaxed);
        if tasks <= 1 || active == 0 {
            self.shared.watched(0, || {
                (0..tasks).for_each(|task| body(task, 0));
                tasks
            });
            return;
        }
        let shared = &*self.shared;
        // SAFETY: only the lifetime changes; no worker holds the pointer after this function returns.
        let body: *const Body<'static> = unsafe { std::mem::transmute(body as *const Body) };
        // SAFETY: no loop is open and no worker is inside, and `&mut self` keeps it so.
        unsafe { *shared.body.get() = Some(body) };
        shared.tasks.store(tasks, Relaxed);
        shared.next.store(0, Relaxed);
        shared.state.fetch_add(LOOP | OPEN, SeqCst);
        for (parked, (thread, _)) in shared.parked.iter().zip(&self.workers).take(active) {
            if parked.load(SeqCst) {
                thread.unpark();
            }
        }
        shared.take_tasks(0);
        shared.state.fetch_and(!OPEN, AcqRel);
        let mut spins = 0u32;
        while shared.state.load(Acquire) & INSIDE != 0 {
            spins += 1;
            if shared.crowded || spins.is_multiple_of(1024) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        let panic = shared.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

impl Shared {
    /// Runs a part of a loop, which returns how many tasks it took.
    fn watched(&self, thread: usize, work: impl FnOnce() -> usize) {
        match self.timeline.get() {
            Some((timeline, lanes)) => timeline.record(&lanes[thread], work),
            None => _ = work(),
        }
    }

    /// Runs tasks until none is left.
    fn take_tasks(&self, thread: usize) {
        self.watched(thread, || self.take_tasks_unwatched(thread));
    }

    /// Runs tasks until none is left; how many it took. A panic ends the loop and is passed to the caller.
    fn take_tasks_unwatched(&self, thread: usize) -> usize {
        let mut taken = 0;
        let done = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: the caller of `run` is inside it, or this worker is inside an open loop: the body is alive.
            let body = unsafe { &*(*self.body.get()).expect("a loop has a body") };
            let tasks = self.tasks.load(Relaxed);
            loop {
                let task = self.next.fetch_add(1, Relaxed);
                if task >= tasks {
                    return;
                }
                taken += 1;
                body(task, thread);
            }
        }));
        if let Err(panic) = done {
            self.next.store(usize::MAX / 2, Relaxed);
            *self.panic.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(panic);
        }
        taken
    }

    fn work(&self, worker: usize) {
        let mut last = 0;
        while self.enter(worker, &mut last) {
            self.take_tasks(worker + 1);
            self.state.fetch_sub(1, Release);
        }
    }

    /// Whether a loop other than number `last` takes this worker.
    fn is_open(&self, state: u64, last: u64, worker: usize) -> bool {
        state & OPEN != 0 && state / LOOP != last && worker < self.active.load(Relaxed)
    }

    /// Waits for an open loop that is not number `last` and enters it; false when the pool ends.
    fn enter(&self, worker: usize, last: &mut u64) -> bool {
        let mut since = Instant::now();
        loop {
            for _ in 0..64 {
                let state = self.state.load(Acquire);
                if self.is_open(state, *last, worker) {
                    if self.state.compare_exchange(state, state + 1, AcqRel, Relaxed).is_ok() {
                        *last = state / LOOP;
                        return true;
                    }
                    continue;
                }
                if self.stop.load(Relaxed) {
                    return false;
                }
                if self.crowded { std::thread::yield_now() } else { std::hint::spin_loop() }
            }
            if since.elapsed() > SPIN {
                self.parked[worker].store(true, SeqCst);
                // A loop that opened before the flag was up sent no wake-up: look once more.
                let state = self.state.load(SeqCst);
                if !self.is_open(state, *last, worker) && !self.stop.load(SeqCst) {
                    std::thread::park();
                }
                self.parked[worker].store(false, SeqCst);
                since = Instant::now();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        for (thread, handle) in self.workers.drain(..) {
            thread.unpark();
            // A worker never panics: tasks are caught.
            let _ = handle.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_on_any_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let mut pool = Pool::new(threads).unwrap();
            for round in 0..2000 {
                let tasks = round % 37;
                let hits: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|task, thread| {
                    assert!(thread < threads);
                    hits[task].fetch_add(1, Relaxed);
                });
                assert!(hits.iter().all(|hit| hit.load(Relaxed) == 1));
                if round % 500 == 0 {
                    std::thread::sleep(2 * SPIN); // let them park
                }
            }
        }
    }

    #[test]
    fn ranges_cover_all_once_and_never_pass_a_limit() {
        let mut pool = Pool::new(3).unwrap();
        for (len, grain, limit) in
            [(0, 1, 3), (1, 1, 3), (5, 0, 3), (1000, 7, 2), (1000, 1, 9), (64, 64, 1), (10, 99, 3)]
        {
            pool.limit(limit);
            let hits: Vec<AtomicUsize> = (0..len).map(|_| AtomicUsize::new(0)).collect();
            let busy = AtomicUsize::new(0);
            pool.run_ranges(len, grain, &|range, thread| {
                busy.fetch_or(1 << thread, Relaxed);
                assert!(range.len() >= grain.min(len - range.start));
                hits[range].iter().for_each(|hit| assert_eq!(hit.fetch_add(1, Relaxed), 0));
            });
            assert!(hits.iter().all(|hit| hit.load(Relaxed) == 1));
            assert!(busy.load(Relaxed).count_ones() as usize <= limit);
        }
    }

    #[test]
    fn a_timeline_has_the_work_of_each_thread_while_it_is_on() {
        let (mut pool, timeline) = (Pool::new(2).unwrap(), Timeline::new(100));
        pool.watch(&timeline);
        let run = |pool: &mut Pool| pool.run(8, &|_, _| std::thread::sleep(Duration::from_millis(5)));
        run(&mut pool);
        assert!(timeline.spans().iter().all(Vec::is_empty));
        timeline.set(true);
        run(&mut pool);
        pool.run(1, &|_, _| {});
        let spans = timeline.spans();
        assert_eq!(spans.iter().flatten().map(|span| span.tasks).sum::<usize>(), 9);
        assert!(spans.len() == 2 && spans.iter().all(|spans| !spans.is_empty()), "{spans:?}");
        assert!(spans.iter().flatten().all(|span| span.start < span.end));
        // No more than it keeps.
        (0..200).for_each(|_| pool.run(1, &|_, _| {}));
        assert_eq!(timeline.spans()[0].len(), 100);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let mut pool = Pool::new(2).unwrap();
        let run = catch_unwind(AssertUnwindSafe(|| pool.run(100, &|task, _| assert!(task != 50))));
        assert!(run.is_err());
        let count = AtomicUsize::new(0);
        pool.run(100, &|_, _| {
            count.fetch_add(1, Relaxed);
        });
        assert_eq!(count.into_inner(), 100);
    }
}
