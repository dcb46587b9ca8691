//! How often something took how long.

use std::time::Duration;

/// Counts of durations, in buckets whose bounds are an eighth of their octave apart.
///
/// ```
/// use std::time::Duration;
/// use trine_backend::profile::Histogram;
///
/// let mut times = Histogram::default();
/// for micros in 1..=100 {
///     times.add(Duration::from_micros(micros));
/// }
/// let p95 = times.percentile(0.95).unwrap();
/// assert!(p95 >= Duration::from_micros(95) && p95 < Duration::from_micros(107));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

/// Buckets of an octave.
const STEPS: u64 = 8;

impl Histogram {
    /// Counts one more.
    pub fn add(&mut self, time: Duration) {
        let bucket = bucket(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        if bucket >= self.counts.len() {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
    }

    /// The end of the bucket with the `p`-th of all durations, `p` from 0 to 1: at most an eighth more than that one took. `None` without any.
    pub fn percentile(&self, p: f64) -> Option<Duration> {
        let all: u64 = self.counts.iter().sum();
        let rank = ((p * all as f64).ceil() as u64).clamp(1, all.max(1));
        let mut below = 0;
        self.buckets().find_map(|(end, count)| {
            below += count;
            (below >= rank).then_some(end)
        })
    }

    /// Buckets with something in them, shortest first: where each ends, and how many took less than that but not less than the bucket before.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let counts = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(bucket, &count)| (Duration::from_nanos(begin(bucket + 1)), count))
    }
}

/// Nanoseconds below 8 have a bucket each.
fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let octave = u64::from(nanos.ilog2()) - 3;
    ((octave + 1) * STEPS + (nanos >> octave) % STEPS) as usize
}

/// The least nanoseconds of a bucket.
fn begin(bucket: usize) -> u64 {
    let (octave, step) = (bucket as u64 / STEPS, bucket as u64 % STEPS);
    match octave {
        0 => step,
        _ => (STEPS + step).checked_shl(octave as u32 - 1).filter(|begin| *begin > 0).unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another() {
        for bucket in 1..400 {
            assert!(begin(bucket) > begin(bucket - 1), "bucket {bucket}");
            assert_eq!(super::bucket(begin(bucket)), bucket);
            assert_eq!(super::bucket(begin(bucket) - 1), bucket - 1);
        }
        for nanos in [0, 1, 7, 8, 9, 1000, 123_456_789, u64::MAX] {
            let bucket = bucket(nanos);
            assert!(begin(bucket) <= nanos && nanos - begin(bucket) <= begin(bucket) / STEPS, "{nanos} ns");
        }
    }

    #[test]
    fn percentiles_are_the_ends_of_buckets() {
        let mut times = Histogram::default();
        assert_eq!((times.percentile(0.5), times.buckets().count()), (None, 0));
        (0..99).for_each(|_| times.add(Duration::from_nanos(100)));
        times.add(Duration::from_millis(3));
        let [p50, p99, p100] = [0.5, 0.99, 1.0].map(|p| times.percentile(p).unwrap().as_nanos());
        assert_eq!((p50, p99), (104, 104));
        assert!((3_000_000..3_375_000).contains(&p100), "{p100}");
        assert_eq!(times.buckets().map(|(_, count)| count).collect::<Vec<_>>(), [99, 1]);
    }
}
