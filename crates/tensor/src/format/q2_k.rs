//! Q2_K: blocks of 256 weights as sixteen sub-blocks of 16 with a 4-bit scale and a 4-bit offset each;
//! `w = d * scale * q - dmin * offset`.
//!
//! Bytes: 16 of scales (low half) and offsets (high half), 64 of codes, `d` and `dmin` as `f16`. The pair of bits `n` (lowest first) of byte
//! `m` of a half of the codes is weight `32 n + m` of half a block.

use super::{Format, Layout, bounded, f16_at, inverse, search, to_f16};

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
fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(bounded);
        let parts = block.as_chunks::<16>().0;
        let fits: [(f32, f32); 16] = std::array::from_fn(|i| search::offset(&parts[i], 3.0));
        let largest = |get: fn(&(f32, f32)) -> f32| to_f16(fits.iter().map(get).fold(0.0, f32::max) / 15.0);
        let (d, dmin) = (largest(|fit| fit.0), largest(|fit| fit.1));
        out.fill(0);
        out[D..D + 2].copy_from_slice(&d.to_le_bytes());
        out[D + 2..].copy_from_slice(&dmin.to_le_bytes());
        let (d, dmin) = (inverse(d.to_f32()), inverse(dmin.to_f32()));
        let round = |x: f32| x.round().min(15.0) as u8;
        for (byte, (scale, offset)) in out.iter_mut().zip(fits) {
            *byte = round(scale * d) | round(offset * dmin) << 4;
        }
        let scales = scales(out);
        for (i, &w) in block.iter().enumerate() {
            let (scale, offset) = scales[i / 16];
            let code = ((w + offset) * inverse(scale)).round().clamp(0.0, 3.0) as u8;
            out[CODES + i / 128 * 32 + i % 32] |= code << (i % 128 / 32 * 2);
        }
    }
}
