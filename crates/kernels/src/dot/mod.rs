//! Matrix products, one file per family of formats: `out[token][row] = w[row] · x[token]`.
//!
//! The canonical order, which every instruction set and every tile follows, so that a product never depends on its neighbours:
//! - float weights: 16 running sums, lane `i` taking columns `i, i + 16, ...` by fused multiply-add, added in one tree;
//! - block formats: integer sums, exact, over each group of 32 columns; times the product of both scales, and then the minimum's part, they
//!   are added by fused multiply-add to 8 running sums, number `i` taking groups `i, i + 8, ...`, added in the same tree;
//! - ternary formats: integer sums, exact, over each run of blocks with one scale; scaled and added by fused multiply-add.

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
    /// `[tokens, width]`, never -128.
    pub q: &'a [i8],
    /// Bytes of a token: the columns, or more in the order of a format's own.
    pub width: usize,
    /// `[tokens]`, or `[tokens, groups]`.
    pub scales: &'a [f32],
    /// Exact sums of the two halves of each group, `[tokens, groups]`; of all bytes in the first half, `[tokens]`, for one scale per token.
    pub halves: &'a [[i32; 2]],
    /// Each group's scale times its sum, `[tokens, groups]`.
    pub sums: &'a [f32],
}

impl<'a> Ints<'a> {
    #[inline(always)]
    pub fn tokens(&self) -> usize {
        self.q.len() / self.width
    }
    #[inline(always)]
    pub fn q(&self, token: usize) -> &'a [i8] {
        &self.q[token * self.width..][..self.width]
    }
    #[inline(always)]
    pub fn scales(&self, token: usize) -> &'a [f32] {
        each(self.scales, self.tokens(), token)
    }
    #[inline(always)]
    pub fn halves(&self, token: usize) -> &'a [[i32; 2]] {
        each(self.halves, self.tokens(), token)
    }
    #[inline(always)]
    pub fn sums(&self, token: usize) -> &'a [f32] {
        each(self.sums, self.tokens(), token)
    }
}

#[inline(always)]
fn each<T>(all: &[T], tokens: usize, token: usize) -> &[T] {
    let each = all.len() / tokens;
    &all[token * each..][..each]
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

    /// Writes the products of a token with the rows from `row` on.
    #[inline(always)]
    pub fn put(&mut self, token: usize, row: usize, values: &[f32]) {
        let at = token * self.stride + row;
        assert!(self.range.start <= row && row + values.len() <= self.range.end && at + values.len() <= self.len);
        // SAFETY: inside the buffer and inside the columns that are ours alone.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.data.add(at), values.len()) }
    }
}
