//! Random load for a time, a third of which is cancelled: memory does not grow. `SOAK_SECONDS=3600` is the long form.

use fastrand::Rng;
use std::path::Path;
use std::time::{Duration, Instant};
use trine::engine::{DiskCacheOptions, Handle};
use trine::prelude::*;

/// Clients that send requests, one after the other.
const CLIENTS: usize = 6;

/// Bytes of anonymous memory that this process has in RAM.
fn anonymous_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    Some(1024.0 * line.split_whitespace().nth(1)?.parse::<f64>().ok()?)
}

/// Bytes per second by which memory grows, by least squares.
fn slope(samples: &[(f64, f64)]) -> f64 {
    let n = samples.len() as f64;
    let (x, y) = (samples.iter().map(|s| s.0).sum::<f64>() / n, samples.iter().map(|s| s.1).sum::<f64>() / n);
    let covariance: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    covariance / samples.iter().map(|s| (s.0 - x).powi(2)).sum::<f64>()
}

/// Sends requests until the time is over; how many were answered, and how many were cancelled.
fn client(handle: &Handle, seed: u64, end: Instant) -> (usize, usize) {
    let mut random = Rng::with_seed(seed);
    let (mut answered, mut cancelled) = (0, 0);
    while Instant::now() < end {
        let prompt: Vec<u32> = (0..random.usize(1..200)).map(|_| random.u32(3..250)).collect();
        let sampling = Sampling { max_tokens: Some(random.usize(1..100)), ignore_eos: true, ..Sampling::default() };
        let mut generation = handle.submit(Request::new(prompt, sampling)).unwrap();
        if random.usize(..3) > 0 {
            generation.answer().unwrap();
            answered += 1;
        } else {
            // In the queue, while its prompt is read, or while it generates.
            let updates = random.usize(..20);
            generation.iter().take(updates).for_each(drop);
            cancelled += 1;
        }
    }
    (answered, cancelled)
}

#[test]
fn an_engine_under_random_load_does_not_grow() {
    if anonymous_memory().is_none() {
        return println!("skipped: needs /proc/self/status with RssAnon");
    }
    // As the program does.
    trine_tensor::memory::use_one_arena();
    let seconds = std::env::var("SOAK_SECONDS").map_or(5, |seconds| seconds.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut options = Options::default();
    options.engine.max_sequences = 4;
    options.engine.disk_cache =
        Some(DiskCacheOptions { max_bytes: 8 << 20, ..DiskCacheOptions::new(folder.path(), "soak") });
    let (handle, _) = options.spawn(Path::new(EMBEDDED)).unwrap();
    let begin = Instant::now();
    let end = begin + Duration::from_secs(seconds);
    let (mut samples, mut counts) = (Vec::new(), (0, 0));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS as u64).map(|i| (i, handle.clone())).collect();
        let clients: Vec<_> =
            clients.into_iter().map(|(i, handle)| scope.spawn(move || client(&handle, i, end))).collect();
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(200));
            let sample = (begin.elapsed().as_secs_f64(), anonymous_memory().unwrap());
            if sample.0 as u64 / 60 > samples.last().map_or(0, |&(at, _): &(f64, f64)| at as u64 / 60) {
                println!("{:.0} s: {:.2} MiB", sample.0, sample.1 / f64::from(1 << 20));
            }
            samples.push(sample);
        }
        for client in clients {
            let (answered, cancelled) = client.join().unwrap();
            counts = (counts.0 + answered, counts.1 + cancelled);
        }
    });
    handle.ping().unwrap();
    let load = handle.load().unwrap();
    assert_eq!((load.running, load.waiting, load.used_blocks), (0, 0, 0));
    handle.shutdown().unwrap();
    // What comes first fills caches: ten minutes of an hour, or most of a short run.
    let warm = if seconds >= 1200 { 600.0 } else { 0.6 * seconds as f64 };
    samples.retain(|&(at, _)| at > warm);
    let growth = slope(&samples) * 3600.0 / f64::from(1 << 20);
    let last = samples.last().unwrap().1 / f64::from(1 << 20);
    println!(
        "{counts:?} answered and cancelled in {seconds} s; {growth:.2} MiB/h after {warm} s, at the end {last:.1} MiB"
    );
    assert!(counts.0 > 0 && counts.1 > 0);
    if seconds >= 1200 {
        assert!(growth < 1.0, "{growth} MiB per hour");
    } else {
        let first = samples[0].1 / f64::from(1 << 20);
        assert!(last < first + 16.0, "{first} MiB grew to {last}");
    }
}
