//! Blocks of 16 rows, row by row as files store them, or interleaved.

use super::block::{BlockFormat, BlockRows};
use crate::simd::{BYTES, LANES, Simd};

/// Rows one after the other.
#[derive(Clone, Copy)]
pub(crate) struct RowMajor<'a> {
    rows: &'a [*const u8; LANES],
    /// Where the block starts in each row, and its length.
    offset: usize,
    bytes: usize,
}

impl<'a> RowMajor<'a> {
    pub fn new(rows: &'a [*const u8; LANES]) -> RowMajor<'a> {
        RowMajor { rows, offset: 0, bytes: 0 }
    }

    /// `N` bytes of a row's block.
    #[inline(always)]
    fn get<const N: usize>(self, row: usize, at: usize) -> &'a [u8; N] {
        // Known to the compiler, unlike that a row is long enough.
        assert!(at + N <= self.bytes);
        // SAFETY: inside the block.
        unsafe { &*self.rows[row].add(self.offset + at).cast() }
    }
}

// Loops and not closures below: a closure would not always be inlined where the CPU's features are known.
impl BlockRows for RowMajor<'_> {
    const SEQUENTIAL: bool = false;
    #[inline(always)]
    unsafe fn block<W: BlockFormat>(self, n: usize) -> Self {
        RowMajor { offset: n * W::BYTES, bytes: W::BYTES, ..self }
    }
    #[inline(always)]
    fn columns<S: Simd>(self, simd: S, at: usize) -> [S::B; 8] {
        let mut pairs = [simd.splat_u8(0); 8];
        for j in 0..8 {
            pairs[j] = simd.load_halves(self.get(j, at), self.get(j + 8, at));
        }
        simd.transpose8(pairs)
    }
    #[inline(always)]
    fn quarters<S: Simd>(self, simd: S, at: usize) -> [S::B; 4] {
        let mut quads = [simd.splat_u8(0); 4];
        for j in 0..4 {
            let (a, b) = (self.get(j, at), self.get(j + 4, at));
            quads[j] = simd.load_quarters([a, b, self.get(j + 8, at), self.get(j + 12, at)]);
        }
        simd.transpose4(quads)
    }
    #[inline(always)]
    fn halves<S: Simd>(self, simd: S, at: usize) -> S::F {
        let mut bytes = [[0; 2]; LANES];
        for row in 0..LANES {
            bytes[row] = *self.get(row, at);
        }
        simd.load_f16(bytes.as_flattened())
    }
    #[inline(always)]
    fn scalar(self, at: usize) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        for row in 0..LANES {
            [bytes[row]] = *self.get(row, at);
        }
        bytes
    }
}

/// A panel of interleaved rows.
#[derive(Clone, Copy)]
pub(crate) struct Interleaved<'a> {
    panel: &'a [u8],
    bytes: usize,
    offset: fn(usize) -> usize,
}

impl<'a> Interleaved<'a> {
    pub fn new(panel: &'a [u8]) -> Interleaved<'a> {
        Interleaved { panel, bytes: 0, offset: |at| at }
    }

    /// The bytes of all rows from `at` on, `N` in total.
    #[inline(always)]
    fn get<const N: usize>(self, at: usize) -> &'a [u8; N] {
        self.take(LANES * (self.offset)(at))
    }

    /// `N` bytes of the panel's block.
    #[inline(always)]
    fn take<const N: usize>(self, at: usize) -> &'a [u8; N] {
        // Known to the compiler, unlike that the panel is long enough.
        assert!(at + N <= LANES * self.bytes);
        // SAFETY: inside the block.
        unsafe { &*self.panel.as_ptr().add(at).cast() }
    }

    /// Vectors with 4 bytes of each row.
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(self, simd: S, at: usize) -> [S::B; N] {
        let mut columns = [simd.splat_u8(0); N];
        for k in 0..N {
            columns[k] = simd.load_bytes(self.get::<BYTES>(at + 4 * k));
        }
        columns
    }
}

impl BlockRows for Interleaved<'_> {
    const SEQUENTIAL: bool = true;
    #[inline(always)]
    unsafe fn block<W: BlockFormat>(self, n: usize) -> Self {
        let (at, len) = (LANES * n * W::BYTES, LANES * W::BYTES);
        debug_assert!(at + len <= self.panel.len());
        // SAFETY: the caller guarantees that the block is there.
        Interleaved {
            panel: unsafe { self.panel.get_unchecked(at..at + len) },
            bytes: W::BYTES,
            offset: W::interleaved_at,
        }
    }
    #[inline(always)]
    fn columns<S: Simd>(self, simd: S, at: usize) -> [S::B; 8] {
        self.vectors(simd, at)
    }
    #[inline(always)]
    fn quarters<S: Simd>(self, simd: S, at: usize) -> [S::B; 4] {
        self.vectors(simd, at)
    }
    #[inline(always)]
    fn halves<S: Simd>(self, simd: S, at: usize) -> S::F {
        simd.load_f16(self.get::<{ 2 * LANES }>(at))
    }
    #[inline(always)]
    fn scalar(self, at: usize) -> [u8; LANES] {
        *self.get(at)
    }
}
