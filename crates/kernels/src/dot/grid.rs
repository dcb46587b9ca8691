//! Formats whose weights are points of a grid, unpacked as [`super::unpack`] says.
//!
//! Points are looked up in tables that no register holds: row by row in plain code, to codes that are multiplied as those of any format.

use super::block::{Blocks, Halves, Kind, Scales, Sink, Unsigned};
use super::stack::Stack;
use crate::simd::{BYTES, LANES, Simd};
use half::f16;
use trine_tensor::format::grids;

/// A block of one row.
#[derive(Clone, Copy)]
pub(crate) struct Row<T> {
    blocks: T,
    row: usize,
}

impl<T: Stack> Row<T> {
    /// The four bytes from `at`.
    #[inline(always)]
    fn word(self, at: usize) -> u32 {
        self.blocks.word(self.row, at)
    }
    /// Byte `n` of those from `at`.
    #[inline(always)]
    fn byte(self, at: usize, n: usize) -> usize {
        (self.word(at + n / 4 * 4) >> (n % 4 * 8)) as usize & 255
    }
    /// Two bytes, number `n` of those from `at`.
    #[inline(always)]
    fn short(self, at: usize, n: usize) -> u32 {
        self.word(at + n / 2 * 4) >> (n % 2 * 16) & 0xffff
    }
}

/// What a group of 32 weights of a row is.
pub(crate) struct Group {
    /// Eight codes each, raised by [`Blocks::ZERO`].
    points: [u64; 4],
    /// The scale, or those of both halves, as multiples of [`Points::scale`].
    multiples: [u32; 2],
}

/// A format of points.
pub(crate) trait Points {
    const BYTES: usize;
    const ZERO: i32 = SIGNED;
    type Kind: Kind;
    /// What `d` is multiplied by, so that scales are integers.
    const UNIT: f32;
    /// The scale of a row's block.
    #[inline(always)]
    fn scale(row: Row<impl Stack>) -> f32 {
        f16::from_bits(row.blocks.short(row.row, 0)).to_f32()
    }
    /// Group `n` of a row's block.
    fn group(row: Row<impl Stack>, n: usize) -> Group;
}

impl<P: Points> Blocks for P {
    const GROUPS: usize = 8;
    const BYTES: usize = P::BYTES;
    const ZERO: i32 = P::ZERO;
    type Kind = P::Kind;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
        let d = units::<P>(blocks);
        for n in 0..8 {
            let mut bytes = [[0; BYTES]; 8];
            look_up::<P>(blocks, n, &d, sink.scales(n), &mut bytes);
            let mut codes = [simd.splat8(0); 8];
            for k in 0..8 {
                codes[k] = simd.bytes(&bytes[k]);
            }
            sink.codes(simd, n, codes);
        }
    }
}

/// What the scales of each row are multiples of. As [`look_up`], it is the same code for every instruction set, and is there once.
#[inline(never)]
fn units<P: Points>(blocks: impl Stack) -> [f32; LANES] {
    std::array::from_fn(|row| P::scale(Row { blocks, row }) * P::UNIT)
}

/// The scales and codes of group `n`.
#[inline(never)]
fn look_up<P: Points>(
    blocks: impl Stack,
    n: usize,
    units: &[f32; LANES],
    scales: &mut Scales,
    codes: &mut [[u8; BYTES]; 8],
) {
    for row in 0..LANES {
        let Group { points, multiples } = P::group(Row { blocks, row }, n);
        for k in 0..8 {
            let four = (points[k / 2] >> (k % 2 * 32)) as u32;
            codes[k].as_chunks_mut::<4>().0[row] = four.to_le_bytes();
        }
        if P::Kind::HALVES {
            scales.scale[row] = units[row];
            scales.halves[0][row] = multiples[0] as f32;
            scales.halves[1][row] = multiples[1] as f32;
        } else {
            scales.scale[row] = units[row] * multiples[0] as f32;
        }
    }
}

/// What stands for zero where points are negated: more than any coordinate.
const SIGNED: i32 = 64;

/// For each eight signs, the bytes that they negate.
static SIGNS: [u64; 256] = {
    let mut masks = [0; 256];
    let mut signs = 0;
    while signs < 256 {
        let mut i = 0;
        while i < 8 {
            masks[signs] |= ((signs as u64 >> i & 1) * 0xff) << (8 * i);
            i += 1;
        }
        signs += 1;
    }
    masks
};

/// The same for seven signs and an eighth that makes their number even.
static EVEN: [u64; 128] = {
    let mut masks = [0; 128];
    let mut signs = 0;
    while signs < 128 {
        masks[signs] = SIGNS[signs | (signs.count_ones() as usize % 2) << 7];
        signs += 1;
    }
    masks
};

/// Eight coordinates, some of them negated, all raised by [`SIGNED`]: no byte borrows from its neighbour.
#[inline(always)]
fn signed(point: u64, negated: u64) -> u64 {
    0x4040_4040_4040_4040 + (point & !negated) - (point & negated)
}

/// Eight coordinates.
#[inline(always)]
fn eight(point: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*point)
}

/// Two points of four coordinates.
#[inline(always)]
fn four(low: &[u8; 4], high: &[u8; 4]) -> u64 {
    u64::from(u32::from_le_bytes(*low)) | u64::from(u32::from_le_bytes(*high)) << 32
}

/// Scales of 4 bits count halves: `0.5 + scale`, doubled.
#[inline(always)]
fn odd(scale: u32) -> u32 {
    2 * (scale & 15) + 1
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_XXS;
impl Points for IQ2_XXS {
    const BYTES: usize = 66;
    const UNIT: f32 = 0.125;
    type Kind = Unsigned;
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let (indices, rest) = (row.word(2 + 8 * n), row.word(6 + 8 * n));
        let mut points = [0; 4];
        for i in 0..4 {
            let point = eight(&grids::IQ2_XXS[(indices >> (8 * i)) as usize & 255]);
            points[i] = signed(point, EVEN[(rest >> (7 * i)) as usize & 127]);
        }
        Group { points, multiples: [odd(rest >> 28); 2] }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_XS;
impl Points for IQ2_XS {
    const BYTES: usize = 74;
    const UNIT: f32 = 0.125;
    type Kind = Halves;
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let mut points = [0; 4];
        for i in 0..4 {
            let both = row.short(2 + 8 * n, i) as usize;
            points[i] = signed(eight(&grids::IQ2_XS[both & 511]), EVEN[both >> 9]);
        }
        let scales = row.byte(66, n) as u32;
        Group { points, multiples: [odd(scales), odd(scales >> 4)] }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_S;
impl Points for IQ2_S {
    const BYTES: usize = 82;
    const UNIT: f32 = 0.125;
    type Kind = Halves;
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let (low, high, signs) = (row.word(2 + 4 * n), row.byte(66, n), row.word(34 + 4 * n));
        let mut points = [0; 4];
        for i in 0..4 {
            let index = (low >> (8 * i)) as usize & 255 | (high >> (2 * i) & 3) << 8;
            points[i] = signed(eight(&grids::IQ2_S[index]), SIGNS[(signs >> (8 * i)) as usize & 255]);
        }
        let scales = row.byte(74, n) as u32;
        Group { points, multiples: [odd(scales), odd(scales >> 4)] }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ3_XXS;
impl Points for IQ3_XXS {
    const BYTES: usize = 98;
    const UNIT: f32 = 0.25;
    type Kind = Unsigned;
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let rest = row.word(66 + 4 * n);
        let mut points = [0; 4];
        for i in 0..4 {
            let point = |at| &grids::IQ3_XXS[row.byte(2 + 8 * n, at)];
            points[i] = signed(four(point(2 * i), point(2 * i + 1)), EVEN[(rest >> (7 * i)) as usize & 127]);
        }
        Group { points, multiples: [odd(rest >> 28); 2] }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ3_S;
impl Points for IQ3_S {
    const BYTES: usize = 110;
    const UNIT: f32 = 1.0;
    type Kind = Unsigned;
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let (high, signs) = (row.byte(66, n), row.word(74 + 4 * n));
        let mut points = [0; 4];
        for i in 0..4 {
            let point = |at| &grids::IQ3_S[row.byte(2 + 8 * n, at) | (high >> at & 1) << 8];
            let negated = SIGNS[(signs >> (8 * i)) as usize & 255];
            points[i] = signed(four(point(2 * i), point(2 * i + 1)), negated);
        }
        Group { points, multiples: [odd(row.word(106) >> (4 * n)); 2] }
    }
}

/// What stands for zero in codes of IQ1: coordinates are counted in eighths.
const EIGHTHS: i32 = 9;

/// Eight coordinates of IQ1 that are moved down or up by an eighth, counted in eighths and raised by [`EIGHTHS`].
#[inline(always)]
fn moved(index: usize, down: bool) -> u64 {
    (eight(&grids::IQ1[index]) << 3) + if down { 0 } else { 0x0202_0202_0202_0202 }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ1_S;
impl Points for IQ1_S {
    const BYTES: usize = 50;
    const ZERO: i32 = EIGHTHS;
    const UNIT: f32 = 0.125;
    type Kind = Unsigned;
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let (low, high) = (row.word(2 + 4 * n), row.short(34, n) as usize);
        let mut points = [0; 4];
        for i in 0..4 {
            let index = (low >> (8 * i)) as usize & 255 | (high >> (3 * i) & 7) << 8;
            points[i] = moved(index, high >> 15 == 1);
        }
        Group { points, multiples: [odd(high as u32 >> 12 & 7); 2] }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ1_M;
impl Points for IQ1_M {
    const BYTES: usize = 56;
    const ZERO: i32 = EIGHTHS;
    const UNIT: f32 = 0.125;
    type Kind = Halves;
    /// It is in four pieces.
    #[inline(always)]
    fn scale(row: Row<impl Stack>) -> f32 {
        let mut d = 0;
        for i in 0..4 {
            d |= row.short(48, i) >> 12 << (4 * i);
        }
        f16::from_bits(d as u16).to_f32()
    }
    #[inline(always)]
    fn group(row: Row<impl Stack>, n: usize) -> Group {
        let (low, high) = (row.word(4 * n), row.short(32, n) as usize);
        let mut points = [0; 4];
        for i in 0..4 {
            let nibble = high >> (4 * i);
            points[i] = moved((low >> (8 * i)) as usize & 255 | (nibble & 7) << 8, nibble & 8 != 0);
        }
        let scales = row.short(48, n / 2) >> (n % 2 * 6);
        Group { points, multiples: [odd(scales & 7), odd(scales >> 3 & 7)] }
    }
}
