//! Q4_K: blocks of 256 weights as eight sub-blocks of 32 with a 6-bit scale and a 6-bit offset each;
//! `w = d * scale * q - dmin * offset`.
//!
//! Bytes: `d` and `dmin` as `f16`, 12 bytes of scales and offsets, 128 bytes of codes. Codes of sub-blocks `2 i` and
//! `2 i + 1` are the low and high halves of bytes `32 i..32 i + 32`. Scales and offsets of sub-blocks 0 to 3 are the low
//! six bits of bytes 0 to 3 and 4 to 7; those of sub-blocks 4 to 7 have their low four bits in the low and high halves
//! of bytes 8 to 11, and their high two bits on top of bytes 0 to 3 and 4 to 7.

use super::{Format, f16_at, finite, inverse, search, to_f16};

const BLOCK: usize = 256;
const BYTES: usize = 144;

/// 4 bits, and a 6-bit scale and offset per 32 weights.
pub static Q4_K: Format =
    Format { name: "Q4_K", id: Some(12), block: BLOCK, bytes: BYTES, tail: 0, ternary: false, decode, encode };

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let (d, dmin) = (f16_at(block), f16_at(&block[2..]));
        for (i, out) in out.chunks_exact_mut(32).enumerate() {
            let (scale, offset) = unpack(&block[4..16], i);
            let (d, m) = (d * f32::from(scale), dmin * f32::from(offset));
            for (byte, w) in block[16 + i / 2 * 32..].iter().zip(out) {
                *w = d * f32::from(byte >> (4 * (i % 2)) & 15) - m;
            }
        }
    }
}

/// Scale and offset of sub-block `i`.
fn unpack(packed: &[u8], i: usize) -> (u8, u8) {
    match i {
        0..4 => (packed[i] & 63, packed[i + 4] & 63),
        _ => {
            let (low, j) = (packed[i + 4], i - 4);
            (low & 15 | packed[j] >> 6 << 4, low >> 4 | packed[j + 4] >> 6 << 4)
        }
    }
}

/// Puts scale and offset of sub-block `i` where [`unpack`] finds them; `packed` begins as zeros.
fn pack(packed: &mut [u8], i: usize, scale: u8, offset: u8) {
    match i {
        0..4 => {
            packed[i] |= scale;
            packed[i + 4] |= offset;
        }
        _ => {
            packed[i + 4] = scale & 15 | (offset & 15) << 4;
            packed[i - 4] |= scale >> 4 << 6;
            packed[i] |= offset >> 4 << 6;
        }
    }
}

/// Scales and offsets are searched per sub-block, rounded to 6 bits, and the codes chosen for the rounded ones.
fn encode(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        let block = block.map(finite);
        let (parts, _) = block.as_chunks::<32>();
        let mut fits = [(0.0, 0.0); 8];
        for (fit, part) in fits.iter_mut().zip(parts) {
            *fit = search::offset(part, 15.0);
        }
        let largest = |get: fn(&(f32, f32)) -> f32| to_f16(fits.iter().map(get).fold(0.0, f32::max) / 63.0);
        let (d, dmin) = (largest(|fit| fit.0), largest(|fit| fit.1));
        out.fill(0);
        out[..2].copy_from_slice(&d.to_le_bytes());
        out[2..4].copy_from_slice(&dmin.to_le_bytes());
        let (d, dmin) = (d.to_f32(), dmin.to_f32());
        for (i, (part, fit)) in parts.iter().zip(fits).enumerate() {
            let scale = (fit.0 * inverse(d)).round().min(63.0) as u8;
            let offset = (fit.1 * inverse(dmin)).round().min(63.0) as u8;
            pack(&mut out[4..16], i, scale, offset);
            let (id, m) = (inverse(d * f32::from(scale)), dmin * f32::from(offset));
            for (&w, byte) in part.iter().zip(&mut out[16 + i / 2 * 32..]) {
                *byte |= (((w + m) * id).round().clamp(0.0, 15.0) as u8) << (4 * (i % 2));
            }
        }
    }
}
