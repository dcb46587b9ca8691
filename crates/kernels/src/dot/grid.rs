//! Unpacks formats whose weights are points of a grid, as [`super::unpack`] does the others.
//!
//! Coordinates are indices of levels. Together with a sign bit each, they index a table of codes.

use super::block::{BlockFormat, BlockRows, GROUPS, GroupSink, Halves, Unsigned};
use crate::simd::{BYTES, Grid, Simd};
use trine_tensor::format::grids;

static IQ2_XXS_GRID: Grid<8, 4> = grid(&grids::IQ2_XXS);
static IQ2_XS_GRID: Grid<8, 8> = grid(&grids::IQ2_XS);
static IQ2_S_GRID: Grid<8, 16> = grid(&grids::IQ2_S);
static IQ3_XXS_GRID: Grid<4, 4> = grid(&grids::IQ3_XXS);
static IQ3_S_GRID: Grid<4, 8> = grid(&grids::IQ3_S);
static IQ1_GRID: Grid<8, 32> = grid(&grids::IQ1);

/// The code of zero where coordinates have signs: more than any level.
const ZERO: i32 = 64;
/// The code of zero in IQ1, whose coordinates are shifted by an eighth and counted in eighths.
const EIGHTHS: i32 = 9;

/// The sign bit, beside the index of a level of IQ2.
const IQ2_SIGN: u8 = 4;
static IQ2_CODES: [u8; 16] = signed(levels(&grids::IQ2_XXS), IQ2_SIGN);
/// The sign bit, beside the index of a level of IQ3.
const IQ3_SIGN: u8 = 8;
static IQ3_XXS_CODES: [u8; 16] = signed(levels(&grids::IQ3_XXS), IQ3_SIGN);
static IQ3_S_CODES: [u8; 16] = signed(levels(&grids::IQ3_S), IQ3_SIGN);
/// The bit, beside a coordinate of IQ1, of a shift down.
const IQ1_DOWN: u8 = 4;
static IQ1_CODES: [u8; 16] = {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < 3 {
        codes[i | IQ1_DOWN as usize] = 8 * i as u8;
        codes[i] = 8 * i as u8 + 2;
        i += 1;
    }
    codes
};

/// The values of coordinates in a grid in ascending order, and their number.
const fn levels<const WIDTH: usize>(points: &[[u8; WIDTH]]) -> ([u8; 8], usize) {
    let mut is = [false; 256];
    let mut i = 0;
    while i < points.len() * WIDTH {
        is[points[i / WIDTH][i % WIDTH] as usize] = true;
        i += 1;
    }
    let (mut levels, mut count, mut value) = ([0; 8], 0, 0);
    while value < 256 {
        if is[value] {
            levels[count] = value as u8;
            count += 1;
        }
        value += 1;
    }
    (levels, count)
}

/// Points with the indices of levels for coordinates: 2 bits each of 8, or 4 bits of 4.
const fn grid<const WIDTH: usize, const N: usize>(points: &[[u8; WIDTH]]) -> Grid<WIDTH, N> {
    assert!(points.len() == N * BYTES);
    let (levels, _) = levels(points);
    let mut grid = Grid { points: [[[0; WIDTH]; BYTES]; N], packed: [[[0; BYTES]; N]; 2] };
    let mut i = 0;
    while i < points.len() * WIDTH {
        let (point, coordinate) = (i / WIDTH, i % WIDTH);
        let mut number = 0;
        while levels[number] != points[point][coordinate] {
            number += 1;
        }
        grid.points[point / BYTES][point % BYTES][coordinate] = number as u8;
        let bit = 16 / WIDTH * coordinate;
        grid.packed[bit / 8][point / BYTES][point % BYTES] |= (number << (bit % 8)) as u8;
        i += 1;
    }
    grid
}

/// Codes of levels, and with the bit `sign` of their negatives, biased by [`ZERO`].
const fn signed((levels, count): ([u8; 8], usize), sign: u8) -> [u8; 16] {
    let mut codes = [0; 16];
    let mut i = 0;
    while i < count {
        codes[i] = ZERO as u8 + levels[i];
        codes[i | sign as usize] = ZERO as u8 - levels[i];
        i += 1;
    }
    codes
}

/// The codes of 32 coordinates of each row that have a further bit each.
#[inline(always)]
fn pick<S: Simd>(simd: S, points: [S::B; GROUPS], bits: [S::B; GROUPS], codes: &[u8; 16]) -> [S::B; GROUPS] {
    let mut out = points;
    for k in 0..GROUPS {
        out[k] = simd.lookup(codes, simd.or(points[k], bits[k]));
    }
    out
}

/// The 32 bits of each row, a byte for each: `sign` or 0.
#[inline(always)]
fn spread<S: Simd>(simd: S, signs: S::B, sign: u8) -> [S::B; GROUPS] {
    let mut out = [signs; GROUPS];
    for k in 0..GROUPS {
        out[k] = simd.expand_bits(signs, k as u32, sign);
    }
    out
}

/// Bytes of seven signs, and an eighth that makes their number even.
#[inline(always)]
fn even<S: Simd>(simd: S, seven: S::B) -> S::B {
    // Whether an odd number of bits is set, of 4 and of 4 more.
    let low = simd.lookup(&const { odd_bits(0x08) }, simd.shr_mask(seven, 0, 0x0f));
    simd.or(seven, simd.lookup(&const { odd_bits(0x80) }, simd.or(simd.shr_mask(seven, 4, 0x07), low)))
}

/// `value` for each number with an odd number of bits.
const fn odd_bits(value: u8) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = value * (i.count_ones() % 2) as u8;
        i += 1;
    }
    table
}

/// Scales count halves: `0.5 + scale`, doubled.
#[inline(always)]
fn odd<S: Simd>(simd: S, scale: S::I) -> S::F {
    simd.to_f32(simd.add_i32(simd.add_i32(scale, scale), simd.splat_i32(1)))
}

/// `d`, so divided that scales are integers.
#[inline(always)]
fn unit<S: Simd>(simd: S, blocks: impl BlockRows, unit: f32) -> S::F {
    simd.mul(blocks.halves(simd, 0), simd.splat(unit))
}

/// The scales of halves that are in the low and in the high four bits of byte `n`.
#[inline(always)]
fn two_scales<S: Simd>(simd: S, unit: S::F, both: S::B, n: usize, sink: &mut impl GroupSink<S>) {
    let out = sink.scales(n);
    simd.store(unit, &mut out.scale);
    for half in 0..2 {
        let scale = simd.extract_u8(simd.shr_mask(both, 4 * half as u32, 0x0f), n as u32 % 4);
        simd.store(odd(simd, scale), &mut out.halves[half]);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_XXS;
impl BlockFormat for IQ2_XXS {
    const GROUPS: usize = 8;
    const BYTES: usize = 66;
    const ZERO: i32 = ZERO;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let unit = unit(simd, blocks, 0.125);
        for pair in 0..4 {
            let words = blocks.quarters(simd, 2 + 16 * pair);
            for half in 0..2 {
                let (n, indices, rest) = (2 * pair + half, words[2 * half], words[2 * half + 1]);
                let scale = odd(simd, simd.extract_u8(simd.shr_mask(rest, 4, 0x0f), 3));
                simd.store(simd.mul(unit, scale), &mut sink.scales(n).scale);
                let signs = even(simd, simd.bit_fields(rest, [0, 7, 14, 21], [0x7f; 4]));
                let points = simd.grid_points(&IQ2_XXS_GRID, indices, simd.splat_u8(0));
                sink.codes(simd, n, pick(simd, points, spread(simd, signs, IQ2_SIGN), &IQ2_CODES));
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_XS;
impl BlockFormat for IQ2_XS {
    const GROUPS: usize = 8;
    const BYTES: usize = 74;
    const ZERO: i32 = ZERO;
    type Kind = Halves;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let unit = unit(simd, blocks, 0.125);
        let [.., a, b] = blocks.quarters(simd, 58);
        for pair in 0..4 {
            let words = blocks.quarters(simd, 2 + 16 * pair);
            for half in 0..2 {
                // Four times 9 bits of an index and 7 of signs.
                let (n, both) = (2 * pair + half, [words[2 * half], words[2 * half + 1]]);
                two_scales(simd, unit, if pair < 2 { a } else { b }, n, sink);
                let high = two_and_two(simd, both, 8, 1);
                let points = simd.grid_points(&IQ2_XS_GRID, two_and_two(simd, both, 0, 0xff), high);
                let signs = even(simd, two_and_two(simd, both, 9, 0x7f));
                sink.codes(simd, n, pick(simd, points, spread(simd, signs, IQ2_SIGN), &IQ2_CODES));
            }
        }
    }
}

/// Of four numbers of 16 bits, two in each input, those bits from `at` on.
#[inline(always)]
fn two_and_two<S: Simd>(simd: S, [a, b]: [S::B; 2], at: u32, mask: u8) -> S::B {
    let a = simd.bit_fields(a, [at, at + 16, 0, 0], [mask, mask, 0, 0]);
    simd.or(a, simd.bit_fields(b, [0, 0, at, at + 16], [0, 0, mask, mask]))
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ2_S;
impl BlockFormat for IQ2_S {
    const GROUPS: usize = 8;
    const BYTES: usize = 82;
    const ZERO: i32 = ZERO;
    type Kind = Halves;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let unit = unit(simd, blocks, 0.125);
        let rest = blocks.quarters(simd, 66);
        for half in 0..2 {
            let (low, signs) = (blocks.quarters(simd, 2 + 16 * half), blocks.quarters(simd, 34 + 16 * half));
            let (high, scales) = (rest[half], rest[2 + half]);
            // Written out, since the compiler leaves loops over so much standing, here and below.
            iq2_s::<S, 0>(simd, unit, [low[0], high, signs[0], scales], half, sink);
            iq2_s::<S, 1>(simd, unit, [low[1], high, signs[1], scales], half, sink);
            iq2_s::<S, 2>(simd, unit, [low[2], high, signs[2], scales], half, sink);
            iq2_s::<S, 3>(simd, unit, [low[3], high, signs[3], scales], half, sink);
        }
    }
}

/// Group `I` of half a block of IQ2_S: the low bits of indices, the high ones, signs and scales.
#[inline(always)]
fn iq2_s<S: Simd, const I: usize>(
    simd: S,
    unit: S::F,
    [low, high, signs, scales]: [S::B; 4],
    half: usize,
    sink: &mut impl GroupSink<S>,
) {
    let (n, at) = (4 * half + I, 8 * I as u32);
    two_scales(simd, unit, scales, n, sink);
    let high = simd.bit_fields(high, [at, at + 2, at + 4, at + 6], [3; 4]);
    let points = simd.grid_points(&IQ2_S_GRID, low, high);
    sink.codes(simd, n, pick(simd, points, spread(simd, signs, IQ2_SIGN), &IQ2_CODES));
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ3_XXS;
impl BlockFormat for IQ3_XXS {
    const GROUPS: usize = 8;
    const BYTES: usize = 98;
    const ZERO: i32 = ZERO;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let unit = unit(simd, blocks, 0.25);
        for half in 0..2 {
            let (words, rest) = (blocks.columns(simd, 2 + 32 * half), blocks.quarters(simd, 66 + 16 * half));
            for i in 0..4 {
                let (n, rest) = (4 * half + i, rest[i]);
                let scale = odd(simd, simd.extract_u8(simd.shr_mask(rest, 4, 0x0f), 3));
                simd.store(simd.mul(unit, scale), &mut sink.scales(n).scale);
                let signs = even(simd, simd.bit_fields(rest, [0, 7, 14, 21], [0x7f; 4]));
                let mut points = [words[0]; GROUPS];
                for j in 0..2 {
                    let four = simd.grid_points(&IQ3_XXS_GRID, words[2 * i + j], simd.splat_u8(0));
                    for k in 0..4 {
                        points[4 * j + k] = four[k];
                    }
                }
                sink.codes(simd, n, pick(simd, points, spread(simd, signs, IQ3_SIGN), &IQ3_XXS_CODES));
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ3_S;
impl BlockFormat for IQ3_S {
    const GROUPS: usize = 8;
    const BYTES: usize = 110;
    const ZERO: i32 = ZERO;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let d = blocks.halves(simd, 0);
        let ([high @ .., _, _], [.., scales]) = (blocks.quarters(simd, 66), blocks.quarters(simd, 94));
        for half in 0..2 {
            let (words, signs) = (blocks.columns(simd, 2 + 32 * half), blocks.quarters(simd, 74 + 16 * half));
            iq3_s::<S, 0>(simd, d, [words[0], words[1], high[half], signs[0], scales], half, sink);
            iq3_s::<S, 1>(simd, d, [words[2], words[3], high[half], signs[1], scales], half, sink);
            iq3_s::<S, 2>(simd, d, [words[4], words[5], high[half], signs[2], scales], half, sink);
            iq3_s::<S, 3>(simd, d, [words[6], words[7], high[half], signs[3], scales], half, sink);
        }
    }
}

/// Group `I` of half a block of IQ3_S, as [`iq2_s`].
#[inline(always)]
fn iq3_s<S: Simd, const I: usize>(
    simd: S,
    d: S::F,
    [first, second, high, signs, scales]: [S::B; 5],
    half: usize,
    sink: &mut impl GroupSink<S>,
) {
    let n = 4 * half + I;
    let scale = simd.extract_u8(simd.shr_mask(scales, 4 * (I as u32 % 2), 0x0f), n as u32 / 2);
    simd.store(simd.mul(d, odd(simd, scale)), &mut sink.scales(n).scale);
    let mut points = [high; GROUPS];
    for j in 0..2 {
        let ninth = simd.expand_bits(high, (2 * I + j) as u32, 1);
        let four = simd.grid_points(&IQ3_S_GRID, [first, second][j], ninth);
        for k in 0..4 {
            points[4 * j + k] = four[k];
        }
    }
    sink.codes(simd, n, pick(simd, points, spread(simd, signs, IQ3_SIGN), &IQ3_S_CODES));
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ1_S;
impl BlockFormat for IQ1_S {
    const GROUPS: usize = 8;
    const BYTES: usize = 50;
    const ZERO: i32 = EIGHTHS;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let unit = unit(simd, blocks, 0.125);
        let rest = blocks.quarters(simd, 34);
        for half in 0..2 {
            let low = blocks.quarters(simd, 2 + 16 * half);
            let rest = [rest[2 * half], rest[2 * half + 1]];
            iq1_s::<S, 0>(simd, unit, [low[0], rest[0]], half, sink);
            iq1_s::<S, 1>(simd, unit, [low[1], rest[0]], half, sink);
            iq1_s::<S, 2>(simd, unit, [low[2], rest[1]], half, sink);
            iq1_s::<S, 3>(simd, unit, [low[3], rest[1]], half, sink);
        }
    }
}

/// Group `I` of half a block of IQ1_S: the low bits of indices, and 16 bits with four times 3 bits
/// more, a scale and the direction.
#[inline(always)]
fn iq1_s<S: Simd, const I: usize>(
    simd: S,
    unit: S::F,
    [low, rest]: [S::B; 2],
    half: usize,
    sink: &mut impl GroupSink<S>,
) {
    let (n, at) = (4 * half + I, 16 * (I as u32 % 2));
    let scale = odd(simd, simd.extract_u8(simd.shr_mask(rest, 4, 0x07), 1 + at / 8));
    simd.store(simd.mul(unit, scale), &mut sink.scales(n).scale);
    let high = simd.bit_fields(rest, [at, at + 3, at + 6, at + 9], [7; 4]);
    let down = simd.bit_fields(rest, [at + 13; 4], [IQ1_DOWN; 4]);
    let points = simd.grid_points(&IQ1_GRID, low, high);
    sink.codes(simd, n, pick(simd, points, [down; GROUPS], &IQ1_CODES));
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ1_M;
impl BlockFormat for IQ1_M {
    const GROUPS: usize = 8;
    const BYTES: usize = 56;
    const ZERO: i32 = EIGHTHS;
    type Kind = Halves;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let (rest, [.., a, b]) = (blocks.quarters(simd, 32), blocks.quarters(simd, 40));
        // `d` is in the highest 4 bits of four numbers of 16.
        let low = simd.or(simd.bit_fields(a, [12; 4], [0x0f, 0, 0, 0]), simd.bit_fields(a, [24; 4], [0xf0, 0, 0, 0]));
        let high = simd.or(simd.bit_fields(b, [12; 4], [0, 0x0f, 0, 0]), simd.bit_fields(b, [24; 4], [0, 0xf0, 0, 0]));
        let [d, _] = simd.unpack_f16(simd.or(low, high));
        let unit = simd.mul(d, simd.splat(0.125));
        for half in 0..2 {
            let (low, scales) = (blocks.quarters(simd, 16 * half), if half == 0 { a } else { b });
            let rest = [rest[2 * half], rest[2 * half + 1]];
            iq1_m::<S, 0>(simd, unit, [low[0], rest[0], scales], half, sink);
            iq1_m::<S, 1>(simd, unit, [low[1], rest[0], scales], half, sink);
            iq1_m::<S, 2>(simd, unit, [low[2], rest[1], scales], half, sink);
            iq1_m::<S, 3>(simd, unit, [low[3], rest[1], scales], half, sink);
        }
    }
}

/// Group `I` of half a block of IQ1_M: the low bits of indices, 16 bits with four times 3 bits
/// more and a direction, and scales.
#[inline(always)]
fn iq1_m<S: Simd, const I: usize>(
    simd: S,
    unit: S::F,
    [low, rest, scales]: [S::B; 3],
    half: usize,
    sink: &mut impl GroupSink<S>,
) {
    let (n, at) = (4 * half + I, 16 * (I as u32 % 2));
    let out = sink.scales(n);
    simd.store(unit, &mut out.scale);
    for half in 0..2 {
        let at = 16 * (I as u32 / 2) + 6 * (I as u32 % 2) + 3 * half as u32;
        let scale = simd.extract_u8(simd.bit_fields(scales, [at; 4], [7, 0, 0, 0]), 0);
        simd.store(odd(simd, scale), &mut out.halves[half]);
    }
    let high = simd.bit_fields(rest, [at, at + 4, at + 8, at + 12], [7; 4]);
    let mut down = [rest; GROUPS];
    for k in 0..GROUPS {
        down[k] = simd.bit_fields(rest, [at + 4 * (k as u32 / 2) + 1; 4], [IQ1_DOWN; 4]);
    }
    let points = simd.grid_points(&IQ1_GRID, low, high);
    sink.codes(simd, n, pick(simd, points, down, &IQ1_CODES));
}
