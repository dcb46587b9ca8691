//! Q4_1: blocks of 32 weights, a scale and a minimum as `f16` and 16 bytes of codes; byte `j` holds weight `j` in its low and weight
//! `16 + j` in its high half; `w = d * q + m`.

use super::{Format, Layout, f16_at, finite, inverse, to_f16};

const BLOCK: usize = 32;
const BYTES: usize = 20;

/// 4 bits, and a scale and minimum per 32 weights.
pub static Q4_1: Format = Format {
    name: "Q4_1",
    id: Some(3),
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
        let (d, m) = (f16_at(block), f16_at(&block[2..]));
        let (low, high) = out.split_at_mut(BLOCK / 2);
        for ((&byte, low), high) in block[4..].iter().zip(low).zip(high) {
            *low = d * f32::from(byte & 15) + m;
            *high = d * f32::from(byte >> 4) + m;
        }
    }
}

fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(finite);
        let (head, codes) = out.split_at_mut(4);
        let (min, id) = span(&block, 15.0, head);
        let code = |w: f32| (((w - min) * id + 0.5) as u8).min(15);
        let (low, high) = block.split_at(BLOCK / 2);
        for ((&low, &high), byte) in low.iter().zip(high).zip(codes) {
            *byte = code(low) | code(high) << 4;
        }
    }
}

/// Writes the scale and the minimum of a block whose extremes are the codes 0 and `high`; returns the minimum and the inverse of the scale
/// as they were before they were rounded.
pub(super) fn span(block: &[f32; BLOCK], high: f32, head: &mut [u8]) -> (f32, f32) {
    let (min, max) = block.iter().fold((f32::MAX, f32::MIN), |(min, max), &w| (min.min(w), max.max(w)));
    let d = (max - min) / high;
    head[..2].copy_from_slice(&to_f16(d).to_le_bytes());
    head[2..4].copy_from_slice(&to_f16(min).to_le_bytes());
    (min, inverse(d))
}
