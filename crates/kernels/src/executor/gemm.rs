//! Dense float products: blocking and tiles.

use super::disjoint::Disjoint;
use super::scratch::PackBuffer;
use super::{CpuExecutor, MIN_PARALLEL_WORK};
use crate::gemm::{COLS, DEPTH, Factors, GemmTile, Piece, ROWS, Strided, Target};
use crate::table::Table;

/// Rows of `a`, and columns of `b`, that are packed at once.
const BAND: usize = 4096;
/// Lines that a task packs: whole panels of either kind.
const LINES: usize = 32;
/// Rows and columns of a task's tile: with the panels of `b` that it reads, they fit the second-level cache.
const TILE: [usize; 2] = [64, 256];

/// A product `[m, n]` of `a`, `[m, k]`, and `b`, `[k, n]`.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    /// `[m, n, k]`.
    pub shape: [usize; 3],
    pub a: Strided<'a>,
    pub b: Strided<'a>,
    /// Whether the product is added to `out`.
    pub add: bool,
    pub factors: Factors,
}

/// Runs a parallel loop: calls its second argument with each task below the first, in any order and on any thread.
type Run<'a> = dyn FnMut(usize, &(dyn Fn(usize) + Sync)) + 'a;

impl CpuExecutor {
    /// `out[i][j] = Σ_k a[i][k] b[k][j]`, or that added to `out` (`add`), for a shape of
    /// `[m, n, k]`; `out` is `[m, n]`, row-major.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn gemm(&mut self, shape: [usize; 3], a: Strided, b: Strided, add: bool, factors: Factors, out: &mut [f32]) {
        let [m, n, k] = shape;
        assert_eq!(out.len(), m * n);
        let job = Product { shape, a, b, add, factors };
        if m * n * k < MIN_PARALLEL_WORK {
            return gemm(self.table, &job, n, out, &mut self.packed);
        }
        let (threads, pool) = (self.pool.active(), &mut self.pool);
        product(self.table, &job, n, out, &mut self.packed, threads, &mut |tasks, body| {
            pool.run(tasks, &|task, _| body(task));
        });
    }
}

/// Elements of packed blocks of both factors.
fn packed_len([m, n, k]: [usize; 3]) -> [usize; 2] {
    // An odd depth has room for another, so that pairs are whole.
    let depth = k.min(DEPTH).next_multiple_of(2);
    [m.min(BAND).next_multiple_of(ROWS) * depth, n.min(BAND).next_multiple_of(COLS) * depth]
}

/// Bytes that [`CpuExecutor::gemm`] needs beside its operands for a shape of `[m, n, k]`.
pub fn gemm_bytes(shape: [usize; 3]) -> usize {
    packed_len(shape).iter().sum::<usize>() * size_of::<f32>()
}

/// Computes a product on the calling thread. Rows of `out` are `stride` apart; what is between them is kept.
///
/// # Panics
/// When the shapes disagree.
pub(super) fn gemm(table: &Table, job: &Product, stride: usize, out: &mut [f32], packed: &mut PackBuffer) {
    product(table, job, stride, out, packed, 1, &mut |tasks, body| (0..tasks).for_each(body));
}

fn product(
    table: &Table,
    job: &Product,
    stride: usize,
    out: &mut [f32],
    packed: &mut PackBuffer,
    threads: usize,
    run: &mut Run,
) {
    let Product { shape: [m, n, k], a, b, add, factors } = *job;
    if m == 0 || n == 0 {
        return;
    }
    assert!(n <= stride && (m - 1) * stride + n <= out.len());
    if k == 0 {
        if !add {
            out.chunks_mut(stride).take(m).for_each(|row| row[..n].fill(0.0));
        }
        return;
    }
    a.check(m, k);
    b.check(k, n);
    let (rows, cols, [len_a, len_b]) = (m.min(BAND), n.min(BAND), packed_len(job.shape));
    let (pack_a, pack_b) = packed.of::<f32>(len_a + len_b).split_at_mut(len_a);
    for row in (0..m).step_by(rows) {
        for col in (0..n).step_by(cols) {
            let (rows, cols) = (rows.min(m - row), cols.min(n - col));
            for start in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - start);
                let (a, b) = (a.from(row, start), b.from(start, col).transposed());
                pack(table, [(a, rows, ROWS, &mut *pack_a), (b, cols, COLS, &mut *pack_b)], depth, factors, run);
                // SAFETY: the band starts inside `out`, which outlives its tiles, and each task computes a tile of its own.
                let target = unsafe { Target::new(out.as_mut_ptr().add(row * stride + col), stride) };
                let tile = GemmTile {
                    a: pack_a,
                    b: pack_b,
                    depth,
                    factors,
                    add: add || start > 0,
                    rows: 0..rows,
                    cols: 0..cols,
                    out: target,
                };
                multiply(table, &tile, threads, run);
            }
        }
    }
}

/// Packs blocks of both factors: the source, its lines, the lines of a panel, and the destination of each.
fn pack(
    table: &Table,
    blocks: [(Strided, usize, usize, &mut [f32]); 2],
    depth: usize,
    factors: Factors,
    run: &mut Run,
) {
    let even = depth.next_multiple_of(2);
    let first = blocks[0].1.div_ceil(LINES);
    let tasks = first + blocks[1].1.div_ceil(LINES);
    let blocks = blocks.map(|(from, lines, width, out)| (from, lines, width, out.len(), Disjoint::of(out)));
    run(tasks, &|task| {
        let ((from, lines, width, len, out), at) =
            if task < first { (&blocks[0], task * LINES) } else { (&blocks[1], (task - first) * LINES) };
        let lines = LINES.min(lines - at);
        let (begin, size) = (at * even, lines.next_multiple_of(*width) * even);
        assert!(begin + size <= *len);
        // SAFETY: inside the block's room, and for this task alone: tasks start at whole panels.
        let out = unsafe { std::slice::from_raw_parts_mut(out.at(begin), size) };
        (table.pack)(&Piece { from: from.from(at, 0), lines, depth, width: *width, factors }, out);
    });
}

/// Computes the product of packed blocks, a tile per task.
fn multiply(table: &Table, all: &GemmTile, threads: usize, run: &mut Run) {
    let (rows, cols) = (all.rows.end, all.cols.end);
    let [height, mut width] = TILE;
    // Small products in smaller tiles, so that there is something for every thread.
    while width > COLS && rows.div_ceil(height) * cols.div_ceil(width) < 4 * threads {
        width /= 2;
    }
    let down = rows.div_ceil(height);
    run(down * cols.div_ceil(width), &|task| {
        // Down first: the panels of `b` stay in the cache.
        let (row, col) = (task % down * height, task / down * width);
        let (rows, cols) = (row..rows.min(row + height), col..cols.min(col + width));
        (table.tile)(&GemmTile { rows, cols, ..*all });
    });
}
