//! Rearranges panels of 16 rows for block products.
//!
//! An interleaved panel holds, block by block, what a vector loads at once: the same 4 bytes of every row,
//! then the next 4. The half-precision numbers and single bytes of the rows are together in the same way. So
//! the bytes at `at` in a row's block are at `16 * at` in the panel's, unless the format has an order of its
//! own ([`BlockFormat::interleaved_at`]); a panel takes as many bytes as its rows, and the rows after the
//! last whole panel stay as they are.

use super::block::BlockFormat;
use super::unpack::{Q3_K, Q6_K};
use crate::simd::LANES;
use trine_tensor::Format;

/// Calls `each(at, len)` for the parts of a block that stay together: 4 bytes, or the 1 or 2 of a scalar that breaks
/// the blocks into other than whole words.
#[inline(always)]
fn parts(format: &Format, mut each: impl FnMut(usize, usize)) {
    let scalar = format.bytes % 4;
    let offset = offset(format);
    // The scalar is at the start of the panel's block.
    let mut at = 0;
    while at < format.bytes {
        let len = if scalar > 0 && offset(at) == 0 { scalar } else { 4 };
        each(at, len);
        at += len;
    }
}

/// Interleaves a [`PANEL`](crate::PANEL) of whole rows, so that a block product loads from one place what it works on
/// at once. `out` is as long as `rows`.
pub fn interleave(format: &Format, rows: &[u8], out: &mut [u8]) {
    let (bytes, stride, offset) = (format.bytes, rows.len() / LANES, offset(format));
    for (n, out) in out.chunks_exact_mut(LANES * bytes).enumerate() {
        parts(format, |at, len| {
            let out = &mut out[LANES * offset(at)..][..LANES * len];
            let from = |row: usize| &rows[row * stride + n * bytes + at..];
            if len == 4 {
                let out = out.as_chunks_mut::<4>().0;
                (0..LANES).for_each(|row| out[row] = *from(row).first_chunk().expect("inside the block"));
            } else {
                let out = out.chunks_exact_mut(len).enumerate();
                out.for_each(|(row, out)| out.copy_from_slice(&from(row)[..len]));
            }
        });
    }
}

/// Row `row` of an interleaved panel, as its format stores it.
pub(crate) fn deinterleave_row(format: &Format, panel: &[u8], row: usize, out: &mut [u8]) {
    let (bytes, offset) = (format.bytes, offset(format));
    for (out, panel) in out.chunks_exact_mut(bytes).zip(panel.chunks_exact(LANES * bytes)) {
        parts(format, |at, len| out[at..at + len].copy_from_slice(&panel[LANES * offset(at) + row * len..][..len]));
    }
}

/// See [`BlockFormat::interleaved_at`].
fn offset(format: &Format) -> fn(usize) -> usize {
    match format.name {
        "Q3_K" => Q3_K::interleaved_at,
        "Q6_K" => Q6_K::interleaved_at,
        _ => |at| at,
    }
}
