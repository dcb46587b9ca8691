//! Q8_1: blocks of 32 weights, an `f16` scale, the `f16` product of the scale and the sum of the codes, and 32 `i8` codes; `w = d * q`.
//!
//! ggml makes such blocks of activations; no model is stored so. Layout and encoding are those of ggml's `block_q8_1` and reference
//! quantizer (PyPI xllamacpp); PyPI gguf does not decode it, and counts 40 bytes, of an older layout.

use super::{Format, Layout, abs_max, f16_at, finite, inverse, to_f16};

const BLOCK: usize = 32;
const BYTES: usize = 36;

/// 8 bits, a scale and a sum per 32 weights.
pub static Q8_1: Format = Format {
    name: "Q8_1",
    id: Some(9),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: false,
    weights: false,
    layout: Layout::Rows,
    decode,
    encode,
};

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = f16_at(block);
        for (&q, w) in block[4..].iter().zip(out) {
            *w = d * f32::from(q as i8);
        }
    }
}

fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(finite);
        let d = abs_max(&block) / 127.0;
        let id = inverse(d);
        let codes = block.map(|w| (w * id).round() as i8);
        let sum: i32 = codes.iter().map(|&q| i32::from(q)).sum();
        out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        out[2..4].copy_from_slice(&to_f16(d * sum as f32).to_le_bytes());
        out[4..].copy_from_slice(&codes.map(|q| q as u8));
    }
}
