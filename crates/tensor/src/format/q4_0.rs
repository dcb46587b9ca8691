//! Q4_0: blocks of 32 weights, an `f16` scale and 16 bytes of codes; byte `j` holds weight `j` in its low and weight
//! `16 + j` in its high half; `w = d * (q - 8)`.

use half::f16;

use super::search::{LANES, Parts, clamp, floor};
use super::{Format, Layout, f16_at, finite, inverse, signed_max, to_f16};

const BLOCK: usize = 32;
const BYTES: usize = 18;

/// 4 bits and a scale per 32 weights.
pub static Q4_0: Format = Format {
    name: "Q4_0",
    id: Some(2),
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
        let d = f16_at(block);
        let (low, high) = out.split_at_mut(BLOCK / 2);
        for ((&byte, low), high) in block[2..].iter().zip(low).zip(high) {
            *low = d * f32::from((byte & 15) as i8 - 8);
            *high = d * f32::from((byte >> 4) as i8 - 8);
        }
    }
}

/// The weight of largest magnitude becomes code 0, that is -8: the side with one code more. By the importance of columns, the scale is searched.
#[inline(always)]
pub(super) fn encode(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    if importance.is_some() {
        for (n, (weights, out)) in weights.chunks(LANES * BLOCK).zip(out.chunks_mut(LANES * BYTES)).enumerate() {
            let scales = Parts::<BLOCK>::new(weights, importance, n * LANES * BLOCK).symmetric(-8.0, 7.0);
            for ((block, out), d) in weights.as_chunks().0.iter().zip(out.as_chunks_mut().0).zip(scales.map(to_f16)) {
                write(d, inverse(d.to_f32()), block, out);
            }
        }
        return;
    }
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0) {
        let d = signed_max(block) / -8.0;
        write(to_f16(d), inverse(d), block, out);
    }
}

#[inline(always)]
fn write(d: f16, inverse: f32, block: &[f32; BLOCK], out: &mut [u8; BYTES]) {
    out[..2].copy_from_slice(&d.to_le_bytes());
    let mut codes = [0; BLOCK];
    for (code, &w) in codes.iter_mut().zip(block) {
        *code = floor(clamp(finite(w) * inverse + 8.5, 0.0, 15.0));
    }
    pack(&codes, &mut out[2..]);
}

/// Puts codes of 4 bits where a block of 32 has them: the first half in the low halves of bytes.
#[inline(always)]
pub(super) fn pack(codes: &[u8; BLOCK], out: &mut [u8]) {
    let (low, high) = codes.split_at(BLOCK / 2);
    for ((low, high), byte) in low.iter().zip(high).zip(out) {
        *byte = low & 15 | high << 4;
    }
}
