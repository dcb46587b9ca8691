//! Weight matrices at rest, and the part of a product that one task computes.

use crate::simd::LANES;
use std::marker::PhantomData;
use std::ops::Range;
use trine_tensor::Format;

/// Rows that are interleaved together.
pub const PANEL: usize = LANES;

/// A view of an encoded weight matrix, `[rows, cols]`: `rows` outputs, `cols` inputs.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub format: &'static Format,
    pub rows: usize,
    pub cols: usize,
    /// All rows, each [`Format::row_bytes`] long.
    pub bytes: &'a [u8],
    /// What the format stores once per tensor, after its rows: the scale of I2_S.
    pub tail: &'a [u8],
    /// Whether each whole [`PANEL`] of rows is as [`interleave`](crate::interleave) writes it.
    pub interleaved: bool,
}

impl<'a> Matrix<'a> {
    /// A matrix as its format stores it: `bytes` holds its rows, then the format's tail.
    ///
    /// # Panics
    /// When `bytes` is shorter than the tail.
    pub fn new(format: &'static Format, rows: usize, cols: usize, bytes: &'a [u8]) -> Matrix<'a> {
        let (bytes, tail) = bytes.split_at(bytes.len() - format.tail);
        Matrix { format, rows, cols, bytes, tail, interleaved: false }
    }

    /// A range of its rows. In an interleaved matrix the range starts and ends at a panel.
    ///
    /// # Panics
    /// When the range is out of bounds, or splits an interleaved panel.
    pub fn part(self, rows: Range<usize>) -> Matrix<'a> {
        let stride = self.stride();
        assert!(!self.interleaved || rows.start.is_multiple_of(PANEL) && rows.end.is_multiple_of(PANEL));
        Matrix { rows: rows.len(), bytes: &self.bytes[rows.start * stride..rows.end * stride], ..self }
    }

    /// Bytes of a row.
    pub(crate) fn stride(&self) -> usize {
        self.format.row_bytes(self.cols).expect("whole blocks")
    }
}

/// The rows of a weight matrix that one task multiplies.
pub(crate) struct Rows<'a> {
    /// `range.len()` rows of `stride` bytes.
    pub bytes: &'a [u8],
    pub stride: usize,
    pub cols: usize,
    /// Whether each [`PANEL`] of rows is interleaved.
    pub interleaved: bool,
    /// See [`Matrix::tail`].
    pub tail: &'a [u8],
    /// Which rows of the matrix these are.
    pub range: Range<usize>,
}

impl<'a> Rows<'a> {
    #[inline(always)]
    pub fn row(&self, i: usize) -> &'a [u8] {
        &self.bytes[(i - self.range.start) * self.stride..][..self.stride]
    }
}

/// Where products go: a matrix `[tokens, stride]` of which one task alone writes the columns `range`.
pub(crate) struct Out<'a> {
    data: *mut f32,
    len: usize,
    stride: usize,
    range: Range<usize>,
    owner: PhantomData<&'a mut [f32]>,
}

impl Out<'_> {
    /// # Safety
    /// `data` points to `len` floats that live as long as the result, and nobody else touches
    /// the columns `range` meanwhile.
    pub unsafe fn new(data: *mut f32, len: usize, stride: usize, range: Range<usize>) -> Self {
        assert!(range.end <= stride);
        Out { data, len, stride, range, owner: PhantomData }
    }

    /// Writes the products of a token with the rows from `row` on.
    #[inline(always)]
    pub fn write(&mut self, token: usize, row: usize, values: &[f32]) {
        let at = token * self.stride + row;
        assert!(self.range.start <= row && row + values.len() <= self.range.end && at + values.len() <= self.len);
        // SAFETY: inside the buffer and inside the columns that are ours alone.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.data.add(at), values.len()) }
    }
}
