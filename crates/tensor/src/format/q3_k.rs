//! Q3_K: blocks of 256 weights as sixteen sub-blocks of 16 with a 6-bit scale each; `w = d * (scale - 32) * (q - 4)`.
//!
//! Bytes: 32 of high bits of codes, 64 of their low two bits, 12 of scales, `d` as `f16`. The high bits of weights `32 n..32 n + 32` are the
//! bits `n` of the 32 bytes. The low pair of bits `n` (lowest first) of byte `m` of a half of the codes is weight `32 n + m` of half a
//! block. Scale `4 g + j` has its low four bits in byte `4 (g mod 2) + j`, in the low (g = 0, 1) or high half, and its high two
//! in the pair `g` of byte `8 + j`.

use super::q2_k::pack_pairs;
use super::search::{self, Parts, clamp, round};
use super::{Format, Layout, bounded, f16_at, inverse, to_f16};

const BLOCK: usize = 256;
const BYTES: usize = 110;
const LOW: usize = 32;
const SCALES: usize = 96;
const D: usize = 108;

/// 3 bits, and a 6-bit scale per 16 weights.
pub static Q3_K: Format = Format {
    name: "Q3_K",
    id: Some(11),
    block: BLOCK,
    bytes: BYTES,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode,
    encode,
};

/// Where the code of weight `i` of a block is: index and shift of its low two bits, index and shift of its high one.
fn code(i: usize) -> (usize, usize, usize, usize) {
    (LOW + i / 128 * 32 + i % 32, i % 128 / 32 * 2, i % 32, i / 32)
}

/// Where scale `i` is: index and shift of its low four bits, index and shift of its high two.
fn scale(i: usize) -> (usize, usize, usize, usize) {
    (SCALES + i % 8, i / 8 * 4, SCALES + 8 + i % 4, i / 4 * 2)
}

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = f16_at(&block[D..]);
        for (i, part) in out.chunks_exact_mut(16).enumerate() {
            let (low, low_shift, high, high_shift) = scale(i);
            let scale = block[low] >> low_shift & 15 | (block[high] >> high_shift & 3) << 4;
            let scale = d * f32::from(scale as i8 - 32);
            for (j, w) in part.iter_mut().enumerate() {
                let (low, low_shift, high, high_shift) = code(16 * i + j);
                let q = block[low] >> low_shift & 3 | (block[high] >> high_shift & 1) << 2;
                *w = scale * f32::from(q as i8 - 4);
            }
        }
    }
}

/// Scales are searched per sub-block, rounded to 6 bits, and the codes chosen for the rounded ones.
#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    for (n, (block, out)) in weights.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0).enumerate() {
        let parts = Parts::<16>::new(block, importance, n * BLOCK);
        let fits = parts.symmetric(-4.0, 3.0);
        let d = to_f16(search::scale(&fits, &parts.totals, -32.0, 31.0));
        *out = [0; BYTES];
        out[D..].copy_from_slice(&d.to_le_bytes());
        let d = d.to_f32();
        let mut codes = [0; BLOCK];
        for i in 0..16 {
            let rounded = round(clamp(fits[i] * inverse(d), -32.0, 31.0));
            let (low, low_shift, high, high_shift) = scale(i);
            let bits = (rounded + 32.0) as u8;
            out[low] |= (bits & 15) << low_shift;
            out[high] |= (bits >> 4) << high_shift;
            let inverse = inverse(d * rounded);
            for j in 16 * i..16 * i + 16 {
                codes[j] = search::code(bounded(block[j]) * inverse, -4.0, 3.0).wrapping_add(4);
            }
        }
        pack_pairs(&codes, &mut out[LOW..SCALES]);
        for m in 0..32 {
            out[m] = (0..8).fold(0, |bits, n| bits | (codes[32 * n + m] >> 2) << n);
        }
    }
}
