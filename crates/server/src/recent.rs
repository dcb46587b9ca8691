//! What the last minutes were like.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long requests took of late, in microseconds: a moving average.
#[derive(Debug, Default)]
pub struct Typical(AtomicU64);

impl Typical {
    pub fn note(&self, took: Duration) {
        let (old, took) = (self.0.load(Relaxed), took.as_micros() as u64);
        self.0.store(if old == 0 { took } else { old - old / 8 + took / 8 }, Relaxed);
    }

    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Relaxed))
    }
}

/// How the last requests went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recent {
    /// Seconds that half of them took at most.
    pub p50: Option<f64>,
    /// Seconds that 95 of 100 took at most.
    pub p95: Option<f64>,
    /// The share that failed by the server's fault.
    pub error_rate: Option<f64>,
}

/// A request that is over: when it ended, how long it took, and whether the server failed it.
type Past = (Instant, Duration, bool);

/// Requests that are remembered, the last first.
#[derive(Debug, Default)]
pub struct Requests(VecDeque<Past>);

impl Requests {
    /// How many are remembered at most, and for how long.
    const KEPT: (usize, Duration) = (1000, Duration::from_secs(300));

    pub fn add(&mut self, took: Duration, failed: bool) {
        self.0.truncate(Requests::KEPT.0 - 1);
        self.0.push_front((Instant::now(), took, failed));
    }

    pub fn summary(&self) -> Recent {
        let recent: Vec<&Past> = self.0.iter().take_while(|(at, ..)| at.elapsed() < Requests::KEPT.1).collect();
        let mut times: Vec<f64> = recent.iter().map(|(_, took, _)| took.as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times.get(((times.len() as f64 * share).ceil() as usize).saturating_sub(1)).copied();
        let failed = recent.iter().filter(|(.., failed)| *failed).count();
        let error_rate = (!recent.is_empty()).then(|| failed as f64 / recent.len() as f64);
        Recent { p50: at(0.5), p95: at(0.95), error_rate }
    }
}

/// How many things happened in each of the last seconds.
#[derive(Debug)]
pub struct Rate {
    begun: Instant,
    /// The count of each second, by its number modulo the length, and that number.
    seconds: [(u64, u64); Rate::SECONDS + 1],
}

impl Default for Rate {
    fn default() -> Rate {
        Rate { begun: Instant::now(), seconds: Default::default() }
    }
}

impl Rate {
    /// Whole seconds that the rate is of.
    const SECONDS: usize = 10;

    pub fn add(&mut self, count: u64) {
        self.add_at(self.begun.elapsed().as_secs(), count);
    }

    /// How many there were in a second, on average of the last ten that are over.
    pub fn per_second(&self) -> f64 {
        self.per_second_at(self.begun.elapsed().as_secs())
    }

    fn add_at(&mut self, second: u64, count: u64) {
        let slot = &mut self.seconds[second as usize % (Rate::SECONDS + 1)];
        *slot = (second, if slot.0 == second { slot.1 + count } else { count });
    }

    fn per_second_at(&self, now: u64) -> f64 {
        let past = now.saturating_sub(Rate::SECONDS as u64)..now;
        let count: u64 = self.seconds.iter().filter(|(second, _)| past.contains(second)).map(|(_, count)| count).sum();
        count as f64 / Rate::SECONDS as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_ten_seconds_that_are_over() {
        let mut rate = Rate::default();
        for second in 0..30 {
            rate.add_at(second, 2);
            rate.add_at(second, 3);
        }
        assert_eq!(rate.per_second_at(30), 5.0);
        assert_eq!(rate.per_second_at(35), 2.5);
        assert_eq!(rate.per_second_at(40), 0.0);
        rate.add_at(1000, 7);
        assert_eq!(rate.per_second_at(1000), 0.0);
        assert_eq!(rate.per_second_at(1001), 0.7);
    }
}
