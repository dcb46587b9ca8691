//! Matrix products, one file per family of formats: `out[token][row] = w[row] · x[token]`.
//!
//! The canonical order, which every instruction set and every tile follows, so that a product never depends on its neighbours:
//! - float weights: 16 running sums, lane `i` taking columns `i, i + 16, ...` by fused multiply-add, added in one tree;
//! - block formats: integer sums, exact, over each group of 32 columns; scaled and added by fused multiply-add to 8 running sums, lane `i`
//!   taking groups `i, i + 8, ...`, added in the same tree;
//! - ternary formats: integer sums, exact, over each run of blocks with one scale, then likewise.

pub(crate) mod block;
pub(crate) mod float;
pub(crate) mod ternary;

use std::marker::PhantomData;
use std::ops::Range;

/// Columns that share a scale, and a sum, in quantised activations.
pub(crate) const GROUP: usize = 32;

/// Some rows of a weight matrix.
pub(crate) struct Rows<'a> {
    /// `count` rows of `stride` bytes.
    pub bytes: &'a [u8],
    pub stride: usize,
    pub cols: usize,
    /// What stands behind the last row of the matrix: the scale of I2_S.
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

/// Activations as bytes: `x[token][col] ≈ q[token][col] * scale`.
#[derive(Clone, Copy)]
pub(crate) struct Ints<'a> {
    /// `[tokens, cols]`, never -128.
    pub q: &'a [i8],
    pub cols: usize,
    /// `[tokens]`, or `[tokens, cols / 32]`: what divides evenly tells.
    pub scales: &'a [f32],
    /// Sum of each 32 bytes, `[tokens, cols / 32]`.
    pub sums: &'a [i32],
}

impl<'a> Ints<'a> {
    #[inline(always)]
    pub fn tokens(&self) -> usize {
        self.q.len() / self.cols
    }
    /// Groups of 32 bytes.
    #[inline(always)]
    pub fn q(&self, token: usize) -> &'a [[i8; GROUP]] {
        self.q[token * self.cols..][..self.cols].as_chunks().0
    }
    #[inline(always)]
    pub fn scales(&self, token: usize) -> &'a [f32] {
        let each = self.scales.len() / self.tokens();
        &self.scales[token * each..][..each]
    }
    #[inline(always)]
    pub fn sums(&self, token: usize) -> &'a [i32] {
        let each = self.cols / GROUP;
        &self.sums[token * each..][..each]
    }
}

/// Where products go: a matrix `[tokens, stride]` of which this task writes the columns `range`, and nobody else does.
pub(crate) struct Out<'a> {
    data: *mut f32,
    len: usize,
    stride: usize,
    range: Range<usize>,
    owner: PhantomData<&'a mut [f32]>,
}

impl Out<'_> {
    /// # Safety
    /// `data` points to `len` floats that live as long as the result, and nobody else touches the columns `range` meanwhile.
    pub unsafe fn new(data: *mut f32, len: usize, stride: usize, range: Range<usize>) -> Self {
        assert!(range.end <= stride);
        Out { data, len, stride, range, owner: PhantomData }
    }

    #[inline(always)]
    pub fn set(&mut self, token: usize, row: usize, value: f32) {
        let at = token * self.stride + row;
        assert!(self.range.contains(&row) && at < self.len);
        // SAFETY: inside the buffer and inside the columns that are ours alone.
        unsafe { *self.data.add(at) = value }
    }
}
