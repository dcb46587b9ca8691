//! Unpacks block formats: a block of each of 16 rows becomes groups of 32 columns, in which a
//! vector holds 4 columns of every row.

use super::block::{BlockFormat, BlockRows, GroupSink, Halves, Minima, Minimum, Signed, Unsigned};
use crate::simd::{BYTES, LANES, Simd};
use trine_tensor::format::{FP4_LEVELS, IQ4_LEVELS, UE4M3_HALVES, e8m0_half};

pub(crate) struct Q8_0;
impl BlockFormat for Q8_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 34;
    type Kind = Signed;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        simd.store(blocks.halves(simd, 0), &mut sink.scales(0).scale);
        let mut codes = blocks.columns(simd, 2);
        for k in 0..8 {
            codes[k] = simd.bias(codes[k]);
        }
        sink.codes(simd, 0, codes);
    }
}

pub(crate) struct Q4_0;
impl BlockFormat for Q4_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 18;
    const ZERO: i32 = 8;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        simd.store(blocks.halves(simd, 0), &mut sink.scales(0).scale);
        sink.codes(simd, 0, low_high(simd, blocks.quarters(simd, 2)));
    }
}

pub(crate) struct Q4_1;
impl BlockFormat for Q4_1 {
    const GROUPS: usize = 1;
    const BYTES: usize = 20;
    type Kind = Minimum;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let [head, ..] = blocks.quarters(simd, 0);
        let [d, min] = simd.unpack_f16(head);
        simd.store(d, &mut sink.scales(0).scale);
        simd.store(min, &mut sink.scales(0).min[0]);
        sink.codes(simd, 0, low_high(simd, blocks.quarters(simd, 4)));
    }
}

/// 32 codes of 4 bits: the low halves of 16 bytes, then the high ones.
#[inline(always)]
fn low_high<S: Simd>(simd: S, [a, b, c, d]: [S::B; 4]) -> [S::B; 8] {
    let mut codes = [a, b, c, d, a, b, c, d];
    for k in 0..8 {
        codes[k] = simd.shr_mask(codes[k], k as u32 / 4 * 4, 0x0f);
    }
    codes
}

pub(crate) struct Q5_0;
impl BlockFormat for Q5_0 {
    const GROUPS: usize = 1;
    const BYTES: usize = 22;
    const ZERO: i32 = 16;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        simd.store(blocks.halves(simd, 0), &mut sink.scales(0).scale);
        let [fifth, ..] = blocks.quarters(simd, 2);
        sink.codes(simd, 0, five_bits(simd, blocks.quarters(simd, 6), fifth));
    }
}

pub(crate) struct Q5_1;
impl BlockFormat for Q5_1 {
    const GROUPS: usize = 1;
    const BYTES: usize = 24;
    type Kind = Minimum;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let [head, fifth, ..] = blocks.quarters(simd, 0);
        let [d, min] = simd.unpack_f16(head);
        simd.store(d, &mut sink.scales(0).scale);
        simd.store(min, &mut sink.scales(0).min[0]);
        sink.codes(simd, 0, five_bits(simd, blocks.quarters(simd, 8), fifth));
    }
}

/// 32 codes of 5 bits: low halves as in [`low_high`], and a bit for each in 4 bytes.
#[inline(always)]
fn five_bits<S: Simd>(simd: S, low: [S::B; 4], fifth: S::B) -> [S::B; 8] {
    let mut codes = low_high(simd, low);
    for k in 0..8 {
        codes[k] = simd.or(codes[k], simd.expand_bits(fifth, k as u32, 0x10));
    }
    codes
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q2_K;
impl BlockFormat for Q2_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 84;
    type Kind = Minima;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let [.., d] = blocks.quarters(simd, 68);
        let [d, min] = simd.unpack_f16(d);
        let min = simd.sub(simd.splat(0.0), min);
        let both = blocks.quarters(simd, 0);
        for i in 0..8 {
            let (scales, mins) = (simd.shr_mask(both[i / 2], 0, 0x0f), simd.shr_mask(both[i / 2], 4, 0x0f));
            let out = sink.scales(i);
            simd.store(d, &mut out.scale);
            for half in 0..2 {
                let at = 2 * (i as u32 % 2) + half as u32;
                simd.store(simd.to_f32(simd.extract_u8(scales, at)), &mut out.halves[half]);
                simd.store(simd.mul(min, simd.to_f32(simd.extract_u8(mins, at))), &mut out.min[half]);
            }
        }
        for half in 0..2 {
            let columns = blocks.columns(simd, 16 + 32 * half);
            for pair in 0..4 {
                let mut codes = columns;
                for k in 0..8 {
                    codes[k] = simd.shr_mask(columns[k], 2 * pair as u32, 0x03);
                }
                sink.codes(simd, 4 * half + pair, codes);
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q3_K;
impl BlockFormat for Q3_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 110;
    const ZERO: i32 = 4;
    type Kind = Halves;
    #[inline(always)]
    fn interleaved_at(at: usize) -> usize {
        if at == 108 { 0 } else { 2 + at }
    }
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let d = blocks.halves(simd, 108);
        let [_, even, odd, high] = blocks.quarters(simd, 92);
        for i in 0..8 {
            // Scales 4 n to 4 n + 3.
            let n = i as u32 / 2;
            let low = simd.shr_mask(if n.is_multiple_of(2) { even } else { odd }, n / 2 * 4, 0x0f);
            let high = match n {
                0..3 => simd.shl_mask(high, 4 - 2 * n, 0x30),
                _ => simd.shr_mask(high, 2, 0x30),
            };
            let scales = simd.or(low, high);
            let out = sink.scales(i);
            simd.store(d, &mut out.scale);
            for half in 0..2 {
                let scale = simd.extract_u8(scales, 2 * (i as u32 % 2) + half as u32);
                let scale = simd.to_f32(simd.add_i32(scale, simd.splat_i32(-32)));
                simd.store(scale, &mut out.halves[half]);
            }
        }
        // Bit `i` of each byte is the third of group `i`. Unrolled by hand, as for Q5_K.
        let third = blocks.columns(simd, 0);
        four_groups::<S, 0>(simd, blocks.columns(simd, 32), third, sink);
        four_groups::<S, 4>(simd, blocks.columns(simd, 64), third, sink);
    }
}

/// Groups `N` to `N + 3` of Q3_K, which share their bytes of low bits.
#[inline(always)]
fn four_groups<S: Simd, const N: u32>(simd: S, low: [S::B; 8], third: [S::B; 8], sink: &mut impl GroupSink<S>) {
    let mut codes = low;
    for pair in 0..4 {
        let bit = N + pair;
        for k in 0..8 {
            let high = match bit {
                0..2 => simd.shl_mask(third[k], 2 - bit, 0x04),
                _ => simd.shr_mask(third[k], bit - 2, 0x04),
            };
            codes[k] = simd.or(simd.shr_mask(low[k], 2 * pair, 0x03), high);
        }
        sink.codes(simd, bit as usize, codes);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ4_NL;
impl BlockFormat for IQ4_NL {
    const GROUPS: usize = 1;
    const BYTES: usize = 18;
    type Kind = Signed;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        simd.store(blocks.halves(simd, 0), &mut sink.scales(0).scale);
        sink.codes(simd, 0, uneven(simd, blocks.quarters(simd, 2)));
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct IQ4_XS;
impl BlockFormat for IQ4_XS {
    const GROUPS: usize = 8;
    const BYTES: usize = 136;
    type Kind = Signed;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        // `d`, two bytes of high bits of scales, and four of low ones.
        let [head, low, ..] = blocks.quarters(simd, 0);
        let [d, _] = simd.unpack_f16(head);
        for i in 0..8 {
            let n = i as u32;
            let low = simd.extract_u8(simd.shr_mask(low, n % 2 * 4, 0x0f), n / 2);
            let high = match n % 4 {
                0..3 => simd.shl_mask(head, 4 - n % 4 * 2, 0x30),
                _ => simd.shr_mask(head, 2, 0x30),
            };
            let scale = simd.add_i32(simd.add_i32(low, simd.extract_u8(high, 2 + n / 4)), simd.splat_i32(-32));
            simd.store(simd.mul(d, simd.to_f32(scale)), &mut sink.scales(i).scale);
        }
        for i in 0..8 {
            sink.codes(simd, i, uneven(simd, blocks.quarters(simd, 8 + 16 * i)));
        }
    }
}

/// 32 codes of 4 bits, ordered as in [`low_high`], as the levels of IQ4_NL.
#[inline(always)]
fn uneven<S: Simd>(simd: S, codes: [S::B; 4]) -> [S::B; 8] {
    let mut codes = low_high(simd, codes);
    for k in 0..8 {
        codes[k] = simd.bias(simd.lookup(bytemuck::cast_ref(&IQ4_LEVELS), codes[k]));
    }
    codes
}

/// The levels of MXFP4 and NVFP4, biased by [`FP4_ZERO`].
const FP4: [u8; 16] = {
    let mut levels = [0; 16];
    let mut i = 0;
    while i < 16 {
        levels[i] = (FP4_LEVELS[i] as i32 + FP4_ZERO) as u8;
        i += 1;
    }
    levels
};
const FP4_ZERO: i32 = 12;

pub(crate) struct MXFP4;
impl BlockFormat for MXFP4 {
    const GROUPS: usize = 1;
    const BYTES: usize = 17;
    const ZERO: i32 = FP4_ZERO;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let exponents = blocks.scalar(0);
        let scale = &mut sink.scales(0).scale;
        for row in 0..LANES {
            scale[row] = e8m0_half(exponents[row]);
        }
        let mut codes = low_high(simd, blocks.quarters(simd, 1));
        for k in 0..8 {
            codes[k] = simd.lookup(&FP4, codes[k]);
        }
        sink.codes(simd, 0, codes);
    }
}

pub(crate) struct NVFP4;
impl BlockFormat for NVFP4 {
    const GROUPS: usize = 2;
    const BYTES: usize = 36;
    const ZERO: i32 = FP4_ZERO;
    type Kind = Halves;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let [scales, ..] = blocks.quarters(simd, 0);
        let mut bytes = [0; BYTES];
        simd.store_bytes(scales, &mut bytes);
        for i in 0..2 {
            let out = sink.scales(i);
            simd.store(simd.splat(1.0), &mut out.scale);
            for half in 0..2 {
                for row in 0..LANES {
                    out.halves[half][row] = UE4M3_HALVES[bytes[4 * row + 2 * i + half] as usize];
                }
            }
        }
        for i in 0..2 {
            // Two runs of 16 columns: low halves of 8 bytes, then the high ones.
            let [a, b, c, d] = blocks.quarters(simd, 4 + 16 * i);
            let mut codes = [a, b, a, b, c, d, c, d];
            for k in 0..8 {
                codes[k] = simd.lookup(&FP4, simd.shr_mask(codes[k], k as u32 / 2 % 2 * 4, 0x0f));
            }
            sink.codes(simd, i, codes);
        }
    }
}

/// Scales and minima of Q4_K and Q5_K: `d` and `dmin` in half precision, then eight pairs of 6 bits in 12 bytes.
#[inline(always)]
fn six_bits<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
    let [d, a, b, c] = blocks.quarters(simd, 0);
    let [d, min] = simd.unpack_f16(d);
    let min = simd.sub(simd.splat(0.0), min);
    let scales = [simd.shr_mask(a, 0, 0x3f), simd.or(simd.shr_mask(c, 0, 0x0f), simd.shr_mask(a, 2, 0x30))];
    let mins = [simd.shr_mask(b, 0, 0x3f), simd.or(simd.shr_mask(c, 4, 0x0f), simd.shr_mask(b, 2, 0x30))];
    for i in 0..8 {
        let (scale, six) = (simd.extract_u8(scales[i / 4], i as u32 % 4), simd.extract_u8(mins[i / 4], i as u32 % 4));
        simd.store(simd.mul(d, simd.to_f32(scale)), &mut sink.scales(i).scale);
        simd.store(simd.mul(min, simd.to_f32(six)), &mut sink.scales(i).min[0]);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q4_K;
impl BlockFormat for Q4_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 144;
    type Kind = Minimum;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        six_bits(simd, blocks, sink);
        for pair in 0..4 {
            let columns = blocks.columns(simd, 16 + 32 * pair);
            for half in 0..2 {
                let mut codes = columns;
                for k in 0..8 {
                    codes[k] = simd.shr_mask(columns[k], 4 * half as u32, 0x0f);
                }
                sink.codes(simd, 2 * pair + half, codes);
            }
        }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q5_K;
impl BlockFormat for Q5_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 176;
    type Kind = Minimum;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        six_bits(simd, blocks, sink);
        // Bit `i` of each byte is the fifth of group `i`.
        let fifth = blocks.columns(simd, 16);
        // Unrolled by hand, as below.
        two_groups::<S, 0>(simd, blocks.columns(simd, 48), fifth, sink);
        two_groups::<S, 2>(simd, blocks.columns(simd, 80), fifth, sink);
        two_groups::<S, 4>(simd, blocks.columns(simd, 112), fifth, sink);
        two_groups::<S, 6>(simd, blocks.columns(simd, 144), fifth, sink);
    }
}

/// Groups `N` and `N + 1` of Q5_K, which share their bytes of low bits.
#[inline(always)]
fn two_groups<S: Simd, const N: u32>(simd: S, low: [S::B; 8], fifth: [S::B; 8], sink: &mut impl GroupSink<S>) {
    let mut codes = low;
    for half in 0..2 {
        let bit = N + half;
        for k in 0..8 {
            let high = match bit {
                0..4 => simd.shl_mask(fifth[k], 4 - bit, 0x10),
                _ => simd.shr_mask(fifth[k], bit - 4, 0x10),
            };
            codes[k] = simd.or(simd.shr_mask(low[k], 4 * half, 0x0f), high);
        }
        sink.codes(simd, bit as usize, codes);
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q6_K;
impl BlockFormat for Q6_K {
    const GROUPS: usize = 8;
    const BYTES: usize = 210;
    const ZERO: i32 = 32;
    type Kind = Halves;
    #[inline(always)]
    fn interleaved_at(at: usize) -> usize {
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
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let d = blocks.halves(simd, 208);
        let scales = blocks.quarters(simd, 192);
        for i in 0..8 {
            let out = sink.scales(i);
            simd.store(d, &mut out.scale);
            for half in 0..2 {
                let scale = simd.extract_i8(scales[i / 2], 2 * (i as u32 % 2) + half as u32);
                simd.store(simd.to_f32(scale), &mut out.halves[half]);
            }
        }
        // Unrolled by hand: the compiler would keep the loop, with all shifts of all high bits in memory.
        let high = blocks.columns(simd, 128);
        two_quarters::<S, 0>(simd, blocks.columns(simd, 0), high, 0, sink);
        two_quarters::<S, 1>(simd, blocks.columns(simd, 32), high, 0, sink);
        let high = blocks.columns(simd, 160);
        two_quarters::<S, 0>(simd, blocks.columns(simd, 64), high, 4, sink);
        two_quarters::<S, 1>(simd, blocks.columns(simd, 96), high, 4, sink);
    }
}

/// The quarters `PAIR` and `PAIR + 2` of half a block of Q6_K, which share their low bits;
/// groups are numbered from `first`.
#[inline(always)]
fn two_quarters<S: Simd, const PAIR: usize>(
    simd: S,
    low: [S::B; 8],
    high: [S::B; 8],
    first: usize,
    sink: &mut impl GroupSink<S>,
) {
    let mut codes = low;
    for k in 0..8 {
        let high = simd.shl_mask(high[k], if PAIR == 0 { 4 } else { 2 }, 0x30);
        codes[k] = simd.or(simd.shr_mask(low[k], 0, 0x0f), high);
    }
    sink.codes(simd, first + PAIR, codes);
    for k in 0..8 {
        let high = simd.shr_mask(high[k], if PAIR == 0 { 0 } else { 2 }, 0x30);
        codes[k] = simd.or(simd.shr_mask(low[k], 4, 0x0f), high);
    }
    sink.codes(simd, first + PAIR + 2, codes);
}

pub(crate) struct Q1_0;
impl BlockFormat for Q1_0 {
    const GROUPS: usize = 4;
    const BYTES: usize = 18;
    const ZERO: i32 = 1;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let (d, bits) = (blocks.halves(simd, 0), blocks.quarters(simd, 2));
        for group in 0..4 {
            simd.store(d, &mut sink.scales(group).scale);
            let mut codes = [simd.splat_u8(0); 8];
            for k in 0..8 {
                // Twice the bit, less one, is the sign.
                codes[k] = simd.expand_bits(bits[group], k as u32, 2);
            }
            sink.codes(simd, group, codes);
        }
    }
}

pub(crate) struct Q2_0;
impl BlockFormat for Q2_0 {
    const GROUPS: usize = 2;
    const BYTES: usize = 18;
    const ZERO: i32 = 1;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let (d, codes) = (blocks.halves(simd, 0), blocks.quarters(simd, 2));
        two_bits::<S>(simd, d, codes, 0, sink);
    }
}

pub(crate) struct Q2_0_128;
impl BlockFormat for Q2_0_128 {
    const GROUPS: usize = 4;
    const BYTES: usize = 34;
    const ZERO: i32 = 1;
    type Kind = Unsigned;
    #[inline(always)]
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>) {
        let d = blocks.halves(simd, 0);
        two_bits::<S>(simd, d, blocks.quarters(simd, 2), 0, sink);
        two_bits::<S>(simd, d, blocks.quarters(simd, 18), 2, sink);
    }
}

/// Groups `first` and `first + 1` of Q2_0: 16 bytes with four columns each.
#[inline(always)]
fn two_bits<S: Simd>(simd: S, d: S::F, bytes: [S::B; 4], first: usize, sink: &mut impl GroupSink<S>) {
    for group in 0..2 {
        simd.store(d, &mut sink.scales(first + group).scale);
        let mut codes = [simd.splat_u8(0); 8];
        for k in 0..8 {
            let at = 8 * (k as u32 % 4);
            codes[k] = simd.bit_fields(bytes[2 * group + k / 4], [at, at + 2, at + 4, at + 6], [3; 4]);
        }
        sink.codes(simd, first + group, codes);
    }
}
