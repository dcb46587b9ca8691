//! MXFP4 and NVFP4: weights as floats of 4 bits (E2M1) under a scale that is a float of 8 bits.
//!
//! MXFP4 (OCP Microscaling Formats, version 1.0) is blocks of 32 weights: a power of two (E8M0), then 16 bytes of codes. NVFP4 is blocks of
//! 64 weights as four sub-blocks of 16: four scales (E4M3 without a sign), then 8 bytes of codes for each sub-block. In the codes of `n`
//! weights, byte `j` holds weight `j` in its low and weight `n / 2 + j` in its high half. The levels here are twice those of E2M1, and the
//! scales half of what their bits say.

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
    // The largest weight has the exponent of the largest level, 4 to 6.
    encode: |weights, _, out| {
        for (block, out) in weights.as_chunks::<32>().0.iter().zip(out.as_chunks_mut::<17>().0) {
            let block = block.map(finite);
            out[0] = (super::abs_max(&block).to_bits() >> 23).saturating_sub(2) as u8;
            pack(&block, e8m0_half(out[0]), &mut out[1..]);
        }
    },
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
    // Of the scales around the one with which the largest weight is the largest level, 6, the one with the least squared error.
    encode: |weights, _, out| {
        for (block, out) in weights.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<36>().0) {
            for (i, part) in block.as_chunks::<16>().0.iter().enumerate() {
                let part = part.map(bounded);
                let scale = super::abs_max(&part) / 12.0;
                let first = (0..126).take_while(|&x| UE4M3_HALVES[x] < scale).count();
                let error = |&x: &usize| -> f32 {
                    let scale = UE4M3_HALVES[x];
                    let level = |w: f32| scale * f32::from(LEVELS[usize::from(nearest(w, scale))]);
                    part.iter().map(|&w| (w - level(w)).powi(2)).sum()
                };
                let candidates = first.saturating_sub(3)..=(first + 3).min(126);
                let best = candidates.min_by(|a, b| error(a).total_cmp(&error(b))).expect("some");
                out[i] = best as u8;
                pack(&part, UE4M3_HALVES[best], &mut out[4 + 8 * i..][..8]);
            }
        }
    },
};

fn unpack(codes: &[u8], scale: f32, out: &mut [f32]) {
    let (low, high) = out.split_at_mut(out.len() / 2);
    for ((&byte, low), high) in codes.iter().zip(low).zip(high) {
        *low = scale * f32::from(LEVELS[usize::from(byte & 15)]);
        *high = scale * f32::from(LEVELS[usize::from(byte >> 4)]);
    }
}

fn pack(weights: &[f32], scale: f32, codes: &mut [u8]) {
    let (low, high) = weights.split_at(weights.len() / 2);
    for ((&low, &high), byte) in low.iter().zip(high).zip(codes) {
        *byte = nearest(low, scale) | nearest(high, scale) << 4;
    }
}

/// The code whose level is nearest, the first of several.
fn nearest(w: f32, scale: f32) -> u8 {
    let error = |&code: &u8| (scale * f32::from(LEVELS[usize::from(code)]) - w).abs();
    (0..16).min_by(|a, b| error(a).total_cmp(&error(b))).expect("16 codes")
}
