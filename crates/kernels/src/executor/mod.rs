//! Runs kernels on a thread pool: cuts operations into tasks and owns all memory that kernels need.

pub(crate) mod adjoint;
pub(crate) mod attention;
pub(crate) mod attention_backward;
mod disjoint;
mod elementwise;
mod encode;
mod experts;
pub(crate) mod gemm;
pub(crate) mod pool;
mod product;
mod quantize;
mod scratch;
mod tiling;
pub(crate) mod timeline;

use crate::cache_line::CacheLine;
use crate::table::Table;
use disjoint::Disjoint;
use pool::Pool;
use scratch::{PackBuffer, Scratch, bytes_of, lock};
use std::sync::Mutex;
use tiling::Tiling;
use trine_tensor::format::Loss;

/// Multiplications that are worth waking another thread for.
const MIN_PARALLEL_WORK: usize = 1 << 16;
/// Tasks per thread in a parallel loop, so that a delayed thread leaves little to wait for.
const TASKS: usize = 8;

/// Runs operations on the CPU: the kernels of one instruction set on a pool of threads.
///
/// The results do not depend on the instruction set, on the number of threads, or on the tokens that are computed
/// together.
pub struct CpuExecutor {
    pub table: &'static Table,
    pool: Pool,
    /// One per thread: [`Pool::run`] passes the index.
    scratch: Vec<Mutex<Scratch>>,
    /// Packed factors of dense products, and sums of tasks.
    packed: PackBuffer,
    /// States of attention that several threads share.
    states: Vec<CacheLine>,
    tiling: Tiling,
    /// Of each piece of what is encoded.
    losses: Vec<Loss>,
}

/// Called with a row's index, the row, and the thread's scratch.
type RowBody<'a> = dyn Fn(usize, &mut [f32], &mut Scratch) + Sync + 'a;

impl CpuExecutor {
    /// An executor with `threads` threads, the caller's included.
    ///
    /// # Errors
    /// When the system cannot start the threads.
    pub fn new(table: &'static Table, threads: usize) -> std::io::Result<CpuExecutor> {
        Ok(CpuExecutor::with_pool(table, Pool::new(threads)?))
    }

    /// An executor on the threads of `pool`.
    pub fn with_pool(table: &'static Table, pool: Pool) -> CpuExecutor {
        let scratch = (0..pool.threads()).map(|_| Mutex::default()).collect();
        CpuExecutor {
            table,
            pool,
            scratch,
            packed: PackBuffer::default(),
            states: Vec::new(),
            tiling: Tiling::default(),
            losses: Vec::new(),
        }
    }

    /// Frees the memory that kernels needed, which is taken again when they do.
    pub fn trim(&mut self) {
        self.scratch.iter_mut().for_each(|scratch| *lock(scratch) = Scratch::default());
        self.packed = PackBuffer::default();
        (self.states, self.losses) = (Vec::new(), Vec::new());
    }

    /// Bytes that it keeps for kernels.
    pub fn scratch_bytes(&self) -> usize {
        let threads: usize = self.scratch.iter().map(|scratch| lock(scratch).bytes()).sum();
        threads + self.packed.bytes() + bytes_of(&self.states) + bytes_of(&self.losses)
    }

    /// The threads, for other parallel loops.
    pub fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Calls `body(i, row, scratch)` for each row of `width` floats in `out`, in parallel when `work`
    /// multiplications per row make that worthwhile.
    fn rows(&mut self, out: &mut [f32], width: usize, work: usize, body: &RowBody) {
        let rows = out.len() / width;
        let tasks = if rows * work < MIN_PARALLEL_WORK { 1 } else { rows.min(self.threads() * TASKS) };
        let slots = Disjoint::of(out);
        let scratch = &self.scratch;
        self.pool.run(tasks, &|task, thread| {
            let mut scratch = lock(&scratch[thread]);
            for i in task * rows / tasks..(task + 1) * rows / tasks {
                // SAFETY: row `i` is inside `out` and belongs to this task alone.
                body(i, unsafe { slots.row(i, width) }, &mut scratch);
            }
        });
    }

    /// Calls `body(i, row)` for each row of `width` floats in `out`, in parallel when `work`
    /// multiplications per row make that worthwhile.
    pub fn fill(&mut self, out: &mut [f32], width: usize, work: usize, body: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        self.rows(out, width, work, &|i, row, _| body(i, row));
    }
}

/// Calls `body` with each task, in parallel when `work` multiplications in total make that worthwhile.
fn in_parallel(pool: &mut Pool, tasks: usize, work: usize, body: &(dyn Fn(usize) + Sync)) {
    if work < MIN_PARALLEL_WORK {
        (0..tasks).for_each(body);
    } else {
        pool.run(tasks, &|task, _| body(task));
    }
}
