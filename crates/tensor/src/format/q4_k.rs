//! Q4_K: blocks of 256 weights as eight sub-blocks of 32 with a 6-bit scale and a 6-bit offset each.
//!
//! Bytes: the head, 128 bytes of codes. Codes of sub-blocks `2 i` and `2 i + 1` are the low and high halves of bytes `32 i..32 i + 32`.

use super::head::{self, HEAD};
use super::{Format, Layout, bounded, inverse};

const BLOCK: usize = 256;
const BYTES: usize = 144;

/// 4 bits, and a 6-bit scale and offset per 32 weights.
pub static Q4_K: Format = Format {
    name: "Q4_K",
    id: Some(12),
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
        for (i, (out, (scale, offset))) in out.chunks_exact_mut(32).zip(head::read(block)).enumerate() {
            for (byte, w) in block[HEAD + i / 2 * 32..].iter().zip(out) {
                *w = scale * f32::from(byte >> (4 * (i % 2)) & 15) - offset;
            }
        }
    }
}

/// The codes are chosen for the rounded scales and offsets.
fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(bounded);
        let (head, codes) = out.split_at_mut(HEAD);
        let fits = head::fit(&block, 15.0, head);
        codes.fill(0);
        for (i, (part, (scale, offset))) in block.chunks_exact(32).zip(fits).enumerate() {
            let inverse = inverse(scale);
            for (&w, byte) in part.iter().zip(&mut codes[i / 2 * 32..]) {
                *byte |= (((w + offset) * inverse).round().clamp(0.0, 15.0) as u8) << (4 * (i % 2));
            }
        }
    }
}
