//! Formats of one and two bits with an `f16` scale in front of each block, consecutive weights in consecutive bits, lowest first.
//!
//! Q1_0: 128 weights in 16 bytes, `w = d` where the bit is set and `-d` where not. Q2_0: 64 weights in 16 bytes, `w = d * (c - 1)` with
//! codes of 0 to 3, as mainline ggml has both. Q2_0_128: the same with 128 weights in 32 bytes, in files of one vendor under the number that Q2_0 has now.

use super::{Format, Layout, abs_max, f16_at, finite, inverse, to_f16, trit};

/// 1 bit, and a scale per 128 weights.
pub static Q1_0: Format = Format {
    name: "Q1_0",
    id: Some(41),
    block: 128,
    bytes: 18,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: decode1,
    encode: encode1,
};

/// 2 bits, and a scale per 64 weights.
pub static Q2_0: Format = FORMAT2;

const FORMAT2: Format = Format {
    name: "Q2_0",
    id: Some(42),
    block: 64,
    bytes: 18,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: decode2::<18>,
    encode: encode2::<64, 18>,
};

/// 2 bits, and a scale per 128 weights.
pub static Q2_0_128: Format =
    Format { name: "Q2_0_128", block: 128, bytes: 34, decode: decode2::<34>, encode: encode2::<128, 34>, ..FORMAT2 };

fn decode1(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(18).zip(out.chunks_exact_mut(128)) {
        let d = f16_at(block);
        for (i, w) in out.iter_mut().enumerate() {
            *w = if block[2 + i / 8] >> (i % 8) & 1 == 1 { d } else { -d };
        }
    }
}

/// The scale is the mean magnitude of the block; zero and all above it become `d`.
fn encode1(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<128>().0.iter().zip(out.chunks_exact_mut(18)) {
        let block = block.map(finite);
        let d = block.iter().map(|w| w.abs()).sum::<f32>() / 128.0;
        out.fill(0);
        out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        for (i, w) in block.iter().enumerate() {
            out[2 + i / 8] |= u8::from(*w >= 0.0) << (i % 8);
        }
    }
}

fn decode2<const BYTES: usize>(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(4 * (BYTES - 2))) {
        let d = f16_at(block);
        for (i, w) in out.iter_mut().enumerate() {
            *w = d * f32::from((block[2 + i / 4] >> (i % 4 * 2) & 3) as i8 - 1);
        }
    }
}

/// The scale is the largest magnitude of the block, ties go away from zero: code 3 does not occur.
fn encode2<const BLOCK: usize, const BYTES: usize>(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(finite);
        let d = abs_max(&block);
        let id = inverse(d);
        out.fill(0);
        out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        for (i, &w) in block.iter().enumerate() {
            out[2 + i / 4] |= trit(w, id) << (i % 4 * 2);
        }
    }
}
