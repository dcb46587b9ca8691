//! Q5_0 and Q5_1: blocks of 32 weights with codes of 5 bits.
//!
//! Bytes: `d` as `f16`, for Q5_1 the minimum `m` as `f16`, 4 bytes of which bit `j` (little-endian) is the high bit of weight `j`, and 16
//! bytes of low halves: byte `j` holds that of weight `j` in its low and that of weight `16 + j` in its high half. `w = d * (q - 16)` and
//! `w = d * q + m`.

use half::f16;

use super::search::{LANES, Parts, clamp, floor};
use super::{Format, Layout, f16_at, finite, inverse, q4_0, q4_1, signed_max, to_f16};

const BLOCK: usize = 32;

/// 5 bits and a scale per 32 weights.
pub static Q5_0: Format = Format {
    name: "Q5_0",
    id: Some(6),
    block: BLOCK,
    bytes: 22,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        for (block, out) in row.as_chunks::<22>().0.iter().zip(out.as_chunks_mut().0) {
            let d = f16_at(block);
            *out = unpack(&block[2..]).map(|q| d * f32::from(q as i8 - 16));
        }
    },
    encode: encode_0,
};

/// 5 bits, and a scale and minimum per 32 weights.
pub static Q5_1: Format = Format {
    name: "Q5_1",
    id: Some(7),
    block: BLOCK,
    bytes: 24,
    tail: 0,
    ternary: false,
    weights: true,
    layout: Layout::Rows,
    decode: |row, _, out| {
        for (block, out) in row.as_chunks::<24>().0.iter().zip(out.as_chunks_mut().0) {
            let (d, m) = (f16_at(block), f16_at(&block[2..]));
            *out = unpack(&block[4..]).map(|q| d * f32::from(q) + m);
        }
    },
    encode: encode_1,
};

/// The weight of largest magnitude becomes code 0, that is -16: the side with one code more. By the importance of columns, the scale is
/// searched.
#[inline(always)]
pub(super) fn encode_0(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    if importance.is_some() {
        for (n, (weights, out)) in weights.chunks(LANES * BLOCK).zip(out.chunks_mut(LANES * 22)).enumerate() {
            let scales = Parts::<BLOCK>::new(weights, importance, n * LANES * BLOCK).symmetric(-16.0, 15.0);
            for ((block, out), d) in weights.as_chunks().0.iter().zip(out.as_chunks_mut().0).zip(scales.map(to_f16)) {
                write(d, inverse(d.to_f32()), block, out);
            }
        }
        return;
    }
    for (block, out) in weights.as_chunks().0.iter().zip(out.as_chunks_mut().0) {
        let d = signed_max(block) / -16.0;
        write(to_f16(d), inverse(d), block, out);
    }
}

#[inline(always)]
fn write(d: f16, inverse: f32, block: &[f32; BLOCK], out: &mut [u8; 22]) {
    out[..2].copy_from_slice(&d.to_le_bytes());
    let mut codes = [0; BLOCK];
    for (code, &w) in codes.iter_mut().zip(block) {
        *code = floor(clamp(finite(w) * inverse + 16.5, 0.0, 31.0));
    }
    pack(&codes, &mut out[2..]);
}

/// As in Q4_1.
#[inline(always)]
pub(super) fn encode_1(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    q4_1::encode_with::<24>(weights, importance, out, 31.0, pack);
}

/// Codes of 5 bits in 20 bytes.
fn unpack(bytes: &[u8]) -> [u8; BLOCK] {
    let (high, low) = bytes.split_at(4);
    std::array::from_fn(|i| low[i % 16] >> (i / 16 * 4) & 15 | (high[i / 8] >> (i % 8) & 1) << 4)
}

/// Puts codes where [`unpack`] finds them.
#[inline(always)]
fn pack(codes: &[u8; BLOCK], bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(4);
    let bits = codes.iter().enumerate().fold(0, |bits, (i, code)| bits | u32::from(code >> 4) << i);
    high.copy_from_slice(&bits.to_le_bytes());
    q4_0::pack(codes, low);
}
