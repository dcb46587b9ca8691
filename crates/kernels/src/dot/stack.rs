//! Blocks of 16 rows, as files have them or interleaved.
//!
//! Interleaved, a panel of 16 rows is, block by block, what a vector is to hold: the same 4 bytes of every row, then the next 4. The rows'
//! half-precision numbers that stand alone lie together in the same way. So what a row's block has at `at`, the panel's has at `16 * at`, a
//! panel takes the bytes that it took, and no row behind the last whole panel is touched.

use super::block::Blocks;
use crate::simd::{BYTES, LANES, Simd};
use trine_tensor::Format;

/// One block of each of 16 rows.
pub(crate) trait Stack: Copy {
    /// Whether it is read as it lies, without leaps, which a CPU foresees.
    const ONE_STREAM: bool;
    /// Block `n` of rows whose blocks have `bytes` bytes, of this one, which is the first.
    ///
    /// # Safety
    /// The rows have such a block.
    unsafe fn block<W: Blocks>(self, n: usize) -> Self;
    /// 32 bytes of each row as columns of 4 bytes.
    fn columns<S: Simd>(self, simd: S, at: usize) -> [S::B; 8];
    /// 16 bytes of each row as columns of 4 bytes.
    fn quarters<S: Simd>(self, simd: S, at: usize) -> [S::B; 4];
    /// The half-precision number of each row.
    fn halves<S: Simd>(self, simd: S, at: usize) -> S::F;
    /// The byte of each row that stands alone.
    fn lone(self, at: usize) -> [u8; LANES];
}

/// Rows one behind the other.
#[derive(Clone, Copy)]
pub(crate) struct Apart<'a> {
    rows: &'a [*const u8; LANES],
    /// Where the blocks begin, and their length.
    offset: usize,
    bytes: usize,
}

impl<'a> Apart<'a> {
    pub fn new(rows: &'a [*const u8; LANES]) -> Apart<'a> {
        Apart { rows, offset: 0, bytes: 0 }
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
impl Stack for Apart<'_> {
    const ONE_STREAM: bool = false;
    #[inline(always)]
    unsafe fn block<W: Blocks>(self, n: usize) -> Self {
        Apart { offset: n * W::BYTES, bytes: W::BYTES, ..self }
    }
    #[inline(always)]
    fn columns<S: Simd>(self, simd: S, at: usize) -> [S::B; 8] {
        let mut pairs = [simd.splat8(0); 8];
        for j in 0..8 {
            pairs[j] = simd.pair(self.get(j, at), self.get(j + 8, at));
        }
        simd.transpose8(pairs)
    }
    #[inline(always)]
    fn quarters<S: Simd>(self, simd: S, at: usize) -> [S::B; 4] {
        let mut quads = [simd.splat8(0); 4];
        for j in 0..4 {
            let (a, b) = (self.get(j, at), self.get(j + 4, at));
            quads[j] = simd.quad([a, b, self.get(j + 8, at), self.get(j + 12, at)]);
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
    fn lone(self, at: usize) -> [u8; LANES] {
        let mut bytes = [0; LANES];
        for row in 0..LANES {
            [bytes[row]] = *self.get(row, at);
        }
        bytes
    }
}

/// Rows interleaved.
#[derive(Clone, Copy)]
pub(crate) struct Interleaved<'a> {
    panel: &'a [u8],
    bytes: usize,
    place: Place,
}

impl<'a> Interleaved<'a> {
    pub fn new(panel: &'a [u8]) -> Interleaved<'a> {
        Interleaved { panel, bytes: 0, place: |at| at }
    }

    /// What all rows have from `at` on.
    #[inline(always)]
    fn get<const N: usize>(self, at: usize) -> &'a [u8; N] {
        self.take(LANES * (self.place)(at))
    }

    /// `N` bytes of the panel's block.
    #[inline(always)]
    fn take<const N: usize>(self, at: usize) -> &'a [u8; N] {
        // Known to the compiler, unlike that the panel is long enough.
        assert!(at + N <= LANES * self.bytes);
        // SAFETY: inside the block.
        unsafe { &*self.panel.as_ptr().add(at).cast() }
    }

    /// Columns of 4 bytes.
    #[inline(always)]
    fn vectors<S: Simd, const N: usize>(self, simd: S, at: usize) -> [S::B; N] {
        let mut columns = [simd.splat8(0); N];
        for k in 0..N {
            columns[k] = simd.bytes(self.get::<BYTES>(at + 4 * k));
        }
        columns
    }
}

impl Stack for Interleaved<'_> {
    const ONE_STREAM: bool = true;
    #[inline(always)]
    unsafe fn block<W: Blocks>(self, n: usize) -> Self {
        let (at, len) = (LANES * n * W::BYTES, LANES * W::BYTES);
        debug_assert!(at + len <= self.panel.len());
        // SAFETY: the caller's promise.
        Interleaved { panel: unsafe { self.panel.get_unchecked(at..at + len) }, bytes: W::BYTES, place: W::place }
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
    fn lone(self, at: usize) -> [u8; LANES] {
        *self.get(at)
    }
}

/// Where what a row's block has at `at` goes in an interleaved panel's block, in 16ths.
pub(crate) type Place = fn(usize) -> usize;

/// Calls `each(at, len)` for the parts of a block that stay together when rows are interleaved: 4 bytes, or the 1 or 2 of a lone number.
#[inline(always)]
fn parts(format: &Format, mut each: impl FnMut(usize, usize)) {
    let lone = format.bytes % 4;
    let place = place(format);
    // The lone number is where the panel's block begins.
    let mut at = 0;
    while at < format.bytes {
        let len = if lone > 0 && place(at) == 0 { lone } else { 4 };
        each(at, len);
        at += len;
    }
}

/// 16 rows interleaved.
pub(crate) fn interleave(format: &Format, rows: &[u8], out: &mut [u8]) {
    let (bytes, stride, place) = (format.bytes, rows.len() / LANES, place(format));
    for (n, out) in out.chunks_exact_mut(LANES * bytes).enumerate() {
        parts(format, |at, len| {
            let out = &mut out[LANES * place(at)..][..LANES * len];
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

/// Row `row` of an interleaved panel, as it was.
pub(crate) fn pick(format: &Format, panel: &[u8], row: usize, out: &mut [u8]) {
    let (bytes, place) = (format.bytes, place(format));
    for (out, panel) in out.chunks_exact_mut(bytes).zip(panel.chunks_exact(LANES * bytes)) {
        parts(format, |at, len| out[at..at + len].copy_from_slice(&panel[LANES * place(at) + row * len..][..len]));
    }
}

fn place(format: &Format) -> Place {
    match format.name {
        "Q3_K" => <super::unpack::Q3_K as super::block::Blocks>::place,
        "Q6_K" => <super::unpack::Q6_K as super::block::Blocks>::place,
        _ => |at| at,
    }
}
