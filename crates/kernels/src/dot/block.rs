//! Products with block formats: integer codes under a scale, and perhaps a minimum, for each 32 weights.

use super::{GROUP, Ints, Out, Rows};
use crate::simd::Simd;
use half::f16;

/// 32 weights: `w = d * scale * code + min`.
pub(crate) struct Group<S: Simd> {
    /// Signed, at most 128 in size.
    codes: S::B,
    d: f32,
    /// Integer scales of the first and the second 16.
    scales: (i32, i32),
    min: f32,
}

/// A block format: how it is cut into groups of 32.
pub(crate) trait Blocks {
    /// Weights and bytes of a block.
    const WEIGHTS: usize;
    const BYTES: usize;
    /// Weights have a minimum beside their scale.
    const MIN: bool = false;
    /// Group `i` of a block.
    fn group<S: Simd>(simd: S, block: &[u8], i: usize) -> Group<S>;
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

pub(crate) struct Q8_0;
impl Blocks for Q8_0 {
    const WEIGHTS: usize = 32;
    const BYTES: usize = 34;
    #[inline(always)]
    fn group<S: Simd>(simd: S, block: &[u8], _: usize) -> Group<S> {
        Group { codes: simd.bytes(&block[2..]), d: half(block), scales: (1, 1), min: 0.0 }
    }
}

pub(crate) struct Q4_0;
impl Blocks for Q4_0 {
    const WEIGHTS: usize = 32;
    const BYTES: usize = 18;
    #[inline(always)]
    fn group<S: Simd>(simd: S, block: &[u8], _: usize) -> Group<S> {
        let nibbles = simd.twice(&block[2..]);
        let codes = simd.halves(simd.shift_mask(nibbles, 0, 0x0f), simd.shift_mask(nibbles, 4, 0x0f));
        Group { codes: simd.add8(codes, simd.splat8(-8i8 as u8)), d: half(block), scales: (1, 1), min: 0.0 }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q4_K;
impl Blocks for Q4_K {
    const WEIGHTS: usize = 256;
    const BYTES: usize = 144;
    const MIN: bool = true;
    #[inline(always)]
    fn group<S: Simd>(simd: S, block: &[u8], i: usize) -> Group<S> {
        let packed = &block[4..16];
        let (scale, min) = if i < 4 {
            (packed[i] & 63, packed[i + 4] & 63)
        } else {
            (packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4)
        };
        let nibbles = simd.bytes(&block[16 + i / 2 * 32..]);
        let scale = scale as i32;
        Group {
            codes: simd.shift_mask(nibbles, 4 * (i as u32 % 2), 0x0f),
            d: half(block),
            scales: (scale, scale),
            min: -half(&block[2..]) * min as f32,
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q6_K;
impl Blocks for Q6_K {
    const WEIGHTS: usize = 256;
    const BYTES: usize = 210;
    #[inline(always)]
    fn group<S: Simd>(simd: S, block: &[u8], i: usize) -> Group<S> {
        let (high, quarter) = (i / 4, i % 4);
        let low4 = simd.bytes(&block[high * 64 + quarter % 2 * 32..]);
        let high2 = simd.bytes(&block[128 + high * 32..]);
        let low4 = simd.shift_mask(low4, 4 * (quarter as u32 / 2), 0x0f);
        let high2 = simd.lift_mask(simd.shift_mask(high2, 2 * quarter as u32, 3), 4, 0x30);
        let scale = |n: usize| block[192 + 2 * i + n] as i8 as i32;
        Group {
            codes: simd.add8(simd.or(low4, high2), simd.splat8(-32i8 as u8)),
            d: half(&block[208..]),
            scales: (scale(0), scale(1)),
            min: 0.0,
        }
    }
}

/// `x` has a scale for each 32 columns.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Blocks>(simd: S, w: &Rows, x: &Ints, out: &mut Out) {
    for row in w.range.clone() {
        let mut token = 0;
        while token + 4 <= x.tokens() {
            tile::<S, W, 4>(simd, w, row, x, token, out);
            token += 4;
        }
        while token < x.tokens() {
            tile::<S, W, 1>(simd, w, row, x, token, out);
            token += 1;
        }
    }
}

/// One row by `T` tokens: each group is unpacked once.
#[inline(always)]
fn tile<S: Simd, W: Blocks, const T: usize>(simd: S, w: &Rows, row: usize, x: &Ints, token: usize, out: &mut Out) {
    let q: [&[i8]; T] = std::array::from_fn(|t| x.q(token + t));
    let scales: [&[f32]; T] = std::array::from_fn(|t| x.scales(token + t));
    let sums: [&[i32]; T] = std::array::from_fn(|t| x.sums(token + t));
    let mut y = [0f32; T];
    for (b, block) in w.row(row).chunks_exact(W::BYTES).enumerate() {
        for i in 0..W::WEIGHTS / GROUP {
            let at = b * (W::WEIGHTS / GROUP) + i;
            let group = W::group(simd, block, i);
            for t in 0..T {
                let products = simd.dot_signed(simd.zero(), group.codes, simd.signed(&q[t][at * GROUP..]));
                let (low, high) = simd.sum_halves(products);
                let sum = low * group.scales.0 + high * group.scales.1;
                y[t] = (group.d * scales[t][at]).mul_add(sum as f32, y[t]);
                if W::MIN {
                    y[t] = (group.min * scales[t][at]).mul_add(sums[t][at] as f32, y[t]);
                }
            }
        }
    }
    for t in 0..T {
        out.set(token + t, row, y[t]);
    }
}
