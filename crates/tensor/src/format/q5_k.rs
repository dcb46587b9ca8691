//! Q5_K: blocks of 256 weights as eight sub-blocks of 32 with a 6-bit scale and a 6-bit offset each.
//!
//! Bytes: the head, 32 bytes of high bits, 128 bytes of low halves of codes. The high bits of sub-block `i` are the bits `i` of the 32 bytes; the low
//! halves of sub-blocks `2 i` and `2 i + 1` are the low and high halves of bytes `32 i..32 i + 32`.

use super::head::{self, HEAD};
use super::{Format, Layout, bounded, inverse};

const BLOCK: usize = 256;
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

/// The codes are chosen for the rounded scales and offsets.
fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(bounded);
        let (head, codes) = out.split_at_mut(HEAD);
        let fits = head::fit(&block, 31.0, head);
        codes.fill(0);
        let (high, low) = codes.split_at_mut(32);
        for (i, (part, (scale, offset))) in block.chunks_exact(32).zip(fits).enumerate() {
            let inverse = inverse(scale);
            for ((&w, low), high) in part.iter().zip(&mut low[i / 2 * 32..]).zip(&mut *high) {
                let code = ((w + offset) * inverse).round().clamp(0.0, 31.0) as u8;
                *low |= (code & 15) << (4 * (i % 2));
                *high |= (code >> 4) << i;
            }
        }
    }
}
