//! The 16 bytes at the head of a block of Q4_K or Q5_K: a scale and an offset for each of eight sub-blocks of 32.
//!
//! Bytes: `d` and `dmin` as `f16`, 12 bytes of 6-bit scales and offsets, which count in `d` and `dmin`. Those of sub-blocks 0 to 3 are the
//! low six bits of bytes 0 to 3 and 4 to 7; those of sub-blocks 4 to 7 have their low four bits in the low and high halves of bytes 8 to 11,
//! and their high two bits on top of bytes 0 to 3 and 4 to 7.

use super::search::{self, LANES, Lanes, Parts, code};
use super::{bounded, f16_at, inverse, to_f16};

/// Weights per block.
pub(super) const BLOCK: usize = 256;

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

/// Encodes blocks of `BYTES` bytes with codes of `0..=high`: scales and offsets are searched per sub-block and rounded to 6 bits, and the
/// codes chosen for the rounded ones. `pack` writes the codes of a block to the bytes after the head.
#[inline(always)]
pub(super) fn encode<const BYTES: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    high: f32,
    pack: impl Fn(&[u8; BLOCK], &mut [u8]),
) {
    // Two blocks have as many sub-blocks as are searched at once.
    for (n, (pair, out)) in weights.chunks(2 * BLOCK).zip(out.chunks_mut(2 * BYTES)).enumerate() {
        let parts = Parts::<32>::new(pair, importance, n * 2 * BLOCK);
        let (fits, offsets) = parts.offset(high);
        let (mut d, mut dmin) = ([0.0; LANES], [0.0; LANES]);
        for (n, out) in out.as_chunks_mut::<BYTES>().0.iter_mut().enumerate() {
            let eight = 8 * n..8 * n + 8;
            let step =
                |fits: &Lanes| to_f16(search::scale(&fits[eight.clone()], &parts.totals[eight.clone()], 0.0, 63.0));
            let steps = [step(&fits), step(&offsets)];
            out[..2].copy_from_slice(&steps[0].to_le_bytes());
            out[2..4].copy_from_slice(&steps[1].to_le_bytes());
            d[eight.clone()].fill(steps[0].to_f32());
            dmin[eight].fill(steps[1].to_f32());
        }
        let (fits, offsets) = parts.round_offset((&fits, &offsets), (&d, &dmin), 63.0, high);
        let blocks = pair.as_chunks::<BLOCK>().0.iter().zip(out.as_chunks_mut::<BYTES>().0);
        for (n, (block, out)) in blocks.enumerate() {
            let (head, out) = out.split_at_mut(HEAD);
            head[4..].fill(0);
            for i in 0..8 {
                pack_scales(&mut head[4..], i, fits[8 * n + i], offsets[8 * n + i]);
            }
            let mut codes = [0; BLOCK];
            for (i, (scale, offset)) in read(head).into_iter().enumerate() {
                let inverse = inverse(scale);
                for j in 32 * i..32 * i + 32 {
                    codes[j] = code((bounded(block[j]) + offset) * inverse, 0.0, high);
                }
            }
            pack(&codes, out);
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
fn pack_scales(packed: &mut [u8], i: usize, scale: u8, offset: u8) {
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
