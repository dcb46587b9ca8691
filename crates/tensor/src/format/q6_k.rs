//! Q6_K: blocks of 256 weights as sixteen sub-blocks of 16 with an `i8` scale each; `w = d * scale * (q - 32)`.
//!
//! Bytes: 128 of low halves of codes, 64 of their high two bits, 16 scales, `d` as `f16`. A block is two halves of 128
//! weights. In a half, weight `32 n + m` has its low bits in the low (n = 0, 1) or high (n = 2, 3) half of byte
//! `32 (n mod 2) + m` of 64, and its high bits in the pair `n` (lowest first) of byte `m` of 32.

use super::search::{self, Parts, code};
use super::{Format, Layout, bounded, f16_at, inverse, to_f16};

const BLOCK: usize = 256;
const BYTES: usize = 210;
const HIGH: usize = 128;
const SCALES: usize = 192;
const D: usize = 208;

/// 6 bits, and an 8-bit scale per 16 weights.
pub static Q6_K: Format = Format {
    name: "Q6_K",
    id: Some(14),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

/// Where the code of weight `i` of a block is: index and shift of its low four bits, index and shift of its high two.
fn place(i: usize) -> (usize, usize, usize, usize) {
    let (half, n, m) = (i / 128, i / 32 % 4, i % 32);
    (64 * half + 32 * (n % 2) + m, n / 2 * 4, HIGH + 32 * half + m, 2 * n)
}

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = f16_at(&block[D..]);
        for (i, w) in out.iter_mut().enumerate() {
            let (low, low_shift, high, high_shift) = place(i);
            let q = block[low] >> low_shift & 15 | (block[high] >> high_shift & 3) << 4;
            *w = d * f32::from(block[SCALES + i / 16] as i8) * f32::from(q as i8 - 32);
        }
    }
}

/// Scales are searched per sub-block, rounded to 8 bits, and the codes chosen for the rounded ones.
#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (n, (block, out)) in weights.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0).enumerate() {
        let parts = Parts::<16>::new(block, importance, n * BLOCK);
        let fits = parts.symmetric(-32.0, 31.0);
        let d = to_f16(search::scale(&fits, &parts.totals, -128.0, 127.0));
        out[D..].copy_from_slice(&d.to_le_bytes());
        let d = d.to_f32();
        let mut codes = [0; BLOCK];
        for i in 0..16 {
            let scale = code(fits[i] * inverse(d), -128.0, 127.0);
            out[SCALES + i] = scale;
            let inverse = inverse(d * f32::from(scale as i8));
            for j in 16 * i..16 * i + 16 {
                codes[j] = code(bounded(block[j]) * inverse, -32.0, 31.0).wrapping_add(32);
            }
        }
        for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
            for m in 0..32 {
                let [a, b, c, d] = [codes[m], codes[32 + m], codes[64 + m], codes[96 + m]];
                out[64 * half + m] = a & 15 | c << 4;
                out[64 * half + 32 + m] = b & 15 | d << 4;
                out[HIGH + 32 * half + m] = a >> 4 | (b >> 4) << 2 | (c >> 4) << 4 | (d >> 4) << 6;
            }
        }
    }
}
