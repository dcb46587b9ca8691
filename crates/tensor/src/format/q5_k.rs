//! Q5_K: blocks of 256 weights as eight sub-blocks of 32 with a 6-bit scale and a 6-bit offset each.
//!
//! Bytes: the head, 32 bytes of high bits, 128 bytes of low halves of codes. The high bits of sub-block `i` are the bits `i` of the 32 bytes; the low
//! halves of sub-blocks `2 i` and `2 i + 1` are the low and high halves of bytes `32 i..32 i + 32`.

use super::head::{self, BLOCK, HEAD};
use super::{Format, Layout};

const BYTES: usize = 176;
const LOW: usize = HEAD + 32;

/// 5 bits, and a 6-bit scale and offset per 32 weights.
pub static Q5_K: Format = Format {
    name: "Q5_K",
    id: Some(13),
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
            let halves = block[LOW + i / 2 * 32..].iter().zip(&block[HEAD..LOW]);
            for ((low, high), w) in halves.zip(out) {
                let code = low >> (4 * (i % 2)) & 15 | (high >> i & 1) << 4;
                *w = scale * f32::from(code) - offset;
            }
        }
    }
}

#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    head::encode::<BYTES>(weights, importance, out, 31.0, |codes, out| {
        let (high, low) = out.split_at_mut(32);
        for m in 0..32 {
            high[m] = (0..8).fold(0, |bits, n| bits | (codes[32 * n + m] >> 4) << n);
        }
        for (codes, low) in codes.as_chunks::<64>().0.iter().zip(low.as_chunks_mut::<32>().0) {
            for m in 0..32 {
                low[m] = codes[m] & 15 | codes[32 + m] << 4;
            }
        }
    });
}
