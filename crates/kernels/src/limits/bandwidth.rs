//! Memory bandwidth.

use super::together;
use memmap2::MmapMut;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Far more than the cache that a few cores share.
const BYTES: usize = 512 << 20;
/// Bytes of a task, so that a delayed thread takes fewer.
const CHUNK: usize = 2 << 20;
/// Passes over the buffer per sample: an eighth of a second at 34 GB/s.
const PASSES: usize = 8;
const HUGE: usize = 2 << 20;
const WORDS: usize = BYTES / size_of::<u64>();

/// The size of the pages that memory is mapped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// The system's default, mostly 4 KiB.
    Small,
    /// 2 MiB.
    Huge,
}

impl Pages {
    /// The usual size, for display.
    pub fn name(self) -> &'static str {
        match self {
            Pages::Small => "4 KiB",
            Pages::Huge => "2 MiB",
        }
    }
}

/// Measures read bandwidth over a buffer of 512 MiB.
pub struct Meter {
    map: MmapMut,
    range: Range<usize>,
    threads: usize,
    cpus: Vec<usize>,
}

impl Meter {
    /// Maps a buffer with pages of the given size and writes it once, with the threads that will read it, bound
    /// round-robin to `cpus` if there are any. `None` if the system lacks the memory, or grants no huge pages.
    pub fn new(threads: usize, cpus: &[usize], pages: Pages) -> Option<Meter> {
        let map = MmapMut::map_anon(BYTES + HUGE).ok()?;
        let start = map.as_ptr().addr().next_multiple_of(HUGE) - map.as_ptr().addr();
        let mut meter = Meter { map, range: start..start + BYTES, threads: threads.max(1), cpus: cpus.to_vec() };
        #[cfg(target_os = "linux")]
        {
            use memmap2::Advice;
            let granted = meter.map.advise(if pages == Pages::Huge { Advice::HugePage } else { Advice::NoHugePage });
            // A system without huge pages refuses both.
            if pages == Pages::Huge && granted.is_err() {
                return None;
            }
        }
        meter.fill();
        (pages == Pages::Small || meter.is_huge()).then_some(meter)
    }

    /// Word `i` becomes `i`.
    fn fill(&mut self) {
        let words: &mut [u64] = bytemuck::cast_slice_mut(&mut self.map[self.range.clone()]);
        let part = WORDS.div_ceil(self.threads);
        let parts: Vec<_> = words.chunks_mut(part).map(Mutex::new).collect();
        together(parts.len(), &self.cpus, &|thread| {
            let mut words = parts[thread].lock().expect("nobody else takes it");
            words.iter_mut().enumerate().for_each(|(i, word)| *word = (thread * part + i) as u64);
            0
        });
    }

    /// Whether at least nine tenths of the buffer are in huge pages.
    fn is_huge(&self) -> bool {
        let address = self.map[self.range.clone()].as_ptr().addr();
        let huge = || {
            let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
            let mut inside = false;
            for line in maps.lines() {
                let mut words = line.split_ascii_whitespace();
                let first = words.next()?;
                if let Some((from, to)) = first.split_once('-') {
                    let parse = |text| usize::from_str_radix(text, 16).ok();
                    inside = (parse(from)?..parse(to)?).contains(&address);
                } else if inside && first == "AnonHugePages:" {
                    return Some(words.next()?.parse::<usize>().ok()? << 10);
                }
            }
            None
        };
        huge().is_some_and(|bytes| bytes >= BYTES / 10 * 9)
    }

    /// Bytes per second, over about an eighth of a second.
    ///
    /// # Panics
    /// When the sum of what was read is wrong.
    pub fn sample(&self) -> f64 {
        let words: &[u64] = bytemuck::cast_slice(&self.map[self.range.clone()]);
        let chunks: Vec<&[u64]> = words.chunks(CHUNK / size_of::<u64>()).collect();
        let next = AtomicUsize::new(0);
        let (seconds, sums) = together(self.threads, &self.cpus, &|_| {
            let mut total = 0u64;
            loop {
                let task = next.fetch_add(1, Relaxed);
                if task >= PASSES * chunks.len() {
                    return total;
                }
                total = total.wrapping_add(sum(chunks[task % chunks.len()]));
            }
        });
        let expected = (PASSES * (WORDS / 2)).wrapping_mul(WORDS - 1) as u64;
        let found = sums.into_iter().fold(0, u64::wrapping_add);
        assert_eq!(found, expected, "the sum of what was read");
        (PASSES * BYTES) as f64 / seconds
    }
}

/// The sum of all words, with the widest loads that the CPU has.
fn sum(words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512(words: &[u64]) -> u64 {
            plain(words)
        }
        #[target_feature(enable = "avx2")]
        fn avx2(words: &[u64]) -> u64 {
            plain(words)
        }
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the CPU has it.
            return unsafe { avx512(words) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has it.
            return unsafe { avx2(words) };
        }
    }
    plain(words)
}

/// A loop that the compiler makes vectors of.
#[inline(always)]
fn plain(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        // `sample` checks the sum itself.
        let meter = Meter::new(2, &[], Pages::Small).expect("512 MiB");
        assert!(meter.sample() > 0.0);
        let words: Vec<u64> = (0..1000).map(|i| i * i).collect();
        assert_eq!(sum(&words), words.iter().sum::<u64>());
    }
}
