//! Activations of the CPU: buffers that are recycled, and what products make of them once.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use trine_kernels::{ActivationLayout, QuantizedActivations};
use trine_tensor::memory;

/// Activations of the [`Cpu`](super::Cpu), `[rows, cols]`. Their memory goes back to the device when they are dropped.
pub struct Act {
    pub(super) data: Vec<f32>,
    pub(super) cols: usize,
    /// Other forms of the same numbers, made when a product first asks for them and shared by all that follow.
    pub(super) derived: RefCell<Derived>,
    pub(super) store: Arc<Mutex<Store>>,
}

impl Act {
    /// The numbers, row by row.
    pub fn data(&self) -> &[f32] {
        &self.data
    }

    /// The numbers, to be changed: what was derived from them is forgotten.
    pub fn data_mut(&mut self) -> &mut [f32] {
        let derived = self.derived.get_mut();
        let mut store = lock(&self.store);
        store.floats.extend(derived.rounded.take());
        store.bytes.extend(derived.bytes.drain(..).map(|(_, bytes)| bytes));
        &mut self.data
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.data.len() / self.cols
    }

    /// Numbers of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

#[derive(Default)]
pub(super) struct Derived {
    pub(super) bytes: Vec<(ActivationLayout, QuantizedActivations)>,
    /// What the bytes of [`ActivationLayout::PerToken`] stand for.
    pub(super) rounded: Option<Vec<f32>>,
}

/// Buffers that nobody uses now.
#[derive(Default)]
pub(super) struct Store {
    pub(super) huge_pages: bool,
    /// [`CpuOptions::tight_buffers`](super::CpuOptions::tight_buffers).
    pub(super) tight: bool,
    pub(super) floats: Vec<Vec<f32>>,
    pub(super) bytes: Vec<QuantizedActivations>,
    pub(super) derived: Vec<Derived>,
    /// Bytes of all buffers of floats, in use or not.
    pub(super) allocated: usize,
}

/// A buffer, or what a plan knows of one.
pub(super) trait Buffers {
    fn len(&self) -> usize;
    fn capacity(&self) -> usize;
}

impl Buffers for Vec<f32> {
    fn len(&self) -> usize {
        self.len()
    }
    fn capacity(&self) -> usize {
        self.capacity()
    }
}

/// The buffer to take for one of this length: one that had it, or else the smallest that is large enough, or the largest that is smaller, which
/// has to grow. With `tight`, one that is more than twice as large is not taken.
pub(super) fn choose<B: Buffers>(buffers: &[B], len: usize, tight: bool) -> Option<usize> {
    let all = || buffers.iter().enumerate();
    let limit = if tight { len.saturating_mul(2) } else { usize::MAX };
    let fits = all().filter(|(_, buffer)| (len..=limit).contains(&buffer.capacity()));
    let found = fits.min_by_key(|(_, buffer)| (buffer.len() != len, buffer.capacity()));
    let smaller = || all().filter(|(_, buffer)| buffer.capacity() < len).max_by_key(|(_, buffer)| buffer.capacity());
    found.or_else(smaller).map(|(i, _)| i)
}

impl Store {
    /// A buffer of this length, of any content. What a buffer has lost of its length is filled when it gets it back.
    pub(super) fn floats(&mut self, len: usize) -> Vec<f32> {
        let found = choose(&self.floats, len, self.tight);
        let mut buffer = found.map_or_else(Vec::new, |i| self.floats.swap_remove(i));
        if buffer.capacity() < len {
            let before = buffer.capacity();
            buffer.reserve_exact(len - buffer.len());
            self.allocated += (buffer.capacity() - before) * size_of::<f32>();
            if self.huge_pages {
                memory::advise_huge_pages(buffer.spare_capacity_mut());
            }
        }
        buffer.resize(len, 0.0);
        buffer
    }
}

impl Store {
    /// Frees the buffers that nobody uses.
    pub(super) fn trim(&mut self) {
        let idle: usize = self.floats.drain(..).map(|buffer| buffer.capacity() * size_of::<f32>()).sum();
        self.allocated -= idle;
        (self.bytes, self.derived) = (Vec::new(), Vec::new());
    }
}

impl Drop for Act {
    fn drop(&mut self) {
        let mut derived = std::mem::take(self.derived.get_mut());
        let mut store = lock(&self.store);
        store.floats.push(std::mem::take(&mut self.data));
        store.floats.extend(derived.rounded.take());
        store.bytes.extend(derived.bytes.drain(..).map(|(_, bytes)| bytes));
        store.derived.push(derived);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
