//! Dense products of float matrices, which the backward passes of training are made of.
//!
//! Blocks of both factors are packed into panels that a kernel reads from end to end, and a tile of the product
//! stays in registers while it runs through a block's depth (Goto and van de Geijn, "Anatomy of High-Performance
//! Matrix Multiplication", 2008). Every number of a product is one chain of fused multiply-adds in each block of
//! [`DEPTH`], and the blocks are added in order; so the bits depend neither on tiles nor on threads nor on the
//! instruction set. Instructions for pairs of bfloat16 do the same: see [`dot::bf16`](crate::dot::bf16).

use crate::simd::{Job, LANES, SMALLEST_BF16, Simd};
use std::ops::Range;

/// Products in one chain.
pub(crate) const DEPTH: usize = 256;
/// Rows of `a` in a panel.
pub(crate) const ROWS: usize = 8;
/// Columns of `b` in a panel.
pub(crate) const COLS: usize = 2 * LANES;

/// A view of a float matrix: element `(i, j)` is `data[i * row + j * col]`.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    pub data: &'a [f32],
    /// The stride from a row to the next.
    pub row: usize,
    /// The stride from a column to the next.
    pub col: usize,
}

impl<'a> Strided<'a> {
    /// A matrix whose rows of `cols` elements follow each other.
    pub fn row_major(data: &'a [f32], cols: usize) -> Strided<'a> {
        Strided { data, row: cols, col: 1 }
    }

    /// The transpose, without moving any data.
    pub fn transposed(self) -> Strided<'a> {
        Strided { row: self.col, col: self.row, ..self }
    }

    /// The matrix from row `i` and column `j` on.
    pub(crate) fn from(self, i: usize, j: usize) -> Strided<'a> {
        Strided { data: &self.data[i * self.row + j * self.col..], ..self }
    }

    /// Panics unless `rows` by `cols` elements are in bounds; both are positive.
    pub(crate) fn check(self, rows: usize, cols: usize) {
        assert!((rows - 1) * self.row + (cols - 1) * self.col < self.data.len());
    }
}

/// The precision to which the factors of a product are rounded before they are multiplied; sums are always float32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Factors {
    #[default]
    F32,
    /// bfloat16; numbers below 2^-56 become zero. CPUs that multiply pairs of them (AVX512-BF16) do so at twice the speed.
    Bf16,
    /// Half precision; larger numbers become infinite.
    F16,
}

/// Some lines of a factor (rows of `a`, columns of `b`) in a block of depth.
pub(crate) struct Piece<'a> {
    /// Element `(line, depth)`.
    pub from: Strided<'a>,
    pub lines: usize,
    pub depth: usize,
    /// Lines of a panel: [`ROWS`] or [`COLS`].
    pub width: usize,
    pub factors: Factors,
}

/// A tile of the product of two packed blocks.
pub(crate) struct GemmTile<'a> {
    pub a: &'a [f32],
    pub b: &'a [f32],
    pub depth: usize,
    pub factors: Factors,
    /// Whether the product is added to `out`.
    pub add: bool,
    /// Rows and columns of the blocks; the first of each is the first of a panel.
    pub rows: Range<usize>,
    pub cols: Range<usize>,
    pub out: Target,
}

/// Where the product of two blocks starts, in rows that are `stride` apart.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    at: *mut f32,
    stride: usize,
}

// SAFETY: see `Target::new`.
unsafe impl Sync for Target {}

impl Target {
    /// # Safety
    /// The rows and columns of every [`GemmTile`] with this target are alive while it is computed, and no two tiles overlap.
    pub unsafe fn new(at: *mut f32, stride: usize) -> Target {
        Target { at, stride }
    }
}

/// Packs a piece: `[depth, width]` for each panel, with zeros for missing lines. Each panel has room for an even depth.
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
            Factors::Bf16 if simd.has_dot_bf16() => {
                let rows = out.as_chunks_mut::<W>().0;
                for i in 0..even / 2 {
                    for j in 0..W {
                        // The instruction begins with the high half.
                        let pair = [rows[2 * i][j], rows[2 * i + 1][j]].map(to_bf16);
                        rows[i][j] = f32::from_bits(pair[0] | pair[1] >> 16);
                    }
                }
            }
            Factors::Bf16 => rows.as_flattened_mut().iter_mut().for_each(|x| *x = f32::from_bits(to_bf16(*x))),
        }
    }
}

/// Depths that are transposed at once.
const STEP: usize = 8;

/// Packs `lines` lines of `from`, stored line by line or depth by depth, as `[depth, W]`.
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
                let mut rows = [simd.splat_u8(0); 8];
                for j in 0..8 {
                    rows[j] = simd.load_halves(eight(j, done), eight(j, done + STEP));
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
                    let mut rows = [simd.splat_u8(0); 8];
                    for j in 0..8 {
                        rows[j] = simd.load_halves(eight(first + j, done), eight(first + j + 8, done));
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

/// The nearest bfloat16 or, for tiny numbers, zero, as the bits of a float. Plain arithmetic, which becomes vectors.
#[inline(always)]
fn to_bf16(x: f32) -> u32 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
    let nearest = (if x.is_nan() { bits | 1 << 22 } else { rounded }) & 0xffff_0000;
    if nearest & 0x7fff_ffff < (SMALLEST_BF16 as u32) << 16 { 0 } else { nearest }
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

/// Computes a tile of the product of packed blocks.
#[inline(always)]
pub(crate) fn tile<S: Simd>(simd: S, tile: &GemmTile) {
    if tile.factors == Factors::Bf16 && simd.has_dot_bf16() {
        simd.call_bf16(Bf16Tile(tile));
    } else if S::WIDE {
        parts::<S, false, 8, 2>(simd, tile);
    } else {
        parts::<S, false, 4, 1>(simd, tile);
    }
}

/// A tile of which pairs of bfloat16 are packed.
struct Bf16Tile<'a>(&'a GemmTile<'a>);

impl Job for Bf16Tile<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        parts::<S, true, 8, 2>(simd, self.0);
    }
}

/// Computes a tile in parts of `R` rows by `C` vectors, whose sums fit the registers.
#[inline(always)]
fn parts<S: Simd, const BF16: bool, const R: usize, const C: usize>(simd: S, tile: &GemmTile) {
    let even = tile.depth.next_multiple_of(2);
    let steps = if BF16 { even / 2 } else { tile.depth };
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
                        simd.prefetch_l1(out.wrapping_add(r * tile.out.stride).cast());
                    }
                    let sums = part::<S, BF16, R, C>(simd, a, b, down, right);
                    // The count is constant, so that sums stay in registers.
                    for r in 0..R {
                        if r < rows {
                            // SAFETY: a part of a row of `out` inside this task's tile.
                            let out =
                                unsafe { std::slice::from_raw_parts_mut(out.wrapping_add(r * tile.out.stride), cols) };
                            write(simd, sums[r], tile.add, out);
                        }
                    }
                }
            }
        }
    }
}

/// The sums of a part, for its place in the panels.
#[inline(always)]
fn part<S: Simd, const BF16: bool, const R: usize, const C: usize>(
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
                sums[r][c] = if BF16 { simd.dot_bf16(x, y[c], sums[r][c]) } else { simd.fma(x, y[c], sums[r][c]) };
            }
        }
    }
    sums
}

/// Writes sums to `out`, or adds them to it.
#[inline(always)]
fn write<S: Simd, const C: usize>(simd: S, sums: [S::F; C], add: bool, out: &mut [f32]) {
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
