//! Q4_K: blocks of 256 weights as eight sub-blocks of 32 with a 6-bit scale and a 6-bit offset each.
//!
//! Bytes: the head, 128 bytes of codes. Codes of sub-blocks `2 i` and `2 i + 1` are the low and high halves of bytes `32 i..32 i + 32`.

use super::head::{self, BLOCK, HEAD};
use super::{Format, Layout};

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

#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    head::encode::<BYTES>(weights, importance, out, 15.0, |codes, out| {
        for (codes, out) in codes.as_chunks::<64>().0.iter().zip(out.as_chunks_mut::<32>().0) {
            for m in 0..32 {
                out[m] = codes[m] | codes[32 + m] << 4;
            }
        }
    });
}
