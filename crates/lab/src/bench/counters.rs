//! What CPUs count while they run, where the system lets them be read: by Linux's `perf_event_open`.

use serde::{Deserialize, Serialize};
use std::io;

/// What was counted; `None` for what this CPU does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    pub instructions: Option<f64>,
    pub cycles: Option<f64>,
    /// Of the last-level cache, as the CPU defines it.
    pub cache_references: Option<f64>,
    /// Of the last-level cache.
    pub cache_misses: Option<f64>,
}

impl Counts {
    /// Both, one by one.
    pub(super) fn zip(self, other: Counts, both: impl Fn(f64, f64) -> f64) -> Counts {
        let both = |a: Option<f64>, b: Option<f64>| a.zip(b).map(|(a, b)| both(a, b));
        Counts {
            instructions: both(self.instructions, other.instructions),
            cycles: both(self.cycles, other.cycles),
            cache_references: both(self.cache_references, other.cache_references),
            cache_misses: both(self.cache_misses, other.cache_misses),
        }
    }

    /// Each over `n`.
    pub(super) fn over(self, n: f64) -> Counts {
        self.zip(self, |count, _| count / n)
    }

    /// The median of each; `None` where one of them is not known.
    pub(super) fn medians(runs: &[Option<Counts>]) -> Option<Counts> {
        let runs = runs.iter().copied().collect::<Option<Vec<Counts>>>().filter(|runs| !runs.is_empty())?;
        let median = |which: fn(&Counts) -> Option<f64>| super::report::median(runs.iter().map(which));
        Some(Counts {
            instructions: median(|counts| counts.instructions),
            cycles: median(|counts| counts.cycles),
            cache_references: median(|counts| counts.cache_references),
            cache_misses: median(|counts| counts.cache_misses),
        })
    }
}

/// Counters of this thread and of the threads that are started from now on.
#[derive(Debug)]
pub struct Counters(#[cfg(target_os = "linux")] [Option<linux::Counter>; 4]);

impl Counters {
    /// Opens those that this CPU has.
    ///
    /// # Errors
    /// When there are none, as in many virtual machines, or the system does not let this user read them.
    pub fn open() -> io::Result<Counters> {
        #[cfg(target_os = "linux")]
        return linux::open().map(Counters);
        #[cfg(not(target_os = "linux"))]
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }

    /// What was counted since they were opened.
    pub fn read(&mut self) -> Counts {
        #[cfg(target_os = "linux")]
        return linux::read(&mut self.0);
        #[cfg(not(target_os = "linux"))]
        return Counts::default();
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::Counts;
    pub use perf_event::Counter;
    use perf_event::events::Hardware;
    use perf_event::{Builder, ReadFormat};
    use std::io;

    const EVENTS: [Hardware; 4] =
        [Hardware::INSTRUCTIONS, Hardware::CPU_CYCLES, Hardware::CACHE_REFERENCES, Hardware::CACHE_MISSES];

    pub fn open() -> io::Result<[Option<Counter>; 4]> {
        let one = |event| {
            let mut builder = Builder::new(event);
            // The CPU has few counters, and takes turns when more are asked for.
            builder.inherit(true).read_format(ReadFormat::TOTAL_TIME_ENABLED | ReadFormat::TOTAL_TIME_RUNNING);
            let mut counter = builder.build()?;
            counter.enable()?;
            Ok(counter)
        };
        let opened = EVENTS.map(one);
        if opened.iter().all(Result::is_err) {
            let [first, ..] = opened;
            return Err(first.map(|_| ()).unwrap_err());
        }
        Ok(opened.map(Result::ok))
    }

    pub fn read(counters: &mut [Option<Counter>; 4]) -> Counts {
        let mut one = |i: usize| {
            let data = counters[i].as_mut()?.read_full().ok()?;
            let (enabled, running) = (data.time_enabled()?.as_secs_f64(), data.time_running()?.as_secs_f64());
            // Of the time in which it did not count, what it counted in the rest.
            (running > 0.0).then(|| data.count() as f64 * enabled / running)
        };
        Counts { instructions: one(0), cycles: one(1), cache_references: one(2), cache_misses: one(3) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_grow_with_the_work_of_all_threads() {
        let mut counters = match Counters::open() {
            Ok(counters) => counters,
            Err(error) => return eprintln!("skipped: no performance counters: {error}"),
        };
        let work = || (0..2_000_000u64).fold(0, |sum, i| std::hint::black_box(sum ^ i));
        let start = counters.read();
        work();
        let one = counters.read();
        std::thread::scope(|scope| (0..3).for_each(|_| drop(scope.spawn(work))));
        let four = counters.read();
        let Some(alone) = one.zip(start, |b, a| b - a).instructions else {
            return eprintln!("skipped: instructions are not counted");
        };
        let threads = four.zip(one, |b, a| b - a).instructions.unwrap();
        assert!(alone > 2e6 && threads > 2.5 * alone, "{alone} and {threads} instructions");
    }

    #[test]
    fn medians_are_of_counts_that_every_run_has() {
        let run = |instructions, cycles| Some(Counts { instructions: Some(instructions), cycles, ..Counts::default() });
        let found = Counts::medians(&[run(30.0, Some(2.0)), run(10.0, None), run(20.0, Some(4.0))]).unwrap();
        assert_eq!((found.instructions, found.cycles), (Some(20.0), None));
        assert_eq!(Counts::medians(&[run(30.0, None), None]), None);
        assert_eq!(Counts::medians(&[]), None);
    }
}
