//! Memory that the executor keeps between calls, so that kernels need not allocate.

use crate::cache_line::CacheLine;
use crate::dot::bf16::Strip;
use crate::dot::block::Group;
use std::sync::{Mutex, MutexGuard};

/// Scratch of one thread. What [`reserve`] makes is as long for all of them.
#[derive(Default)]
pub(super) struct Scratch {
    pub floats: Vec<f32>,
    pub bytes: Vec<u8>,
    pub indices: Vec<u32>,
    pub groups: Vec<Group>,
    pub strip: Vec<Strip>,
    pub lines: Vec<CacheLine>,
    /// What was encoded, decoded again.
    pub decoded: Vec<f32>,
    pub backward: BackwardScratch,
}

impl Scratch {
    /// Bytes of its memory.
    pub fn bytes(&self) -> usize {
        let Scratch { floats, bytes, indices, groups, strip, lines, decoded, backward } = self;
        let BackwardScratch { q, dout, dq, dk, dv, weights, grads, slopes, states, totals, packed } = backward;
        let floats: usize = [floats, decoded, q, dout, dq, dk, dv].into_iter().map(bytes_of).sum();
        let lines: usize = [lines, weights, grads, slopes, states, totals].into_iter().map(bytes_of).sum();
        floats + lines + bytes_of(bytes) + bytes_of(indices) + bytes_of(groups) + bytes_of(strip) + packed.bytes()
    }
}

/// Scratch of a thread for the gradients of attention.
#[derive(Default)]
pub(super) struct BackwardScratch {
    /// Queries times the scale, of a tile: `[rows, head_dim]`.
    pub q: Vec<f32>,
    /// Gradients of a tile's output and queries, `[rows, head_dim]`.
    pub dout: Vec<f32>,
    pub dq: Vec<f32>,
    /// Gradients of all keys and values of a head, `[tokens, head_dim]`.
    pub dk: Vec<f32>,
    pub dv: Vec<f32>,
    /// See [`softmax_part`](crate::attention::backward::softmax_part): `[rows, WIDTH]`.
    pub weights: Vec<CacheLine>,
    pub grads: Vec<CacheLine>,
    pub slopes: Vec<CacheLine>,
    /// Largest score and sum of weights of each row, in a part and in total.
    pub states: Vec<CacheLine>,
    pub totals: Vec<CacheLine>,
    pub packed: PackBuffer,
}

/// Memory for numbers of any type.
#[derive(Default)]
pub(super) struct PackBuffer(Vec<CacheLine>);

impl PackBuffer {
    pub fn bytes(&self) -> usize {
        bytes_of(&self.0)
    }

    /// `len` elements of any content.
    pub fn of<T: bytemuck::Pod>(&mut self, len: usize) -> &mut [T] {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<CacheLine>());
        grow(&mut self.0, lines, CacheLine::ZERO);
        &mut bytemuck::cast_slice_mut(&mut self.0[..lines])[..len]
    }
}

/// Makes what `of` takes of each thread's scratch at least `len` long. A loop whose threads need it calls this first: a thread that took no
/// part until then would allocate much later than the others.
pub(super) fn reserve<T: Clone>(
    threads: &mut [Mutex<Scratch>],
    of: fn(&mut Scratch) -> &mut Vec<T>,
    len: usize,
    fill: T,
) {
    let is_short = |thread: &mut Mutex<Scratch>| of(unlocked(thread)).len() < len;
    // All threads have as much as the first.
    if threads.first_mut().is_some_and(is_short) {
        threads.iter_mut().for_each(|thread| grow(of(unlocked(thread)), len, fill.clone()));
    }
}

/// Makes `scratch` at least `len` long.
pub(super) fn grow<T: Clone>(scratch: &mut Vec<T>, len: usize, fill: T) {
    if scratch.len() < len {
        scratch.resize(len, fill);
    }
}

/// Bytes of a buffer.
pub(super) fn bytes_of<T>(buffer: &Vec<T>) -> usize {
    buffer.capacity() * size_of::<T>()
}

fn unlocked<T>(scratch: &mut Mutex<T>) -> &mut T {
    scratch.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub(super) fn lock<T>(scratch: &Mutex<T>) -> MutexGuard<'_, T> {
    scratch.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
