//! TQ1_0: blocks of 256 ternary weights, five to a byte in base 3, 52 bytes of codes and an `f16` scale;
//! `w = d * (c - 1)`.
//!
//! A byte holds `ceil(256 v / 243)` where `v` has the code of its first weight as most significant of five digits, so
//! that the digit `n` is the whole part of `3 * frac(byte * 3^n / 256)`. Bytes come in three runs of 32, 16 and 4;
//! digit `n` of byte `m` of a run of `len` is weight `len * n + m` of that run. The last run uses four digits.

use super::{Format, Layout, abs_max, f16_at, finite, inverse, to_f16, trit};

const BLOCK: usize = 256;
const BYTES: usize = 54;
const POW3: [u8; 5] = [1, 3, 9, 27, 81];

/// First byte, bytes and digits per byte of the three runs of a block.
const RUNS: [(usize, usize, usize); 3] = [(0, 32, 5), (32, 16, 5), (48, 4, 4)];

/// Ternary, 1.6 bits, and a scale per 256 weights.
pub static TQ1_0: Format = Format {
    name: "TQ1_0",
    id: Some(34),
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
    for (block, mut out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = f16_at(&block[52..]);
        for (start, len, digits) in RUNS {
            let (run, rest) = out.split_at_mut(len * digits);
            out = rest;
            for (pow, out) in POW3.iter().zip(run.chunks_exact_mut(len)) {
                for (byte, w) in block[start..].iter().zip(out) {
                    let c = (u16::from(byte.wrapping_mul(*pow)) * 3) >> 8;
                    *w = d * f32::from(c as i8 - 1);
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
        let mut weights = &block[..];
        for (start, len, digits) in RUNS {
            let (run, rest) = weights.split_at(len * digits);
            weights = rest;
            for (m, byte) in out[start..start + len].iter_mut().enumerate() {
                let digit = |n: usize| u16::from(trit(run[len * n + m], id)) * u16::from(POW3[4 - n]);
                let v: u16 = (0..digits).map(digit).sum();
                *byte = (v * 256).div_ceil(243) as u8;
            }
        }
        out[52..].copy_from_slice(&to_f16(d).to_le_bytes());
    }
}
