//! Measures the limits of this machine: bytes read from memory, and multiplications from registers.
//!
//! Every measurement computes a sum whose value is known, and panics if it finds another: no figure
//! counts work that was not done.

mod bandwidth;
mod peak;

pub use bandwidth::{Meter, Pages};
pub use peak::{Peaks, peaks};

use crate::cpus::bind;
use std::sync::Barrier;
use std::time::Instant;

/// Runs `body(thread)` on `threads` new threads at once, bound round-robin to `cpus` if there are any. Returns the
/// seconds from when all have started until the last has finished, and the results.
fn together(threads: usize, cpus: &[usize], body: &(dyn Fn(usize) -> u64 + Sync)) -> (f64, Vec<u64>) {
    let barrier = Barrier::new(threads);
    let timed = |thread| {
        if let Some(&cpu) = cpus.iter().cycle().nth(thread) {
            // On failure the thread stays unbound.
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
