//! Q8_K: blocks of 256 weights, an `f32` scale, 256 `i8` codes and the sums of each 16 of them as `i16`; `w = d * q`.
//!
//! ggml makes such blocks of activations; no model is stored so. Layout and encoding are those of ggml's `block_q8_K` and its reference
//! quantizer (PyPI xllamacpp); PyPI gguf knows the size only.

use super::{Format, Layout, finite};

const BLOCK: usize = 256;
const BYTES: usize = 292;
const SUMS: usize = 4 + BLOCK;

/// 8 bits and a scale per 256 weights.
pub static Q8_K: Format = Format {
    name: "Q8_K",
    id: Some(15),
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
        let d = f32::from_le_bytes(*block.first_chunk().expect("a whole block"));
        for (&q, w) in block[4..SUMS].iter().zip(out) {
            *w = d * f32::from(q as i8);
        }
    }
}

/// The weight of largest magnitude becomes -127.
fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        // A little below the largest number, so that the scale times 127 is one.
        let block = block.map(|w| finite(w).clamp(-3.4e38, 3.4e38));
        let max = block.iter().fold(0f32, |max, &w| if w.abs() > max.abs() { w } else { max });
        let inverse = -127.0 / max;
        out.fill(0);
        if !inverse.is_finite() {
            continue;
        }
        out[..4].copy_from_slice(&(1.0 / inverse).to_le_bytes());
        for (i, &w) in block.iter().enumerate() {
            out[4 + i] = (w * inverse).round_ties_even().min(127.0) as i8 as u8;
        }
        for i in 0..BLOCK / 16 {
            let sum: i16 = out[4 + 16 * i..][..16].iter().map(|&q| i16::from(q as i8)).sum();
            out[SUMS + 2 * i..][..2].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
