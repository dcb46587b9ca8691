//! Q5_0 and Q5_1: blocks of 32 weights with codes of 5 bits.
//!
//! Bytes: `d` as `f16`, for Q5_1 the minimum `m` as `f16`, 4 bytes of which bit `j` (little-endian) is the high bit of weight `j`, and 16
//! bytes of low halves: byte `j` holds that of weight `j` in its low and that of weight `16 + j` in its high half. `w = d * (q - 16)` and
//! `w = d * q + m`.

use super::{Format, Layout, f16_at, finite, inverse, q4_1, to_f16};

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
    // The weight of largest magnitude becomes code 0, that is -16: the side with one code more.
    encode: |weights, out| {
        for (block, out) in weights.as_chunks().0.iter().zip(out.as_chunks_mut::<22>().0) {
            let block = block.map(finite);
            let max = block.iter().fold(0f32, |max, &w| if w.abs() > max.abs() { w } else { max });
            let d = max / -16.0;
            let id = inverse(d);
            out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
            pack(&block.map(|w| ((w * id + 16.5) as u8).min(31)), &mut out[2..]);
        }
    },
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
    encode: |weights, out| {
        for (block, out) in weights.as_chunks().0.iter().zip(out.as_chunks_mut::<24>().0) {
            let block = block.map(finite);
            let (head, codes) = out.split_at_mut(4);
            let (min, id) = q4_1::span(&block, 31.0, head);
            pack(&block.map(|w| (((w - min) * id + 0.5) as u8).min(31)), codes);
        }
    },
};

/// Codes of 5 bits in 20 bytes.
fn unpack(bytes: &[u8]) -> [u8; BLOCK] {
    let (high, low) = bytes.split_at(4);
    std::array::from_fn(|i| low[i % 16] >> (i / 16 * 4) & 15 | (high[i / 8] >> (i % 8) & 1) << 4)
}

/// Puts codes where [`unpack`] finds them.
fn pack(codes: &[u8; BLOCK], bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(4);
    high.fill(0);
    low.fill(0);
    for (i, code) in codes.iter().enumerate() {
        low[i % 16] |= (code & 15) << (i / 16 * 4);
        high[i / 8] |= (code >> 4) << (i % 8);
    }
}
