//! Q4_1: blocks of 32 weights, a scale and a minimum as `f16` and 16 bytes of codes; byte `j` holds weight `j` in its low and weight
//! `16 + j` in its high half; `w = d * q + m`.

use super::search::{LANES, Parts, clamp, floor};
use super::{Format, Layout, extremes, f16_at, finite, inverse, q4_0, to_f16};

const BLOCK: usize = 32;
const BYTES: usize = 20;

/// 4 bits, and a scale and minimum per 32 weights.
pub static Q4_1: Format = Format {
    name: "Q4_1",
    id: Some(3),
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
        let (d, m) = (f16_at(block), f16_at(&block[2..]));
        let (low, high) = out.split_at_mut(BLOCK / 2);
        for ((&byte, low), high) in block[4..].iter().zip(low).zip(high) {
            *low = d * f32::from(byte & 15) + m;
            *high = d * f32::from(byte >> 4) + m;
        }
    }
}

/// The extremes are the first and the last code. By the importance of columns, scale and minimum are searched.
#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    encode_with::<BYTES>(weights, importance, out, 15.0, q4_0::pack);
}

/// Encodes blocks that begin with a scale and a minimum. `pack` writes codes of `0..=high` to the bytes after them.
#[inline(always)]
pub(super) fn encode_with<const BYTES: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    high: f32,
    pack: impl Fn(&[u8; BLOCK], &mut [u8]),
) {
    if importance.is_some() {
        for (n, (weights, out)) in weights.chunks(LANES * BLOCK).zip(out.chunks_mut(LANES * BYTES)).enumerate() {
            let (scales, offsets) = Parts::<BLOCK>::new(weights, importance, n * LANES * BLOCK).offset(high);
            let blocks = weights.as_chunks().0.iter().zip(out.as_chunks_mut::<BYTES>().0);
            for (((block, out), d), m) in blocks.zip(scales).zip(offsets) {
                let (d, m) = (to_f16(d), to_f16(-m));
                out[..2].copy_from_slice(&d.to_le_bytes());
                out[2..4].copy_from_slice(&m.to_le_bytes());
                pack(&codes(block, m.to_f32(), inverse(d.to_f32()), high), &mut out[4..]);
            }
        }
        return;
    }
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let (min, max) = extremes(block);
        let d = (max - min) / high;
        out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        out[2..4].copy_from_slice(&to_f16(min).to_le_bytes());
        pack(&codes(block, min, inverse(d), high), &mut out[4..]);
    }
}

/// The codes `0..=high` of weights in steps of `1 / inverse` from `min`.
#[inline(always)]
fn codes(block: &[f32; BLOCK], min: f32, inverse: f32, high: f32) -> [u8; BLOCK] {
    let mut codes = [0; BLOCK];
    for (code, &w) in codes.iter_mut().zip(block) {
        *code = floor(clamp((finite(w) - min) * inverse + 0.5, 0.0, high));
    }
    codes
}
