//! Bytes of activations in use.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes in use.
#[derive(Default)]
pub struct ActivationMeter {
    live: AtomicUsize,
    /// At most, ever and since the last sample.
    peak: AtomicUsize,
    recent: AtomicUsize,
}

impl ActivationMeter {
    pub fn take(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(live, Relaxed);
        self.recent.fetch_max(live, Relaxed);
    }

    pub fn give(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Relaxed);
    }

    /// Says what is in use now.
    pub fn set(&self, bytes: usize) {
        self.live.store(bytes, Relaxed);
        self.peak.fetch_max(bytes, Relaxed);
        self.recent.store(bytes, Relaxed);
    }

    /// The most, ever.
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// The most since it was asked last.
    pub fn sample(&self) -> usize {
        self.recent.swap(self.live.load(Relaxed), Relaxed)
    }
}
