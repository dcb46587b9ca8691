//! TQ2_0: blocks of 256 ternary weights, 64 bytes of 2-bit codes and an `f16` scale; `w = d * (c - 1)`.
//!
//! A block is two halves of 128 weights in 32 bytes; the pair of bits `n` (lowest first) of byte `m` of a half is its
//! weight `32 n + m`. Code 3 does not occur in a file that was encoded; it decodes to `2 d`.

use super::{Format, Layout, abs_max, f16_at, finite, inverse, to_f16, trit};

const BLOCK: usize = 256;
const BYTES: usize = 66;

/// Ternary, 2 bits, and a scale per 256 weights.
pub static TQ2_0: Format = Format {
    name: "TQ2_0",
    id: Some(35),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: true,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = f16_at(&block[64..]);
        for (half, out) in block[..64].chunks_exact(32).zip(out.chunks_exact_mut(128)) {
            for (n, out) in out.chunks_exact_mut(32).enumerate() {
                for (byte, w) in half.iter().zip(out) {
                    *w = d * f32::from((byte >> (2 * n) & 3) as i8 - 1);
                }
            }
        }
    }
}

/// The scale is the largest magnitude of the block; weights go to the nearest of -d, 0, d, ties away from zero.
#[inline(always)]
pub(super) fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(finite);
        let d = abs_max(&block);
        let id = inverse(d);
        out.fill(0);
        for (half, out) in block.chunks_exact(128).zip(out.chunks_exact_mut(32)) {
            for (n, group) in half.chunks_exact(32).enumerate() {
                for (&w, byte) in group.iter().zip(&mut *out) {
                    *byte |= trit(w, id) << (2 * n);
                }
            }
        }
        out[64..].copy_from_slice(&to_f16(d).to_le_bytes());
    }
}
