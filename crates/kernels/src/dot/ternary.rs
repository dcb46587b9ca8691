//! Products with ternary formats, weights `d * {-1, 0, 1}`, as in BitNet b1.58 (arXiv:2402.17764): activations are
//! bytes with one scale per token, so that all sums are exact integers.
//!
//! Codes are stored as `t + 1`, so that the unsigned-by-signed byte product applies: `Σ t·q = Σ code·q - Σ q`. Blocks
//! with the same `d` are one exact sum; a block whose `d` is zero is skipped. Hence a model with one scale per matrix
//! gives the same bits from every layout, whether the format writes that scale once or in each block.

use super::{AHEAD, prefetch_rows};
use crate::activations::{CACHED, TokenActivations};
use crate::matrix::{Out, Rows};
use crate::simd::{BYTES, Simd};
use half::f16;
use std::ops::Range;

/// A ternary format: how a block is unpacked.
pub(crate) trait Trits {
    /// Bytes before the blocks of a row.
    const HEAD: usize = 0;
    /// Bytes of a block, and of its codes.
    const BYTES: usize;
    const CODES: usize;
    /// Bytes of the activations that a block is multiplied by.
    const WIDTH: usize;
    /// Blocks that fill a vector.
    const STEP: usize;
    /// Vectors of codes in those.
    const VECTORS: usize;
    /// Multiply one row's codes by all activations before the next row's: for codes that are costly to
    /// unpack, and activations that are not.
    const ROWS_FIRST: bool = false;
    /// The scale of a block; if the row has a head, that of the row, of which `block` is then the head.
    fn scale(block: &[u8], tail: &[u8]) -> f32;
    /// A number that differs between blocks of different scales, and is 0 for a scale of 0.
    #[inline(always)]
    fn mark(block: &[u8]) -> u16 {
        let bits = u16::from_le_bytes([block[Self::CODES], block[Self::CODES + 1]]);
        if bits << 1 == 0 { 0 } else { bits }
    }
    /// Vector `n` of codes, at most 3.
    fn codes<S: Simd>(simd: S, packed: S::B, n: usize) -> S::B;
    /// The activations that vector `n` of codes is multiplied by.
    fn activations<S: Simd>(simd: S, q: &[i8], n: usize) -> S::B;
}

/// 64 bytes of codes of two bits: 32 with weights 0..32, 32..64, ... of the first 128, and 32 of the next 128.
#[inline(always)]
fn two_bits<S: Simd>(simd: S, q: &[i8], n: usize) -> S::B {
    let q: &[u8] = bytemuck::cast_slice(q);
    let (low, high) = (q[32 * n..].first_chunk(), q[32 * (n + 4)..].first_chunk());
    simd.load_halves(low.expect("32 columns"), high.expect("32 columns"))
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct I2_S;
impl Trits for I2_S {
    const BYTES: usize = 32;
    const CODES: usize = 32;
    const WIDTH: usize = 128;
    const STEP: usize = 2;
    const VECTORS: usize = 4;
    #[inline(always)]
    fn mark(_: &[u8]) -> u16 {
        1
    }
    #[inline(always)]
    fn scale(_: &[u8], tail: &[u8]) -> f32 {
        f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, packed: S::B, n: usize) -> S::B {
        simd.shr_mask(packed, 6 - 2 * n as u32, 3)
    }
    #[inline(always)]
    fn activations<S: Simd>(simd: S, q: &[i8], n: usize) -> S::B {
        two_bits(simd, q, n)
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_BN;
impl Trits for IQ2_BN {
    const HEAD: usize = 4;
    const BYTES: usize = 16;
    const CODES: usize = 16;
    const WIDTH: usize = 64;
    const STEP: usize = 4;
    const VECTORS: usize = 4;
    #[inline(always)]
    fn mark(_: &[u8]) -> u16 {
        1
    }
    #[inline(always)]
    fn scale(row: &[u8], _: &[u8]) -> f32 {
        f32::from_le_bytes([row[0], row[1], row[2], row[3]])
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, packed: S::B, n: usize) -> S::B {
        simd.shr_mask(packed, 2 * n as u32, 3)
    }
    #[inline(always)]
    fn activations<S: Simd>(simd: S, q: &[i8], n: usize) -> S::B {
        let q: &[u8] = bytemuck::cast_slice(q);
        let part = |block: usize| q[64 * block + 16 * n..].first_chunk().expect("16 columns");
        simd.load_quarters([part(0), part(1), part(2), part(3)])
    }
}

pub(crate) struct TQ2_0;
impl Trits for TQ2_0 {
    const BYTES: usize = 66;
    const CODES: usize = 64;
    const WIDTH: usize = 256;
    const STEP: usize = 1;
    const VECTORS: usize = 4;
    #[inline(always)]
    fn scale(block: &[u8], _: &[u8]) -> f32 {
        f16::from_le_bytes([block[64], block[65]]).to_f32()
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, packed: S::B, n: usize) -> S::B {
        simd.shr_mask(packed, 2 * n as u32, 3)
    }
    #[inline(always)]
    fn activations<S: Simd>(simd: S, q: &[i8], n: usize) -> S::B {
        two_bits(simd, q, n)
    }
}

/// Bytes of activations that stay in the first-level cache while rows are streamed through it.
const FIRST: usize = 16 << 10;

/// Bytes of activations that a block of TQ1_0 is multiplied by: five vectors, one for each trit of its bytes.
pub(crate) const TQ1_WIDTH: usize = 5 * BYTES;

/// Of 48 bytes with five trits, the first 32 hold 32 weights each time and the others 16; four more bytes hold four
/// trits.
pub(crate) struct TQ1_0;
impl Trits for TQ1_0 {
    const BYTES: usize = 54;
    const CODES: usize = 52;
    const WIDTH: usize = TQ1_WIDTH;
    const STEP: usize = 1;
    const VECTORS: usize = 5;
    const ROWS_FIRST: bool = true;
    #[inline(always)]
    fn scale(block: &[u8], _: &[u8]) -> f32 {
        f16::from_le_bytes([block[52], block[53]]).to_f32()
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, packed: S::B, n: usize) -> S::B {
        simd.trits(packed)[n]
    }
    #[inline(always)]
    fn activations<S: Simd>(simd: S, q: &[i8], n: usize) -> S::B {
        let q: &[u8] = bytemuck::cast_slice(q);
        simd.load_bytes(q[BYTES * n..].first_chunk().expect("64 columns"))
    }
}

/// The activations of 256 columns in the order of [`TQ1_0`]'s trits, zero where a byte has no weight.
pub(crate) fn tq1_order(q: &[i8; 256], out: &mut [i8; TQ1_WIDTH]) {
    for (n, out) in out.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
        out[..32].copy_from_slice(&q[32 * n..][..32]);
        out[32..48].copy_from_slice(&q[160 + 16 * n..][..16]);
        out[48..].fill(0);
        if n < 4 {
            out[48..52].copy_from_slice(&q[240 + 4 * n..][..4]);
        }
    }
}

/// Multiplies some rows by all tokens.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Trits>(simd: S, w: &Rows, x: &TokenActivations, out: &mut Out) {
    prefetch_rows(simd, w, 4);
    // A row at a time reads the activations from the first-level cache, four rows at a time from the second.
    let most = match S::WIDE {
        true => (CACHED / x.width.max(1)).next_multiple_of(5),
        false => (FIRST / x.width.max(1)).next_multiple_of(4),
    };
    for first in (0..x.scales.len()).step_by(most) {
        let block = first..x.scales.len().min(first + most);
        let mut row = w.range.start;
        while row < w.range.end {
            row += match w.range.end - row {
                // Few registers hold the sums of several tokens, or of several rows.
                4.. if S::WIDE || block.len() < 4 => tokens::<S, W, 4>(simd, w, row, x, block.clone(), out),
                _ => tokens::<S, W, 1>(simd, w, row, x, block.clone(), out),
            };
        }
    }
}

#[inline(always)]
fn tokens<S: Simd, W: Trits, const R: usize>(
    simd: S,
    w: &Rows,
    row: usize,
    x: &TokenActivations,
    block: Range<usize>,
    out: &mut Out,
) -> usize {
    let mut token = block.start;
    while token < block.end {
        token += match block.end - token {
            5.. if S::WIDE => tile::<S, W, R, 5>(simd, w, row, x, token, out),
            3.. if S::WIDE => tile::<S, W, R, 3>(simd, w, row, x, token, out),
            4.. if R == 1 => tile::<S, W, R, 4>(simd, w, row, x, token, out),
            2.. => tile::<S, W, R, 2>(simd, w, row, x, token, out),
            _ => tile::<S, W, R, 1>(simd, w, row, x, token, out),
        };
    }
    R
}

/// `R` rows by `T` tokens, assuming that each row has one scale; where that turns out wrong, row by row.
#[inline(always)]
fn tile<S: Simd, W: Trits, const R: usize, const T: usize>(
    simd: S,
    w: &Rows,
    row: usize,
    x: &TokenActivations,
    token: usize,
    out: &mut Out,
) -> usize {
    let rows: [&[u8]; R] = std::array::from_fn(|r| &w.row(row + r)[W::HEAD..]);
    let q: [&[i8]; T] = std::array::from_fn(|t| &x.q[(token + t) * x.width..][..x.width]);
    let stride = w.stride - W::HEAD;
    let steps = stride / W::BYTES / W::STEP;
    let (mut sums, differ) = products::<S, W, R, T>(simd, &rows, &q, steps);
    if differ {
        for t in 0..T {
            (0..R).for_each(|r| runs::<S, W>(simd, w, row + r, x, token + t, out));
        }
        return T;
    }
    // Part of a vector may remain: it is padded with zeros.
    let from = steps * W::STEP * W::BYTES;
    if stride > from {
        let (mut codes, mut rest) = ([[0u8; BYTES]; R], [[0i8; 256]; T]);
        for r in 0..R {
            codes[r][..stride - from].copy_from_slice(&rows[r][from..]);
        }
        for t in 0..T {
            let q = &q[t][steps * W::STEP * W::WIDTH..][..(stride - from) / W::BYTES * W::WIDTH];
            rest[t][..q.len()].copy_from_slice(q);
        }
        let (codes, rest) = (codes.each_ref().map(|x| &x[..]), rest.each_ref().map(|x| &x[..]));
        let (last, _) = products::<S, W, R, T>(simd, &codes, &rest, 1);
        sums.iter_mut().flatten().zip(last.as_flattened()).for_each(|(sum, last)| *sum += last);
    }
    for t in 0..T {
        let (scale, total) = (x.scales[token + t], x.totals[token + t]);
        let mut y = [0.0; R];
        for r in 0..R {
            y[r] = W::scale(w.row(row + r), w.tail).mul_add((sums[t][r] - total) as f32, 0.0) * scale;
        }
        out.write(token + t, row, &y);
    }
    T
}

/// The sums of the products of whole vectors, and whether a row has no scale or several. The running sums never leave
/// this function, or they would not stay in registers.
#[inline(always)]
fn products<S: Simd, W: Trits, const R: usize, const T: usize>(
    simd: S,
    rows: &[&[u8]; R],
    q: &[&[i8]; T],
    steps: usize,
) -> ([[i32; 4]; T], bool) {
    let mut marks = [0; R];
    let mut differ = 0;
    for r in 0..R {
        marks[r] = W::mark(rows[r]);
    }
    let mut sums = [[simd.zero_i32(); T]; R];
    if S::MAX_SMALL_DOTS == usize::MAX {
        for step in 0..steps {
            step_of::<S, W, R, T>(simd, rows, q, step, &marks, &mut differ, &mut sums);
        }
    } else {
        for first in (0..steps).step_by(S::MAX_SMALL_DOTS / W::VECTORS) {
            let mut small = [[simd.zero_i32(); T]; R];
            for step in first..steps.min(first + S::MAX_SMALL_DOTS / W::VECTORS) {
                step_of::<S, W, R, T>(simd, rows, q, step, &marks, &mut differ, &mut small);
            }
            for r in 0..R {
                for t in 0..T {
                    sums[r][t] = simd.add_i32(sums[r][t], simd.widen(small[r][t]));
                }
            }
        }
    }
    let mut added = [[0; 4]; T];
    for t in 0..T {
        let mut four = [simd.zero_i32(); 4];
        for r in 0..R {
            four[r] = sums[r][t];
        }
        added[t] = simd.reduce_sums(four);
    }
    (added, differ != 0 || marks.contains(&0))
}

/// Adds the products of step `step`; `differ` becomes nonzero if a row's mark changes.
#[inline(always)]
fn step_of<S: Simd, W: Trits, const R: usize, const T: usize>(
    simd: S,
    rows: &[&[u8]; R],
    q: &[&[i8]; T],
    step: usize,
    marks: &[u16; R],
    differ: &mut u16,
    sums: &mut [[S::I; T]; R],
) {
    let ahead = rows[0].as_ptr().wrapping_add(R * rows[0].len() + AHEAD);
    for r in 0..R {
        simd.prefetch_l1(ahead.wrapping_add((step * R + r) * BYTES));
        *differ |= W::mark(&rows[r][step * W::STEP * W::BYTES..]) ^ marks[r];
    }
    if W::ROWS_FIRST {
        for r in 0..R {
            let packed = packed(simd, &rows[r][step * W::STEP * W::BYTES..], W::STEP * W::CODES);
            for n in 0..W::VECTORS {
                let codes = W::codes(simd, packed, n);
                for t in 0..T {
                    let q = &q[t][step * W::STEP * W::WIDTH..][..W::STEP * W::WIDTH];
                    sums[r][t] = simd.dot_small(sums[r][t], codes, W::activations(simd, q, n));
                }
            }
        }
        return;
    }
    for n in 0..W::VECTORS {
        let mut vectors = [simd.splat_u8(0); T];
        for t in 0..T {
            let q = &q[t][step * W::STEP * W::WIDTH..][..W::STEP * W::WIDTH];
            vectors[t] = W::activations(simd, q, n);
        }
        for r in 0..R {
            let packed = packed(simd, &rows[r][step * W::STEP * W::BYTES..], W::STEP * W::CODES);
            let codes = W::codes(simd, packed, n);
            for t in 0..T {
                sums[r][t] = simd.dot_small(sums[r][t], codes, vectors[t]);
            }
        }
    }
}

/// The first `len` bytes, which may be fewer than a vector.
#[inline(always)]
fn packed<S: Simd>(simd: S, bytes: &[u8], len: usize) -> S::B {
    if len == BYTES {
        return simd.load_bytes(bytes.first_chunk().expect("64 bytes"));
    }
    simd.load_partial(&bytes[..len])
}

/// One row whose blocks have scales of their own, by one token.
#[inline(always)]
fn runs<S: Simd, W: Trits>(simd: S, w: &Rows, row: usize, x: &TokenActivations, token: usize, out: &mut Out) {
    let (mut y, mut run, mut sum) = (0f32, 0f32, 0);
    for (block, q) in w.row(row).chunks_exact(W::BYTES).zip(x.q[token * x.width..][..x.width].chunks_exact(W::WIDTH)) {
        let d = W::scale(block, w.tail);
        if d == 0.0 {
            continue;
        }
        if d != run {
            y = run.mul_add(sum as f32, y);
            (run, sum) = (d, 0);
        }
        let packed = packed(simd, block, W::CODES);
        let mut products = simd.zero_i32();
        for n in 0..W::VECTORS {
            products = simd.dot(products, W::codes(simd, packed, n), W::activations(simd, q, n));
        }
        let [products, ..] = simd.reduce_sums([products, simd.zero_i32(), simd.zero_i32(), simd.zero_i32()]);
        sum += products - q.iter().map(|&q| q as i32).sum::<i32>();
    }
    y = run.mul_add(sum as f32, y);
    out.write(token, row, &[y * x.scales[token]]);
}
