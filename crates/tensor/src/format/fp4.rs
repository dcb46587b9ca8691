//! MXFP4 and NVFP4: weights as floats of 4 bits (E2M1) under a scale that is a float of 8 bits.
//!
//! MXFP4 (OCP Microscaling Formats, version 1.0) is blocks of 32 weights: a power of two (E8M0), then 16 bytes of codes. NVFP4 is blocks of
//! 64 weights as four sub-blocks of 16: four scales (E4M3 without a sign), then 8 bytes of codes for each sub-block. In the codes of `n`
//! weights, byte `j` holds weight `j` in its low and weight `n / 2 + j` in its high half. The levels here are twice those of E2M1, and the
//! scales half of what their bits say.

use super::search::LANES;
use super::{Format, Layout, bounded, finite};

/// What codes of 4 bits mean: twice an E2M1.
pub const LEVELS: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Half of the power of two that an E8M0 stands for, NaN (255) as the next of the series.
pub fn e8m0_half(e: u8) -> f32 {
    f32::from_bits(if e < 2 { 0x20_0000 << e } else { u32::from(e - 1) << 23 })
}

/// Halves of what E4M3 without a sign stand for; as in ggml, NaN (127) is 0 and the highest bit is ignored in other numbers.
pub static UE4M3_HALVES: [f32; 256] = {
    let mut halves = [0.0; 256];
    let mut x = 0;
    while x < 256 {
        let (exponent, mantissa) = (x as u32 >> 3 & 15, (x & 7) as f32);
        halves[x] = match exponent {
            _ if x == 127 => 0.0,
            0 => mantissa / 1024.0,
            _ => (8.0 + mantissa) * f32::from_bits((exponent + 127 - 11) << 23),
        };
        x += 1;
    }
    halves
};

/// 4-bit floats, and a power of two per 32 weights.
pub static MXFP4: Format = Format {
    name: "MXFP4",
    id: Some(39),
    block: 32,
    bytes: 17,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        for (block, out) in row.as_chunks::<17>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            unpack(&block[1..], e8m0_half(block[0]), out);
        }
    },
    encode: encode_mxfp4,
};

/// 4-bit floats, and an 8-bit float per 16 weights.
pub static NVFP4: Format = Format {
    name: "NVFP4",
    id: Some(40),
    block: 64,
    bytes: 36,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        for (block, out) in row.as_chunks::<36>().0.iter().zip(out.as_chunks_mut::<64>().0) {
            for (i, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                unpack(&block[4 + 8 * i..], UE4M3_HALVES[usize::from(block[i])], out);
            }
        }
    },
    encode: encode_nvfp4,
};

/// The scale has the exponent with which the largest weight is 4 to 6, the largest level.
#[inline(always)]
pub(super) fn encode_mxfp4(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<17>().0) {
        let block = block.map(finite);
        out[0] = (super::abs_max(&block).to_bits() >> 23).saturating_sub(2) as u8;
        pack(&block, e8m0_half(out[0]), &mut out[1..]);
    }
}

/// Of the scales around the one with which the largest weight is the largest level, 6, the one with the least squared error.
#[inline(always)]
pub(super) fn encode_nvfp4(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (weights, out) in weights.chunks(16 * LANES).zip(out.chunks_mut(9 * LANES)) {
        // Sixteen parts at once, each in a lane.
        let mut parts = [[0f32; 16]; LANES];
        for (part, weights) in parts.iter_mut().zip(weights.as_chunks::<16>().0) {
            *part = weights.map(bounded);
        }
        let (mut sizes, mut largest) = ([[0f32; LANES]; 16], [0f32; LANES]);
        for (lane, part) in parts.iter().enumerate() {
            for (size, weight) in sizes.iter_mut().zip(part) {
                size[lane] = weight.abs();
                largest[lane] = largest[lane].max(weight.abs());
            }
        }
        let first = largest.map(|largest| UE4M3_HALVES[..126].partition_point(|&scale| scale < largest / 12.0));
        let (mut least, mut best) = ([f32::INFINITY; LANES], [0; LANES]);
        for step in 0..7 {
            let codes = first.map(|first| (first + step).saturating_sub(3).min(126));
            let scales = codes.map(|code| UE4M3_HALVES[code]);
            let mut errors = [0f32; LANES];
            for size in &sizes {
                for lane in 0..LANES {
                    let error = size[lane] - scales[lane] * level(size[lane], scales[lane]);
                    errors[lane] += error * error;
                }
            }
            for lane in 0..LANES {
                let better = errors[lane] < least[lane];
                least[lane] = if better { errors[lane] } else { least[lane] };
                best[lane] = if better { codes[lane] } else { best[lane] };
            }
        }
        for (n, out) in out.as_chunks_mut::<36>().0.iter_mut().enumerate() {
            for i in 0..4 {
                let best = best[4 * n + i];
                out[i] = best as u8;
                pack(&parts[4 * n + i], UE4M3_HALVES[best], &mut out[4 + 8 * i..][..8]);
            }
        }
    }
}

fn unpack(codes: &[u8], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(out.len() / 2);
    for ((&byte, low), high) in codes.iter().zip(low).zip(high) {
        *low = scale * f32::from(LEVELS[usize::from(byte & 15)]);
        *high = scale * f32::from(LEVELS[usize::from(byte >> 4)]);
    }
}

#[inline(always)]
fn pack<const N: usize>(weights: &[f32; N], scale: f32, out: &mut [u8]) {
    let mut codes = [0u32; N];
    for (code, weight) in codes.iter_mut().zip(weights) {
        let index: u32 = STEPS.iter().map(|&(middle, _)| u32::from(weight.abs() > middle * unit(scale))).sum();
        *code = if *weight < 0.0 && index > 0 { index | 8 } else { index };
    }
    let (low, high) = codes.split_at(N / 2);
    for ((low, high), byte) in low.iter().zip(high).zip(out) {
        *byte = (low | high << 4) as u8;
    }
}

/// The level nearest to a magnitude, the lower of two.
#[inline(always)]
fn level(size: f32, scale: f32) -> f32 {
    STEPS.iter().map(|&(middle, step)| if size > middle * unit(scale) { step } else { 0.0 }).sum()
}

/// The middles between levels, and how far apart these are. A middle times a scale is exact.
const STEPS: [(f32, f32); 7] = [(0.5, 1.0), (1.5, 1.0), (2.5, 1.0), (3.5, 1.0), (5.0, 2.0), (7.0, 2.0), (10.0, 4.0)];

/// A scale, or infinity for 0: no weight is then beyond a middle.
#[inline(always)]
fn unit(scale: f32) -> f32 {
    if scale > 0.0 { scale } else { f32::INFINITY }
}
