//! Layouts of tensors that are not simply rows of blocks: rows that begin with a scale, and ternary matrices that are not stored by rows.

use super::{Format, Tiles};

/// The order of the blocks of a tensor.
pub enum Layout {
    /// One row after another.
    Rows,
    /// One row after another, each with this number of bytes before its blocks.
    Headed(usize),
    /// An order of the whole matrix.
    Matrix(&'static MatrixLayout),
}

/// The order of a whole ternary matrix. Kernels multiply such a matrix after it is repacked by rows, which changes no weight.
pub struct MatrixLayout {
    /// The format of the repacked matrix: [`super::I2_S`] or [`super::IQ2_BN`].
    pub rows: &'static Format,
    /// Whether the order depends on [`Tiles`].
    pub tiled: bool,
    /// The size of a matrix in bytes, without the format's tail; `None` if it cannot be stored, or the size overflows.
    pub size: fn(rows: u64, cols: u64) -> Option<u64>,
    /// Writes the codes `t + 1` of a row to `out`, one byte per weight, 3 for an invalid code. Returns the row's scale, if rows have one.
    pub read: fn(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32>,
    /// Writes the codes of a row and its scale to bytes that are initially zero.
    pub write: fn(matrix: &TiledShape, row: usize, codes: &[u8], scale: f32, out: &mut [u8]),
}

/// The shape of a matrix, and the tiles of a [`MatrixLayout`] that has them.
#[derive(Clone, Copy, Debug)]
pub struct TiledShape {
    pub rows: usize,
    pub cols: usize,
    pub tiles: Tiles,
}

impl Format {
    /// The number of bytes before the blocks of each row.
    pub fn head(&self) -> usize {
        if let Layout::Headed(head) = self.layout { head } else { 0 }
    }

    /// The order of the whole matrix, if it is not stored by rows.
    pub fn matrix_layout(&self) -> Option<&'static MatrixLayout> {
        if let Layout::Matrix(layout) = self.layout { Some(layout) } else { None }
    }
}

/// Writes the 2-bit codes of a row of [`super::I2_S`] or [`super::IQ2_BN`] to `out`, one byte per code.
pub(crate) fn codes(format: &Format, row: &[u8], out: &mut [u8]) {
    let (quarter, high) = quarters(format);
    for (block, out) in row[format.head()..].chunks_exact(quarter).zip(out.chunks_exact_mut(4 * quarter)) {
        for (g, out) in out.chunks_exact_mut(quarter).enumerate() {
            let shift = if high { 6 - 2 * g } else { 2 * g };
            block.iter().zip(out).for_each(|(byte, code)| *code = byte >> shift & 3);
        }
    }
}

/// The inverse of [`codes`], without the head.
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

/// The bytes per block, each of which holds a code of every quarter, and whether the first quarter has the highest bits.
fn quarters(format: &Format) -> (usize, bool) {
    (format.bytes, format.head() == 0)
}
