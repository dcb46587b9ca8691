//! Q2_K: blocks of 256 weights as sixteen sub-blocks of 16 with a 4-bit scale and a 4-bit offset each;
//! `w = d * scale * q - dmin * offset`.
//!
//! Bytes: 16 of scales (low half) and offsets (high half), 64 of codes, `d` and `dmin` as `f16`. The pair of bits `n` (lowest first) of byte
//! `m` of a half of the codes is weight `32 n + m` of half a block.

use super::search::{self, LANES, Parts, code};
use super::{Format, Layout, bounded, f16_at, inverse, to_f16};

const BLOCK: usize = 256;
const BYTES: usize = 84;
const CODES: usize = 16;
const D: usize = 80;

/// 2 bits, and a 4-bit scale and offset per 16 weights.
pub static Q2_K: Format = Format {
    name: "Q2_K",
    id: Some(10),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

/// Scale and offset of each sub-block.
fn scales(block: &[u8]) -> [(f32, f32); 16] {
    let (d, dmin) = (f16_at(&block[D..]), f16_at(&block[D + 2..]));
    std::array::from_fn(|i| (d * f32::from(block[i] & 15), dmin * f32::from(block[i] >> 4)))
}

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let scales = scales(block);
        for (i, w) in out.iter_mut().enumerate() {
            let (scale, offset) = scales[i / 16];
            let code = block[CODES + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
            *w = scale * f32::from(code) - offset;
        }
    }
}

/// Scales and offsets are searched per sub-block, rounded to 4 bits, and the codes chosen for the rounded ones.
#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (n, (block, out)) in weights.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0).enumerate() {
        let parts = Parts::<16>::new(block, importance, n * BLOCK);
        let (fits, offsets) = parts.offset(3.0);
        let d = to_f16(search::scale(&fits, &parts.totals, 0.0, 15.0));
        let dmin = to_f16(search::scale(&offsets, &parts.totals, 0.0, 15.0));
        out[D..D + 2].copy_from_slice(&d.to_le_bytes());
        out[D + 2..].copy_from_slice(&dmin.to_le_bytes());
        let steps = (&[d.to_f32(); LANES], &[dmin.to_f32(); LANES]);
        let (fits, offsets) = parts.round_offset((&fits, &offsets), steps, 15.0, 3.0);
        for i in 0..16 {
            out[i] = fits[i] | offsets[i] << 4;
        }
        let mut codes = [0; BLOCK];
        for (i, (scale, offset)) in scales(out).into_iter().enumerate() {
            let inverse = inverse(scale);
            for j in 16 * i..16 * i + 16 {
                codes[j] = code((bounded(block[j]) + offset) * inverse, 0.0, 3.0);
            }
        }
        pack_pairs(&codes, &mut out[CODES..D]);
    }
}

/// Puts the low two bits of codes where they are in Q2_K and Q3_K.
#[inline(always)]
pub(super) fn pack_pairs(codes: &[u8; BLOCK], out: &mut [u8]) {
    for (half, out) in codes.as_chunks::<128>().0.iter().zip(out.as_chunks_mut::<32>().0) {
        for m in 0..32 {
            out[m] = half[m] & 3 | (half[32 + m] & 3) << 2 | (half[64 + m] & 3) << 4 | (half[96 + m] & 3) << 6;
        }
    }
}
