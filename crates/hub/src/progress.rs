//! How far a download is.

use crate::error::Error;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

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
    first_retry: Mutex<Option<(String, Duration)>>,
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

    /// Why the first request was repeated, and how long it waits, if one was; `None` if that was asked before.
    pub fn take_first_retry(&self) -> Option<(String, Duration)> {
        self.first_retry.lock().unwrap_or_else(PoisonError::into_inner).take()
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

    pub(crate) fn retry(&self, error: &Error, wait: Duration) {
        if self.retries.fetch_add(1, Relaxed) == 0 {
            let mut first = self.first_retry.lock().unwrap_or_else(PoisonError::into_inner);
            *first = Some((error.to_string(), wait));
        }
    }
}
