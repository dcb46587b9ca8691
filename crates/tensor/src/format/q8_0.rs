//! Q8_0: blocks of 32 weights, an `f16` scale and 32 `i8` codes; `w = d * q`.

use super::search::{clamp, floor};
use super::{Format, Layout, abs_max, f16_at, finite, inverse, to_f16};

const BLOCK: usize = 32;
const BYTES: usize = 34;

/// 8 bits and a scale per 32 weights.
pub static Q8_0: Format = Format {
    name: "Q8_0",
    id: Some(8),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = f16_at(block);
        for (&q, w) in block[2..].iter().zip(out) {
            *w = d * f32::from(q as i8);
        }
    }
}

#[inline(always)]
pub(super) fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let d = abs_max(block) / 127.0;
        let id = inverse(d);
        out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        for (&w, q) in block.iter().zip(&mut out[2..]) {
            // To the nearest, away from zero if there are two: what is added is the largest number below a half.
            let x = finite(w) * id;
            let size = floor(clamp(x.abs() + 0.499_999_97, 0.0, 127.0));
            *q = if x < 0.0 { size.wrapping_neg() } else { size };
        }
    }
}
