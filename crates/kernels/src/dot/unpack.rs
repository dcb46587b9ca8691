//! Block formats unpacked: one block of each of 16 rows to groups of 32 columns in which a vector holds 4 columns of every row.

use super::block::{Blocks, Sink};
use super::stack::Stack;
use crate::simd::Simd;

pub(crate) struct Q8_0;
impl Blocks for Q8_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 34;
    const SIGNED: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
        simd.store(blocks.halves(simd, 0), &mut sink.scales(0).scale);
        let mut codes = blocks.columns(simd, 2);
        for k in 0..8 {
            codes[k] = simd.raise(codes[k]);
        }
        sink.codes(simd, 0, codes);
    }
}

pub(crate) struct Q4_0;
impl Blocks for Q4_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 18;
    const ZERO: i32 = 8;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
        simd.store(blocks.halves(simd, 0), &mut sink.scales(0).scale);
        let [a, b, c, d] = blocks.quarters(simd, 2);
        let mut codes = [a, b, c, d, a, b, c, d];
        for k in 0..8 {
            codes[k] = simd.shift_mask(codes[k], k as u32 / 4 * 4, 0x0f);
        }
        sink.codes(simd, 0, codes);
    }
}

/// Scales and minima of Q4_K and Q5_K: `d` and `dmin` in half precision, then eight pairs of 6 bits in 12 bytes.
#[inline(always)]
fn six_bits<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
    let [d, a, b, c] = blocks.quarters(simd, 0);
    let [d, min] = simd.two_f16(d);
    let min = simd.sub(simd.splat(0.0), min);
    let scales = [simd.shift_mask(a, 0, 0x3f), simd.or(simd.shift_mask(c, 0, 0x0f), simd.shift_mask(a, 2, 0x30))];
    let mins = [simd.shift_mask(b, 0, 0x3f), simd.or(simd.shift_mask(c, 4, 0x0f), simd.shift_mask(b, 2, 0x30))];
    for i in 0..8 {
        let (scale, six) = (simd.byte(scales[i / 4], i as u32 % 4), simd.byte(mins[i / 4], i as u32 % 4));
        simd.store(simd.mul(d, simd.to_float(scale)), &mut sink.scales(i).scale);
        simd.store(simd.mul(min, simd.to_float(six)), &mut sink.scales(i).min);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q4_K;
impl Blocks for Q4_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 144;
    const MIN: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
        six_bits(simd, blocks, sink);
        for pair in 0..4 {
            let columns = blocks.columns(simd, 16 + 32 * pair);
            for half in 0..2 {
                let mut codes = columns;
                for k in 0..8 {
                    codes[k] = simd.shift_mask(columns[k], 4 * half as u32, 0x0f);
                }
                sink.codes(simd, 2 * pair + half, codes);
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q5_K;
impl Blocks for Q5_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 176;
    const MIN: bool = true;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
        six_bits(simd, blocks, sink);
        // Bit `i` of each byte is the fifth of group `i`.
        let fifth = blocks.columns(simd, 16);
        // Written out, as below: loops over so much would be left standing.
        two_groups::<S, 0>(simd, blocks.columns(simd, 48), fifth, sink);
        two_groups::<S, 2>(simd, blocks.columns(simd, 80), fifth, sink);
        two_groups::<S, 4>(simd, blocks.columns(simd, 112), fifth, sink);
        two_groups::<S, 6>(simd, blocks.columns(simd, 144), fifth, sink);
    }
}

/// Groups `N` and `N + 1` of Q5_K, which share their bytes of low bits.
#[inline(always)]
fn two_groups<S: Simd, const N: u32>(simd: S, low: [S::B; 8], fifth: [S::B; 8], sink: &mut impl Sink<S>) {
    let mut codes = low;
    for half in 0..2 {
        let bit = N + half;
        for k in 0..8 {
            let high = match bit {
                0..4 => simd.lift_mask(fifth[k], 4 - bit, 0x10),
                _ => simd.shift_mask(fifth[k], bit - 4, 0x10),
            };
            codes[k] = simd.or(simd.shift_mask(low[k], 4 * half, 0x0f), high);
        }
        sink.codes(simd, bit as usize, codes);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q6_K;
impl Blocks for Q6_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 210;
    const ZERO: i32 = 32;
    const HALVES: bool = true;
    #[inline(always)]
    fn place(at: usize) -> usize {
        match at {
            208.. => at - 208,
            192.. => 2 + at - 192,
            160.. => 18 + 32 + 64 + at - 160,
            128.. => 18 + at - 128,
            64.. => 18 + 32 + 64 + 32 + at - 64,
            _ => 18 + 32 + at,
        }
    }
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl Stack, sink: &mut impl Sink<S>) {
        let d = blocks.halves(simd, 208);
        let scales = blocks.quarters(simd, 192);
        for i in 0..8 {
            let out = sink.scales(i);
            simd.store(d, &mut out.scale);
            for half in 0..2 {
                let scale = simd.signed_byte(scales[i / 2], 2 * (i as u32 % 2) + half as u32);
                simd.store(simd.to_float(scale), &mut out.halves[half]);
            }
        }
        // Written out, since the compiler leaves loops over so much standing: with all shifts of all high bits in memory.
        let high = blocks.columns(simd, 128);
        two_quarters::<S, 0>(simd, blocks.columns(simd, 0), high, 0, sink);
        two_quarters::<S, 1>(simd, blocks.columns(simd, 32), high, 0, sink);
        let high = blocks.columns(simd, 160);
        two_quarters::<S, 0>(simd, blocks.columns(simd, 64), high, 4, sink);
        two_quarters::<S, 1>(simd, blocks.columns(simd, 96), high, 4, sink);
    }
}

/// The quarters `PAIR` and `PAIR + 2` of half a block of Q6_K, which share their low bits; groups are numbered from `first`.
#[inline(always)]
fn two_quarters<S: Simd, const PAIR: usize>(
    simd: S,
    low: [S::B; 8],
    high: [S::B; 8],
    first: usize,
    sink: &mut impl Sink<S>,
) {
    let mut codes = low;
    for k in 0..8 {
        let high = simd.lift_mask(high[k], if PAIR == 0 { 4 } else { 2 }, 0x30);
        codes[k] = simd.or(simd.shift_mask(low[k], 0, 0x0f), high);
    }
    sink.codes(simd, first + PAIR, codes);
    for k in 0..8 {
        let high = simd.shift_mask(high[k], if PAIR == 0 { 0 } else { 2 }, 0x30);
        codes[k] = simd.or(simd.shift_mask(low[k], 4, 0x0f), high);
    }
    sink.codes(simd, first + PAIR + 2, codes);
}
