//! IQ4_NL and IQ4_XS: codes of 4 bits that count the levels of one uneven table.
//!
//! IQ4_NL is blocks of 32 weights, an `f16` scale and 16 bytes of codes; `w = d * LEVELS[q]`. IQ4_XS is blocks of 256 weights as eight
//! sub-blocks of 32 with a 6-bit scale each; `w = d * (scale - 32) * LEVELS[q]`. Its bytes: `d` as `f16`, two bytes of which the pair of
//! bits `i` (little-endian) is the high part of scale `i`, four bytes with the low four bits of scales `2 j` and `2 j + 1` in the low and
//! high half of byte `j`, and 16 bytes of codes per sub-block. In 16 bytes of codes, byte `j` holds weight `j` in its low and weight
//! `16 + j` in its high half.

use super::search::{self, LANES, Parts};
use super::{Format, Layout, bounded, f16_at, inverse, q4_0, to_f16};

/// What codes of 4 bits mean.
pub const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The levels as floats.
pub(super) const FLOATS: [f32; 16] = {
    let mut floats = [0.0; 16];
    let mut i = 0;
    while i < 16 {
        floats[i] = LEVELS[i] as f32;
        i += 1;
    }
    floats
};

/// 4 bits of an uneven table, and a scale per 32 weights.
pub static IQ4_NL: Format = Format {
    name: "IQ4_NL",
    id: Some(20),
    block: 32,
    bytes: 18,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        for (block, out) in row.as_chunks::<18>().0.iter().zip(out.as_chunks_mut().0) {
            unpack(&block[2..], f16_at(block), out);
        }
    },
    encode: encode_nl,
};

/// 4 bits of an uneven table, and a 6-bit scale per 32 weights.
pub static IQ4_XS: Format = Format {
    name: "IQ4_XS",
    id: Some(23),
    block: 256,
    bytes: 136,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        for (block, out) in row.as_chunks::<136>().0.iter().zip(out.as_chunks_mut::<256>().0) {
            let d = f16_at(block);
            for (i, out) in out.as_chunks_mut().0.iter_mut().enumerate() {
                let scale = block[4 + i / 2] >> (i % 2 * 4) & 15 | (block[2 + i / 4] >> (i % 4 * 2) & 3) << 4;
                unpack(&block[8 + 16 * i..], d * f32::from(scale as i8 - 32), out);
            }
        }
    },
    encode: encode_xs,
};

fn unpack(codes: &[u8], scale: f32, out: &mut [f32; 32]) {
    let (low, high) = out.split_at_mut(16);
    for ((&byte, low), high) in codes.iter().zip(low).zip(high) {
        *low = scale * f32::from(LEVELS[usize::from(byte & 15)]);
        *high = scale * f32::from(LEVELS[usize::from(byte >> 4)]);
    }
}

/// The scale is searched, and the codes chosen for the rounded one.
#[inline(always)]
pub(super) fn encode_nl(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (n, (weights, out)) in weights.chunks(LANES * 32).zip(out.chunks_mut(LANES * 18)).enumerate() {
        let scales = Parts::<32>::new(weights, importance, n * LANES * 32).levels(&FLOATS).0;
        let blocks = weights.as_chunks().0.iter().zip(out.as_chunks_mut::<18>().0);
        for ((block, out), d) in blocks.zip(scales.map(to_f16)) {
            out[..2].copy_from_slice(&d.to_le_bytes());
            pack(block, d.to_f32(), &mut out[2..]);
        }
    }
}

/// Scales are searched per sub-block, rounded to 6 bits, and the codes chosen for the rounded ones.
#[inline(always)]
pub(super) fn encode_xs(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (n, (pair, out)) in weights.chunks(2 * 256).zip(out.chunks_mut(2 * 136)).enumerate() {
        let parts = Parts::<32>::new(pair, importance, n * 2 * 256);
        let fits = parts.levels(&FLOATS).0;
        for (n, (block, out)) in pair.as_chunks::<256>().0.iter().zip(out.as_chunks_mut::<136>().0).enumerate() {
            let fits = &fits[8 * n..8 * n + 8];
            let d = to_f16(search::scale(fits, &parts.totals[8 * n..8 * n + 8], -32.0, 31.0));
            out[..8].fill(0);
            out[..2].copy_from_slice(&d.to_le_bytes());
            let d = d.to_f32();
            for (i, part) in block.as_chunks().0.iter().enumerate() {
                let rounded = search::round(search::clamp(fits[i] * inverse(d), -32.0, 31.0));
                let scale = (rounded + 32.0) as u8;
                out[4 + i / 2] |= (scale & 15) << (i % 2 * 4);
                out[2 + i / 4] |= (scale >> 4) << (i % 4 * 2);
                pack(part, d * rounded, &mut out[8 + 16 * i..][..16]);
            }
        }
    }
}

#[inline(always)]
fn pack(weights: &[f32; 32], scale: f32, codes: &mut [u8]) {
    let inverse = inverse(scale);
    let mut nearest = [0; 32];
    for (code, &w) in nearest.iter_mut().zip(weights) {
        *code = search::nearest(bounded(w) * inverse, &FLOATS).0;
    }
    q4_0::pack(&nearest, codes);
}
