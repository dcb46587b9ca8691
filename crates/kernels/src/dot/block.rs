//! What a block format is to the product loop: how its rows are read, unpacked, and multiplied.
//!
//! 16 rows at a time are unpacked, a format's own work, to groups of 32 columns in which a
//! vector holds 4 columns of every row.

use crate::simd::{BYTES, LANES, Simd};

/// Groups in a block of 256 weights, vectors in a group, and running sums.
pub(crate) const GROUPS: usize = 8;

/// 32 columns of 16 rows: `w[row][col] = scale[row] * (code[row][col] - ZERO) + min[row]`, where both halves may have
/// scales and minima of their own.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Group {
    pub scales: Scales,
    /// Four columns of every row in each vector.
    pub codes: [[u8; BYTES]; GROUPS],
}

impl Group {
    pub const EMPTY: Group = Group { scales: Scales::EMPTY, codes: [[0; BYTES]; GROUPS] };
}

/// Scales and minima of a group, one of each per row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Scales {
    pub scale: [f32; LANES],
    /// Of all columns in the first, or of the first and of the last 16 columns.
    pub min: [[f32; LANES]; 2],
    /// Further scales of the first and of the last 16 columns.
    pub halves: [[f32; LANES]; 2],
}

impl Scales {
    pub const EMPTY: Scales = Scales { scale: [0.0; LANES], min: [[0.0; LANES]; 2], halves: [[0.0; LANES]; 2] };
}

/// A block format: how it is unpacked.
pub(crate) trait BlockFormat {
    /// Groups of 32 weights per block.
    const GROUPS: usize;
    const BYTES: usize;
    /// The code that stands for zero, when codes are unsigned.
    const ZERO: i32 = 0;
    /// How groups are multiplied.
    type Kind: GroupKind;
    /// Where the bytes at `at` in a row's block are in an interleaved panel's block, in units of 16 bytes: the order
    /// of use, so that the CPU's prefetcher follows.
    #[inline(always)]
    fn interleaved_at(at: usize) -> usize {
        at
    }
    /// Unpacks one block of each of 16 rows.
    fn unpack<S: Simd>(simd: S, blocks: impl BlockRows, sink: &mut impl GroupSink<S>);
}

/// How the groups of a format are multiplied: the same code for all formats of a kind.
pub(crate) trait GroupKind {
    /// Codes are signed, and biased for [`dot_biased`](crate::simd::SimdI32::dot_biased).
    const SIGNED: bool = false;
    /// Weights have a minimum beside their scale; with [`GroupKind::HALVES`] each half has one.
    const MIN: bool = false;
    /// A further scale for each half.
    const HALVES: bool = false;
}

pub(crate) struct Unsigned;
impl GroupKind for Unsigned {}

pub(crate) struct Signed;
impl GroupKind for Signed {
    const SIGNED: bool = true;
}

pub(crate) struct Minimum;
impl GroupKind for Minimum {
    const MIN: bool = true;
}

pub(crate) struct Halves;
impl GroupKind for Halves {
    const HALVES: bool = true;
}

pub(crate) struct Minima;
impl GroupKind for Minima {
    const MIN: bool = true;
    const HALVES: bool = true;
}

/// Receives the groups of a block as it is unpacked.
pub(crate) trait GroupSink<S: Simd> {
    /// Where the scales of group `n` go, before any codes do.
    fn scales(&mut self, n: usize) -> &mut Scales;
    /// Takes the codes of group `n`, four columns of every row in each vector.
    fn codes(&mut self, simd: S, n: usize, codes: [S::B; GROUPS]);
}

/// One block of each of 16 rows. `at` is a position in a row's block.
pub(crate) trait BlockRows: Copy {
    /// Whether the blocks are read in the order of memory, which the CPU's prefetcher follows.
    const SEQUENTIAL: bool;
    /// Block `n`, counted from this one, which is the first.
    ///
    /// # Safety
    /// The rows have such a block.
    unsafe fn block<W: BlockFormat>(self, n: usize) -> Self;
    /// 32 bytes of each row as columns of 4 bytes.
    fn columns<S: Simd>(self, simd: S, at: usize) -> [S::B; 8];
    /// 16 bytes of each row as columns of 4 bytes.
    fn quarters<S: Simd>(self, simd: S, at: usize) -> [S::B; 4];
    /// A half-precision number of each row.
    fn halves<S: Simd>(self, simd: S, at: usize) -> S::F;
    /// A single byte of each row.
    fn scalar(self, at: usize) -> [u8; LANES];
}
