//! Products with ternary formats, weights `d * {-1, 0, 1}`, after BitNet b1.58 (arXiv:2402.17764): activations are bytes with one
//! scale per token, so that all sums are exact integers.
//!
//! Codes are stored as `t + 1`, so that the unsigned-by-signed byte product applies: `Σ t·q = Σ code·q - Σ q`.
//! Blocks with the same `d` are one exact sum; a block whose `d` is zero says nothing. Hence a model with one scale per matrix gives the
//! same bits from every layout, whether the format writes that scale once or in each block.

use super::{GROUP, Ints, Out, Rows};
use crate::simd::Simd;
use half::f16;

/// A ternary format: how a block is unpacked.
pub(crate) trait Trits {
    /// Weights and bytes of a block.
    const WEIGHTS: usize;
    const BYTES: usize;
    fn scale(block: &[u8], tail: &[u8]) -> f32;
    /// The codes, at most 3, of each 32 weights; a block of fewer than 256 leaves the rest zero.
    fn codes<S: Simd>(simd: S, block: &[u8]) -> [S::B; 8];
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct I2_S;
impl Trits for I2_S {
    const WEIGHTS: usize = 128;
    const BYTES: usize = 32;
    #[inline(always)]
    fn scale(_: &[u8], tail: &[u8]) -> f32 {
        f32::from_le_bytes([tail[0], tail[1], tail[2], tail[3]])
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, block: &[u8]) -> [S::B; 8] {
        let packed = simd.bytes(block.first_chunk().expect("32 bytes"));
        let mut codes = [simd.splat8(0); 8];
        for (g, codes) in codes[..4].iter_mut().enumerate() {
            *codes = simd.shift_mask(packed, 6 - 2 * g as u32, 3);
        }
        codes
    }
}

pub(crate) struct TQ2_0;
impl Trits for TQ2_0 {
    const WEIGHTS: usize = 256;
    const BYTES: usize = 66;
    #[inline(always)]
    fn scale(block: &[u8], _: &[u8]) -> f32 {
        f16::from_le_bytes([block[64], block[65]]).to_f32()
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, block: &[u8]) -> [S::B; 8] {
        let packed: &[[u8; 32]] = block[..64].as_chunks().0;
        let mut codes = [simd.splat8(0); 8];
        for (g, codes) in codes.iter_mut().enumerate() {
            *codes = simd.shift_mask(simd.bytes(&packed[g / 4]), 2 * (g as u32 % 4), 3);
        }
        codes
    }
}

/// Five trits a byte as a fixed-point fraction of 256: multiplying by 3 moves the next trit into the (missing) high byte.
pub(crate) struct TQ1_0;
impl Trits for TQ1_0 {
    const WEIGHTS: usize = 256;
    const BYTES: usize = 54;
    #[inline(always)]
    fn scale(block: &[u8], _: &[u8]) -> f32 {
        f16::from_le_bytes([block[52], block[53]]).to_f32()
    }
    #[inline(always)]
    fn codes<S: Simd>(simd: S, block: &[u8]) -> [S::B; 8] {
        let mut codes = [simd.splat8(0); 8];
        let mut q = simd.bytes(block.first_chunk().expect("32 bytes"));
        for codes in &mut codes[..5] {
            *codes = trit(simd, q);
            q = triple(simd, q);
        }
        // 16 bytes of five trits: two trits fill a vector, and the last shares one with the 4 bytes of four trits behind them.
        let five = simd.twice(block[32..].first_chunk().expect("16 bytes"));
        let pair = simd.halves(five, triple(simd, five));
        codes[5] = trit(simd, pair);
        let pair = triple(simd, triple(simd, pair));
        codes[6] = trit(simd, pair);
        let mut four = [0; 16];
        for (n, power) in [1u8, 3, 9, 27].into_iter().enumerate() {
            for j in 0..4 {
                four[4 * n + j] = block[48 + j].wrapping_mul(power);
            }
        }
        codes[7] = trit(simd, simd.halves(triple(simd, triple(simd, pair)), simd.twice(&four)));
        codes
    }
}

/// The leading trit of each byte, `3 * byte >> 8`.
#[inline(always)]
fn trit<S: Simd>(simd: S, q: S::B) -> S::B {
    simd.add8(simd.at_least(q, 86), simd.at_least(q, 171))
}

/// Bytes times 3 modulo 256: the next trit leads.
#[inline(always)]
fn triple<S: Simd>(simd: S, q: S::B) -> S::B {
    simd.add8(simd.add8(q, q), q)
}

/// `x` has one scale per token.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Trits>(simd: S, w: &Rows, x: &Ints, out: &mut Out) {
    for row in w.range.clone() {
        let mut token = 0;
        while token + 4 <= x.tokens() {
            tile::<S, W, 4, 1>(simd, w, row, x, token, out);
            token += 4;
        }
        while token < x.tokens() {
            tile::<S, W, 1, 4>(simd, w, row, x, token, out);
            token += 1;
        }
    }
}

/// One row by `T` tokens: each block is unpacked once. The sum of a token is in `A` parts, so that additions need not wait for each other.
#[inline(always)]
fn tile<S: Simd, W: Trits, const T: usize, const A: usize>(
    simd: S,
    w: &Rows,
    row: usize,
    x: &Ints,
    token: usize,
    out: &mut Out,
) {
    let q: [&[[i8; GROUP]]; T] = std::array::from_fn(|t| x.q(token + t));
    let sums: [&[i32]; T] = std::array::from_fn(|t| x.sums(token + t));
    let groups = W::WEIGHTS / GROUP;
    let mut y = [0f32; T];
    let mut run = 0f32;
    let mut products = [[simd.zero(); A]; T];
    let mut offsets = [0i32; T];
    for (b, block) in w.row(row).chunks_exact(W::BYTES).enumerate() {
        let d = W::scale(block, w.tail);
        if d == 0.0 {
            continue;
        }
        if d != run {
            for t in 0..T {
                y[t] = flush(simd, run, products[t], offsets[t], y[t]);
            }
            (run, products, offsets) = (d, [[simd.zero(); A]; T], [0; T]);
        }
        let codes = W::codes(simd, block);
        for t in 0..T {
            let q = &q[t][b * groups..][..groups];
            for g in 0..groups {
                products[t][g % A] = simd.dot(products[t][g % A], codes[g], simd.signed(&q[g]));
            }
            offsets[t] += sums[t][b * groups..][..groups].iter().sum::<i32>();
        }
    }
    for t in 0..T {
        let y = flush(simd, run, products[t], offsets[t], y[t]);
        out.set(token + t, row, y * x.scales(token + t)[0]);
    }
}

/// `y` plus a run of blocks with the scale `d`.
#[inline(always)]
fn flush<S: Simd, const A: usize>(simd: S, d: f32, products: [S::I; A], offset: i32, y: f32) -> f32 {
    let mut sum = -offset;
    for part in products {
        sum += simd.sum_all(part);
    }
    d.mul_add(sum as f32, y)
}
