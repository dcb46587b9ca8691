//! How far a download is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A request that failed and is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub problem: String,
    /// How long it waits.
    pub wait: Duration,
    /// The attempt that comes, counted from 1.
    pub attempt: u32,
    /// The last attempt.
    pub most: u32,
}

/// Counters that another thread may read while [`crate::Hub::pull`] runs.
#[derive(Debug, Default)]
pub struct Progress {
    total: AtomicU64,
    /// Bytes of earlier runs.
    kept: AtomicU64,
    /// Bytes of this run.
    received: AtomicU64,
    to_check: AtomicU64,
    checked: AtomicU64,
    retries: AtomicU64,
    retry: Mutex<Option<Retry>>,
}

impl Progress {
    /// Bytes of the files that are downloaded.
    pub fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Bytes that are there, of this run and earlier ones.
    pub fn done(&self) -> u64 {
        self.kept() + self.received.load(Relaxed)
    }

    /// Bytes that earlier runs have left.
    pub fn kept(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// Bytes whose hashes are computed, and how many of them are done.
    pub fn checked(&self) -> (u64, u64) {
        (self.checked.load(Relaxed), self.to_check.load(Relaxed))
    }

    /// Requests that were repeated.
    pub fn retries(&self) -> u64 {
        self.retries.load(Relaxed)
    }

    /// The last repeated request that is worth a line, once: each until the hub answers, then the first, since there may be many.
    pub fn take_retry(&self) -> Option<Retry> {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn expect(&self, total: u64, kept: u64) {
        self.total.fetch_add(total, Relaxed);
        self.kept.fetch_add(kept, Relaxed);
    }

    pub(crate) fn receive(&self, bytes: u64) {
        self.received.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn expect_check(&self, bytes: u64) {
        self.to_check.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn check(&self, bytes: u64) {
        self.checked.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn retry(&self, retry: Retry, is_contact: bool) {
        if self.retries.fetch_add(1, Relaxed) == 0 || is_contact {
            *self.retry.lock().unwrap_or_else(PoisonError::into_inner) = Some(retry);
        }
    }
}
