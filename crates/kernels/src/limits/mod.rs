//! What this machine can do at most, measured: bytes read from memory, and multiplications from registers.
//!
//! Every measurement computes a sum whose value is known beforehand, and panics when it finds another: no figure stands for work that was
//! not done.

mod bandwidth;
mod peak;

pub use bandwidth::{Meter, Pages};
pub use peak::{Peaks, peaks};

use crate::cpus::bind;
use std::sync::Barrier;
use std::time::Instant;

/// Runs `body(thread)` on so many new threads at once, each bound to one of `cpus`, in turn, where there are some; the seconds from when all
/// are there until the last has finished, and what they gave.
fn together(threads: usize, cpus: &[usize], body: &(dyn Fn(usize) -> u64 + Sync)) -> (f64, Vec<u64>) {
    let barrier = Barrier::new(threads);
    let timed = |thread| {
        if let Some(&cpu) = cpus.iter().cycle().nth(thread) {
            // Where it is refused, the thread stays where it is.
            let _ = bind(cpu);
        }
        barrier.wait();
        let start = Instant::now();
        let sum = body(thread);
        (start, Instant::now(), sum)
    };
    let timed = &timed;
    let runs: Vec<(Instant, Instant, u64)> = std::thread::scope(|scope| {
        let spawned: Vec<_> = (0..threads).map(|thread| scope.spawn(move || timed(thread))).collect();
        spawned.into_iter().map(|thread| thread.join().expect("the body does not panic")).collect()
    });
    let start = runs.iter().map(|run| run.0).min().expect("at least one thread");
    let end = runs.iter().map(|run| run.1).max().expect("at least one thread");
    ((end - start).as_secs_f64(), runs.into_iter().map(|run| run.2).collect())
}
