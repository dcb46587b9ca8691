//! Dense products of float matrices, which the backward passes of training are made of.
//!
//! Blocks of both factors are packed into panels that a kernel reads from end to end, and a tile of the product stays in registers while
//! it runs through a block's depth (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008). Every number of a
//! product is one chain of fused multiply-adds in each block of [`DEPTH`], and the blocks are added in order; so the bits depend neither
//! on tiles nor on threads nor on the instruction set. One exception: with [`Factors::Bf16`], CPUs that multiply pairs of bfloat16 do
//! so, rounding the sums in their own way.

use crate::kv::Line;
use crate::machine::{Machine, Slots, WORTH};
use crate::simd::{LANES, Simd};
use crate::table::Table;
use std::ops::Range;

/// Products in one chain.
const DEPTH: usize = 256;
/// Rows of `a` in a panel.
const ROWS: usize = 8;
/// Columns of `b` in a panel.
const COLS: usize = 2 * LANES;
/// Rows of `a`, and columns of `b`, that are packed at once.
const BAND: usize = 4096;
/// Lines that a task packs: whole panels of either kind.
const LINES: usize = 32;
/// Rows and columns of the tile of a task: with the panels of `b` that it reads, they stay in the second-level cache.
const TILE: [usize; 2] = [64, 256];

/// A matrix of floats in memory: element `(i, j)` is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// From the first element on.
    pub data: &'a [f32],
    /// From a row to the next.
    pub row: usize,
    /// From a column to the next.
    pub col: usize,
}

impl<'a> Strided<'a> {
    /// A matrix whose rows of `cols` elements follow each other.
    pub fn row_major(data: &'a [f32], cols: usize) -> Strided<'a> {
        Strided { data, row: cols, col: 1 }
    }

    /// The same matrix with rows for columns.
    pub fn transposed(self) -> Strided<'a> {
        Strided { row: self.col, col: self.row, ..self }
    }

    /// What is behind and below `(i, j)`.
    fn from(self, i: usize, j: usize) -> Strided<'a> {
        Strided { data: &self.data[i * self.row + j * self.col..], ..self }
    }

    /// Panics unless `rows` by `cols` elements are there; both are positive.
    fn check(self, rows: usize, cols: usize) {
        assert!((rows - 1) * self.row + (cols - 1) * self.col < self.data.len());
    }
}

/// What the factors of a product are rounded to before they are multiplied; sums are float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Factors {
    /// Nothing: they stay as they are.
    #[default]
    F32,
    /// bfloat16. On CPUs that multiply pairs of them (AVX512-BF16) at twice the speed, where the last bits of sums are others.
    Bf16,
    /// Half precision; what is beyond it becomes infinite.
    F16,
}

/// A product `[m, n]` of `a`, `[m, k]`, and `b`, `[k, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// `m`, `n` and `k`.
    pub shape: [usize; 3],
    pub a: Strided<'a>,
    pub b: Strided<'a>,
    /// Whether it is added to what is there.
    pub add: bool,
    pub factors: Factors,
}

/// Where packed blocks lie.
#[derive(Default)]
pub(crate) struct Room(Vec<Line>);

impl Room {
    /// So many numbers, which may be anything.
    pub fn of<T: bytemuck::Pod>(&mut self, len: usize) -> &mut [T] {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if self.0.len() < lines {
            self.0.resize(lines, Line::ZERO);
        }
        &mut bytemuck::cast_slice_mut(&mut self.0[..lines])[..len]
    }
}

/// Some lines of a factor (rows of `a`, columns of `b`) in a block of depth.
pub(crate) struct Piece<'a> {
    /// Element `(line, depth)`.
    from: Strided<'a>,
    lines: usize,
    depth: usize,
    /// Lines of a panel: [`ROWS`] or [`COLS`].
    width: usize,
    factors: Factors,
}

/// A tile of the product of two packed blocks.
pub(crate) struct Tile<'a> {
    a: &'a [f32],
    b: &'a [f32],
    depth: usize,
    factors: Factors,
    add: bool,
    /// Of the blocks; the first is the first of a panel.
    rows: Range<usize>,
    cols: Range<usize>,
    out: Target,
}

/// Where the product of two blocks begins, in rows that are `stride` apart.
#[derive(Clone, Copy)]
struct Target {
    at: *mut f32,
    stride: usize,
}

// SAFETY: each task writes a tile of its own.
unsafe impl Sync for Target {}

/// Calls its argument with each task below a number, in whatever order and on whatever thread.
type Run<'a> = dyn FnMut(usize, &(dyn Fn(usize) + Sync)) + 'a;

impl Machine {
    /// `out[i][j] = Σ_k a[i][k] b[k][j]`, or that added to `out` (`add`), for a shape of `[m, n, k]`; `out` is `[m, n]`, row-major.
    ///
    /// # Panics
    /// When the shapes disagree.
    pub fn gemm(&mut self, shape: [usize; 3], a: Strided, b: Strided, add: bool, factors: Factors, out: &mut [f32]) {
        let [m, n, k] = shape;
        assert_eq!(out.len(), m * n);
        let job = Product { shape, a, b, add, factors };
        if m * n * k < WORTH {
            return gemm(self.table, &job, n, out, &mut self.packed);
        }
        let (threads, pool) = (self.pool.active(), &mut self.pool);
        product(self.table, &job, n, out, &mut self.packed, threads, &mut |tasks, body| {
            pool.run(tasks, &|task, _| body(task));
        });
    }
}

/// A product on the calling thread. Rows of `out` begin `stride` apart; what is between them stays.
///
/// # Panics
/// When the shapes disagree.
pub(crate) fn gemm(table: &Table, job: &Product, stride: usize, out: &mut [f32], room: &mut Room) {
    product(table, job, stride, out, room, 1, &mut |tasks, body| (0..tasks).for_each(body));
}

fn product(
    table: &Table,
    job: &Product,
    stride: usize,
    out: &mut [f32],
    room: &mut Room,
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
    let (rows, cols) = (m.min(BAND), n.min(BAND));
    let (whole_rows, whole_cols) = (rows.next_multiple_of(ROWS), cols.next_multiple_of(COLS));
    // An odd depth has room for another, so that pairs are whole.
    let depth = k.min(DEPTH).next_multiple_of(2);
    let (pack_a, pack_b) = room.of::<f32>((whole_rows + whole_cols) * depth).split_at_mut(whole_rows * depth);
    for row in (0..m).step_by(rows) {
        for col in (0..n).step_by(cols) {
            let (rows, cols) = (rows.min(m - row), cols.min(n - col));
            for start in (0..k).step_by(DEPTH) {
                let depth = DEPTH.min(k - start);
                let (a, b) = (a.from(row, start), b.from(start, col).transposed());
                pack(table, [(a, rows, ROWS, &mut *pack_a), (b, cols, COLS, &mut *pack_b)], depth, factors, run);
                // SAFETY: the band begins inside `out`.
                let at = unsafe { out.as_mut_ptr().add(row * stride + col) };
                let tile = Tile {
                    a: pack_a,
                    b: pack_b,
                    depth,
                    factors,
                    add: add || start > 0,
                    rows: 0..rows,
                    cols: 0..cols,
                    out: Target { at, stride },
                };
                multiply(table, &tile, threads, run);
            }
        }
    }
}

/// Packs blocks: where each is, how many lines it has, how many there are in a panel, and where it goes.
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
    let blocks = blocks.map(|(from, lines, width, out)| (from, lines, width, out.len(), Slots::of(out)));
    run(tasks, &|task| {
        let ((from, lines, width, len, out), at) =
            if task < first { (&blocks[0], task * LINES) } else { (&blocks[1], (task - first) * LINES) };
        let lines = LINES.min(lines - at);
        let (begin, size) = (at * even, lines.next_multiple_of(*width) * even);
        assert!(begin + size <= *len);
        // SAFETY: inside the block's room, and for this task alone: tasks begin with whole panels.
        let out = unsafe { std::slice::from_raw_parts_mut(out.at(begin), size) };
        (table.pack)(&Piece { from: from.from(at, 0), lines, depth, width: *width, factors }, out);
    });
}

/// The product of packed blocks, a tile for each task.
fn multiply(table: &Table, all: &Tile, threads: usize, run: &mut Run) {
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
        (table.tile)(&Tile { rows, cols, ..*all });
    });
}

/// Packs a piece: for each panel `[depth, width]`, with zeros for lines that are not there. Each panel has room for an even depth.
#[inline(always)]
pub(crate) fn pack_piece<S: Simd>(simd: S, piece: &Piece, out: &mut [f32]) {
    match piece.width {
        ROWS => panels::<S, ROWS>(simd, piece, out),
        _ => panels::<S, COLS>(simd, piece, out),
    }
}

#[inline(always)]
fn panels<S: Simd, const W: usize>(simd: S, piece: &Piece, out: &mut [f32]) {
    let even = piece.depth.next_multiple_of(2);
    for (i, out) in out.chunks_exact_mut(W * even).enumerate() {
        let (rows, odd) = out.as_chunks_mut::<W>().0.split_at_mut(piece.depth);
        odd.as_flattened_mut().fill(0.0);
        panel(simd, piece.from.from(i * W, 0), W.min(piece.lines - i * W), rows);
        match piece.factors {
            Factors::F32 => (),
            Factors::F16 => rows.as_flattened_mut().iter_mut().for_each(|x| *x = to_f16(*x)),
            Factors::Bf16 if simd.pairs().is_some() => {
                let rows = out.as_chunks_mut::<W>().0;
                for i in 0..even / 2 {
                    for j in 0..W {
                        let pair = [rows[2 * i][j], rows[2 * i + 1][j]].map(to_bf16);
                        rows[i][j] = f32::from_bits(pair[1] | pair[0] >> 16);
                    }
                }
            }
            Factors::Bf16 => rows.as_flattened_mut().iter_mut().for_each(|x| *x = f32::from_bits(to_bf16(*x))),
        }
    }
}

/// Depths that are transposed at once.
const STEP: usize = 8;

/// So many lines of `from`, line by line in memory or depth by depth, as `[depth, W]`.
#[inline(always)]
fn panel<S: Simd, const W: usize>(simd: S, from: Strided, lines: usize, out: &mut [[f32; W]]) {
    let Strided { data, row, col } = from;
    let mut done = 0;
    if row == 1 && lines == W {
        for (depth, out) in out.iter_mut().enumerate() {
            *out = *data[depth * col..].first_chunk().expect("whole lines");
        }
        return;
    }
    if col == 1 && lines == W {
        let eight = |line: usize, depth: usize| -> &[u8; 4 * STEP] {
            bytemuck::cast_ref(data[line * row + depth..].first_chunk::<STEP>().expect("whole lines"))
        };
        if W == ROWS {
            // The two rows of each input are the same line, at two depths.
            while done + 2 * STEP <= out.len() {
                let mut rows = [simd.splat8(0); 8];
                for j in 0..8 {
                    rows[j] = simd.pair(eight(j, done), eight(j, done + STEP));
                }
                let columns = simd.transpose8(rows);
                for c in 0..8 {
                    let mut both = [0; 64];
                    simd.store_bytes(columns[c], &mut both);
                    let both: [[f32; STEP]; 2] = bytemuck::cast(both);
                    out[done + c][..STEP].copy_from_slice(&both[0]);
                    out[done + STEP + c][..STEP].copy_from_slice(&both[1]);
                }
                done += 2 * STEP;
            }
        } else {
            while done + STEP <= out.len() {
                for first in (0..W).step_by(LANES) {
                    let mut rows = [simd.splat8(0); 8];
                    for j in 0..8 {
                        rows[j] = simd.pair(eight(first + j, done), eight(first + j + 8, done));
                    }
                    let columns = simd.transpose8(rows);
                    for c in 0..8 {
                        let to: &mut [f32; LANES] = out[done + c][first..].first_chunk_mut().expect("whole groups");
                        simd.store_bytes(columns[c], bytemuck::cast_mut(to));
                    }
                }
                done += STEP;
            }
        }
    }
    for (depth, out) in out.iter_mut().enumerate().skip(done) {
        for (line, out) in out[..lines].iter_mut().enumerate() {
            *out = data[line * row + depth * col];
        }
        out[lines..].fill(0.0);
    }
}

/// The nearest bfloat16, as the bits of a float. Plain arithmetic, which becomes vectors.
#[inline(always)]
fn to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    (if x.is_nan() { bits | 1 << 22 } else { rounded }) & 0xffff_0000
}

/// The nearest number of half precision.
#[inline(always)]
fn to_f16(x: f32) -> f32 {
    let bits = x.to_bits();
    let normal = f32::from_bits(bits.wrapping_add(0xfff + (bits >> 13 & 1)) & !0x1fff);
    // Numbers between a half and one are as far apart as the smallest ones of half precision.
    let small = (x.abs() + 0.5) - 0.5;
    let rounded = if x.abs() < 6.103_515_6e-5 { small.copysign(x) } else { normal };
    let finite = if rounded.abs() > 65504.0 { f32::INFINITY.copysign(x) } else { rounded };
    if x.is_nan() { x } else { finite }
}

/// The product of packed blocks, a tile of it.
#[inline(always)]
pub(crate) fn tile<S: Simd>(simd: S, tile: &Tile) {
    match simd.pairs() {
        Some(pairs) if tile.factors == Factors::Bf16 => pairs(tile),
        _ if S::WIDE => parts::<S, false, 8, 2>(simd, tile),
        _ => parts::<S, false, 4, 1>(simd, tile),
    }
}

/// The same where pairs of bfloat16 are packed.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn pairs<S: Simd>(simd: S, tile: &Tile) {
    parts::<S, true, 8, 2>(simd, tile);
}

/// By parts of `R` rows by `C` vectors, which registers hold.
#[inline(always)]
fn parts<S: Simd, const PAIRS: bool, const R: usize, const C: usize>(simd: S, tile: &Tile) {
    let even = tile.depth.next_multiple_of(2);
    let steps = if PAIRS { even / 2 } else { tile.depth };
    for col in tile.cols.clone().step_by(COLS) {
        let b = tile.b[col * even..][..COLS * steps].as_chunks::<COLS>().0;
        for row in tile.rows.clone().step_by(ROWS) {
            let a = tile.a[row * even..][..ROWS * steps].as_chunks::<ROWS>().0;
            for right in (0..COLS.min(tile.cols.end - col)).step_by(C * LANES) {
                for down in (0..ROWS.min(tile.rows.end - row)).step_by(R) {
                    let (row, col) = (row + down, col + right);
                    let (rows, cols) = (R.min(tile.rows.end - row), (C * LANES).min(tile.cols.end - col));
                    let out = tile.out.at.wrapping_add(row * tile.out.stride + col);
                    for r in 0..rows {
                        simd.prefetch(out.wrapping_add(r * tile.out.stride).cast());
                    }
                    let sums = part::<S, PAIRS, R, C>(simd, a, b, down, right);
                    // The count is constant, so that sums stay in registers.
                    for r in 0..R {
                        if r < rows {
                            // SAFETY: a part of a row of `out` inside this task's tile.
                            let out =
                                unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(r * tile.out.stride), cols) };
                            put(simd, sums[r], tile.add, out);
                        }
                    }
                }
            }
        }
    }
}

/// The sums of a part, for its place in the panels.
#[inline(always)]
fn part<S: Simd, const PAIRS: bool, const R: usize, const C: usize>(
    simd: S,
    a: &[[f32; ROWS]],
    b: &[[f32; COLS]],
    down: usize,
    right: usize,
) -> [[S::F; C]; R] {
    assert!(down + R <= ROWS && right + C * LANES <= COLS);
    let mut sums = [[simd.splat(0.0); C]; R];
    for (a, b) in a.iter().zip(b) {
        let mut y = [simd.splat(0.0); C];
        for c in 0..C {
            y[c] = simd.load(&b[right + c * LANES..]);
        }
        for r in 0..R {
            let x = simd.splat(a[down + r]);
            for c in 0..C {
                sums[r][c] = if PAIRS { simd.fma_pairs(x, y[c], sums[r][c]) } else { simd.fma(x, y[c], sums[r][c]) };
            }
        }
    }
    sums
}

/// Writes sums, or adds them.
#[inline(always)]
fn put<S: Simd, const C: usize>(simd: S, sums: [S::F; C], add: bool, out: &mut [f32]) {
    if out.len() == C * LANES {
        for c in 0..C {
            let out = &mut out[c * LANES..][..LANES];
            simd.store(if add { simd.add(simd.load(out), sums[c]) } else { sums[c] }, out);
        }
        return;
    }
    let mut all = [[0.0; LANES]; C];
    for c in 0..C {
        simd.store(sums[c], &mut all[c]);
    }
    for (out, sum) in out.iter_mut().zip(all.as_flattened()) {
        *out = if add { *out + sum } else { *sum };
    }
}
