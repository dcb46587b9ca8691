//! The 16 bytes at the head of a block of Q4_K or Q5_K: a scale and an offset for each of eight sub-blocks of 32.
//!
//! Bytes: `d` and `dmin` as `f16`, 12 bytes of 6-bit scales and offsets, which count in `d` and `dmin`. Those of sub-blocks 0 to 3 are the
//! low six bits of bytes 0 to 3 and 4 to 7; those of sub-blocks 4 to 7 have their low four bits in the low and high halves of bytes 8 to 11,
//! and their high two bits on top of bytes 0 to 3 and 4 to 7.

use super::{f16_at, inverse, search, to_f16};

/// Bytes of the head.
pub(super) const HEAD: usize = 16;

/// Scale and offset of each sub-block: a weight of it is `scale * code - offset`.
pub(super) fn read(block: &[u8]) -> [(f32, f32); 8] {
    let (d, dmin) = (f16_at(block), f16_at(&block[2..]));
    std::array::from_fn(|i| {
        let (scale, offset) = unpack(&block[4..HEAD], i);
        (d * f32::from(scale), dmin * f32::from(offset))
    })
}

/// Writes the head for these finite weights and codes of `0..=high`: scales and offsets are searched per sub-block and rounded to 6 bits.
/// Returns what [`read`] finds.
pub(super) fn fit(weights: &[f32; 256], high: f32, head: &mut [u8]) -> [(f32, f32); 8] {
    let (parts, _) = weights.as_chunks::<32>();
    let fits: [(f32, f32); 8] = std::array::from_fn(|i| search::offset(&parts[i], high));
    let largest = |get: fn(&(f32, f32)) -> f32| to_f16(fits.iter().map(get).fold(0.0, f32::max) / 63.0);
    let (d, dmin) = (largest(|fit| fit.0), largest(|fit| fit.1));
    head.fill(0);
    head[..2].copy_from_slice(&d.to_le_bytes());
    head[2..4].copy_from_slice(&dmin.to_le_bytes());
    let (d, dmin) = (inverse(d.to_f32()), inverse(dmin.to_f32()));
    for (i, (scale, offset)) in fits.into_iter().enumerate() {
        let round = |x: f32| x.round().min(63.0) as u8;
        pack(&mut head[4..], i, round(scale * d), round(offset * dmin));
    }
    read(head)
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
