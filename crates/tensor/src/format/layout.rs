//! Layouts of tensors that are not plainly blocks: rows that begin with a scale, and ternary matrices whose bytes are not their rows one
//! behind the other.

use super::{Format, Tiles};

/// How the blocks of a tensor lie.
pub enum Layout {
    /// Row behind row.
    Rows,
    /// Row behind row, each with so many bytes before its blocks.
    Headed(usize),
    /// In an order of the whole matrix.
    Matrix(&'static Packing),
}

/// The order of a whole ternary matrix. Products take such a matrix only after it was repacked by rows, which changes no weight.
pub struct Packing {
    /// What it is repacked to: [`super::I2_S`] or [`super::IQ2_BN`].
    pub rows: &'static Format,
    /// Whether the order depends on [`Tiles`].
    pub tiled: bool,
    /// Bytes of a matrix without the format's tail; `None` when there can be no such matrix, or its bytes cannot be counted.
    pub size: fn(rows: u64, cols: u64) -> Option<u64>,
    /// The codes `t + 1` of a row, `out` with one byte for each weight, 3 for what is none; and the row's scale where rows have one.
    pub read: fn(matrix: &Place, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32>,
    /// Puts the codes of a row and its scale into bytes that began as zeros.
    pub write: fn(matrix: &Place, row: usize, codes: &[u8], scale: f32, out: &mut [u8]),
}

/// A matrix as a [`Packing`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its rows.
    pub rows: usize,
    /// Weights of a row.
    pub cols: usize,
    /// The tiles of a [`Packing`] that has them.
    pub tiles: Tiles,
}

impl Format {
    /// Bytes before the blocks of each row.
    pub fn head(&self) -> usize {
        if let Layout::Headed(head) = self.layout { head } else { 0 }
    }

    /// The order of the whole matrix, when it is not row behind row.
    pub fn packing(&self) -> Option<&'static Packing> {
        if let Layout::Matrix(packing) = self.layout { Some(packing) } else { None }
    }
}

/// The codes of a row that was packed by rows, in [`super::I2_S`] or [`super::IQ2_BN`], two bits each: `out` has a byte for each.
pub(crate) fn codes(format: &Format, row: &[u8], out: &mut [u8]) {
    let (quarter, high) = quarters(format);
    for (block, out) in row[format.head()..].chunks_exact(quarter).zip(out.chunks_exact_mut(4 * quarter)) {
        for (g, out) in out.chunks_exact_mut(quarter).enumerate() {
            let shift = if high { 6 - 2 * g } else { 2 * g };
            block.iter().zip(out).for_each(|(byte, code)| *code = byte >> shift & 3);
        }
    }
}

/// The opposite of [`codes`], all but the head.
pub(crate) fn pack(format: &Format, codes: &[u8], row: &mut [u8]) {
    let (quarter, high) = quarters(format);
    let blocks = row[format.head()..].chunks_exact_mut(quarter);
    for (block, codes) in blocks.zip(codes.chunks_exact(4 * quarter)) {
        block.fill(0);
        for (g, codes) in codes.chunks_exact(quarter).enumerate() {
            let shift = if high { 6 - 2 * g } else { 2 * g };
            block.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= code << shift);
        }
    }
}

/// Bytes of a block, each with a code of every quarter of it, and whether the first quarter has the highest bits.
fn quarters(format: &Format) -> (usize, bool) {
    (format.bytes, format.head() == 0)
}
