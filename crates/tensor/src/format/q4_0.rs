//! Q4_0: blocks of 32 weights, an `f16` scale and 16 bytes of codes; byte `j` holds weight `j` in its low and weight
//! `16 + j` in its high half; `w = d * (q - 8)`.

use super::{Format, Layout, f16_at, finite, inverse, to_f16};

const BLOCK: usize = 32;
const BYTES: usize = 18;

/// 4 bits and a scale per 32 weights.
pub static Q4_0: Format = Format {
    name: "Q4_0",
    id: Some(2),
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
        let (low, high) = out.split_at_mut(BLOCK / 2);
        for ((&byte, low), high) in block[2..].iter().zip(low).zip(high) {
            *low = d * f32::from((byte & 15) as i8 - 8);
            *high = d * f32::from((byte >> 4) as i8 - 8);
        }
    }
}

/// The weight of largest magnitude becomes code 0, that is -8: the side with one code more.
fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(finite);
        let max = block.iter().fold(0f32, |max, &w| if w.abs() > max.abs() { w } else { max });
        let d = max / -8.0;
        let id = inverse(d);
        out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        let code = |w: f32| ((w * id + 8.5) as u8).min(15);
        let (low, high) = block.split_at(BLOCK / 2);
        for ((&low, &high), byte) in low.iter().zip(high).zip(&mut out[2..]) {
            *byte = code(low) | code(high) << 4;
        }
    }
}
