//! Matrix products, one file per family of formats: `out[token][row] = w[row] · x[token]`.
//!
//! The canonical order, which every instruction set and every tile follows, so that a product never depends on its neighbours:
//! - float weights: 16 running sums, lane `i` taking columns `i, i + 16, ...` by fused multiply-add, added in one tree;
//! - block formats: integer sums, exact, over each group of 32 columns (or over both halves of it, which have a further scale each and are
//!   added); times the product of both scales, and then the minimum's part (or that of both halves), they are added by fused multiply-add to 8 running sums, number `i` taking groups `i, i + 8, ...`, added in the same tree;
//! - ternary formats: integer sums, exact, over each run of blocks with one scale; scaled and added by fused multiply-add.

pub(crate) mod block;
pub(crate) mod float;
pub(crate) mod grid;
pub(crate) mod stack;
pub(crate) mod ternary;
pub(crate) mod unpack;

use crate::simd::Simd;
use std::marker::PhantomData;
use std::ops::Range;

/// How many bytes behind the rows that follow those worked on are fetched from memory: what memory delivers while one answer is awaited.
const AHEAD: usize = 2048;

/// Bytes of activations that stay in a core's own cache while all rows of a task pass by: tokens are multiplied so many at a time.
const CACHED: usize = 256 << 10;

/// Columns that share a scale, and a sum, in quantised activations.
pub(crate) const GROUP: usize = 32;

/// Some rows of a weight matrix.
pub(crate) struct Rows<'a> {
    /// `count` rows of `stride` bytes.
    pub bytes: &'a [u8],
    pub stride: usize,
    pub cols: usize,
    /// Whether each 16 rows are [interleaved](stack).
    pub interleaved: bool,
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

/// Fetches the first `count` rows of a task and what is ahead of them: behind these, rows fetch those that follow.
#[inline(always)]
fn begin<S: Simd>(simd: S, w: &Rows, count: usize) {
    let bytes = (count * w.stride + AHEAD).min(w.bytes.len());
    for line in w.bytes[..bytes].chunks(64) {
        simd.prefetch_second(line.as_ptr());
    }
}

/// 32 columns of a token's activations as bytes, `x ≈ q * scale`, with what products with block formats need of them.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct Column {
    /// Never -128.
    pub q: [i8; GROUP],
    pub scale: f32,
    /// `scale` times the sum of the bytes.
    pub sum: f32,
    /// Sums of the two halves.
    pub halves: [i32; 2],
}

impl Column {
    pub const EMPTY: Column = Column { q: [0; GROUP], scale: 0.0, sum: 0.0, halves: [0; 2] };

    /// Sets the sums.
    #[inline(always)]
    pub fn add_up<S: Simd>(&mut self, simd: S) {
        let zeros = &[0; GROUP / 2];
        let [low, high]: &[[u8; GROUP / 2]; 2] = bytemuck::cast_ref(&self.q);
        let (low, high) = (simd.quad([low, zeros, zeros, zeros]), simd.quad([high, zeros, zeros, zeros]));
        let sums = [simd.dot(simd.zero(), simd.splat8(1), low), simd.dot(simd.zero(), simd.splat8(1), high)];
        let [low, high, ..] = simd.sums([sums[0], sums[1], simd.zero(), simd.zero()]);
        self.halves = [low, high];
        self.sum = self.scale * (low + high) as f32;
    }
}

/// Activations with a scale for each 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a> {
    /// `[groups, tokens]`: a tile of tokens finds its part of a group in one piece.
    pub columns: &'a [Column],
    pub tokens: usize,
    /// Where the first of these tokens is among all.
    pub first: usize,
}

impl<'a> Columns<'a> {
    /// Chunks of tokens, each as large as stays in a core's own cache, given so many groups of columns.
    pub fn chunks(tokens: usize, groups: usize) -> impl Iterator<Item = Range<usize>> {
        let most = (2 * CACHED / size_of::<Column>() / groups.max(1)).next_multiple_of(8).max(16);
        (0..tokens).step_by(most).map(move |first| first..tokens.min(first + most))
    }

    /// One of those, of all tokens' columns.
    pub fn chunk(columns: &'a [Column], groups: usize, tokens: Range<usize>) -> Columns<'a> {
        let columns = &columns[tokens.start * groups..tokens.end * groups];
        Columns { columns, tokens: tokens.len(), first: tokens.start }
    }
}

/// Activations with one scale per token.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    /// `[tokens, width]`, never -128. Every token begins at a cache line, since a load across two takes twice the time.
    pub q: &'a [i8],
    /// Bytes of a token: the columns, or more in a format's own order, and some to fill the line.
    pub width: usize,
    pub scales: &'a [f32],
    /// Sum of all bytes of each token.
    pub totals: &'a [i32],
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
