//! I2_S of bitnet.cpp: ternary codes of 2 bits, and one `f32` scale for the whole tensor in a tail of 32 bytes;
//! `w = scale * (c - 1)`.
//!
//! Blocks of 128 weights in 32 bytes; the pair of bits `g` (highest first, the reverse of TQ2_0) of byte `m` is weight
//! `32 g + m`. This is the layout that bitnet.cpp writes on x86, and that of the published models; other builds write
//! [`super::I2_S_ARM`] and [`super::I2_S_ROWS`] under the same type number, and nothing in the file tells them apart. Code 3 does not occur in a file that
//! was encoded; it decodes to `2 scale`.

use super::{Format, Layout, finite, inverse, trit};

const BLOCK: usize = 128;
const BYTES: usize = 32;
const TAIL: usize = 32;

/// Ternary, 2 bits, and a scale per tensor.
pub static I2_S: Format = FORMAT;

/// What the other formats with this tail begin with.
pub(super) const FORMAT: Format = Format {
    name: "I2_S",
    id: Some(36),
    block: BLOCK,
    bytes: BYTES,
    tail: TAIL,
    ternary: true,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

fn decode(row: &[u8], tail: &[u8], out: &mut [f32]) {
    let scale = tail.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        for (g, out) in out.chunks_exact_mut(32).enumerate() {
            for (byte, w) in block.iter().zip(out) {
                *w = scale * f32::from((byte >> (6 - 2 * g) & 3) as i8 - 1);
            }
        }
    }
}

/// The scale is the largest magnitude of the tensor; weights go to the nearest of -s, 0, s, ties away from zero.
#[inline(always)]
pub(super) fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    let scale = weights.iter().fold(0f32, |max, &w| max.max(finite(w).abs()));
    let inverse = inverse(scale);
    let (rows, tail) = out.split_at_mut(weights.len() / BLOCK * BYTES);
    rows.fill(0);
    for (block, out) in weights.chunks_exact(BLOCK).zip(rows.chunks_exact_mut(BYTES)) {
        for (g, group) in block.chunks_exact(32).enumerate() {
            for (&w, byte) in group.iter().zip(&mut *out) {
                *byte |= trit(finite(w), inverse) << (6 - 2 * g);
            }
        }
    }
    tail.fill(0);
    tail[..4].copy_from_slice(&scale.to_le_bytes());
}
