//! Q6_K: blocks of 256 weights as sixteen sub-blocks of 16 with an `i8` scale each; `w = d * scale * (q - 32)`.
//!
//! Bytes: 128 of low halves of codes, 64 of their high two bits, 16 scales, `d` as `f16`. A block is two halves of 128
//! weights. In a half, weight `32 n + m` has its low bits in the low (n = 0, 1) or high (n = 2, 3) half of byte
//! `32 (n mod 2) + m` of 64, and its high bits in the pair `n` (lowest first) of byte `m` of 32.

use super::{Format, Layout, bounded, f16_at, inverse, search, to_f16};

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
fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(bounded);
        let mut fits = [0.0; 16];
        for (fit, part) in fits.iter_mut().zip(block.as_chunks::<16>().0) {
            *fit = search::symmetric(part, -32.0, 31.0);
        }
        let max = fits.iter().fold(0f32, |max, &s| if s.abs() > max.abs() { s } else { max });
        let d = to_f16(max / -128.0);
        out.fill(0);
        out[D..].copy_from_slice(&d.to_le_bytes());
        let d = d.to_f32();
        for (i, &w) in block.iter().enumerate() {
            let scale = (fits[i / 16] * inverse(d)).round() as i8;
            out[SCALES + i / 16] = scale as u8;
            let q = ((w * inverse(d * f32::from(scale))).round().clamp(-32.0, 31.0) as i8 + 32) as u8;
            let (low, low_shift, high, high_shift) = place(i);
            out[low] |= (q & 15) << low_shift;
            out[high] |= (q >> 4) << high_shift;
        }
    }
}
