//! Products with weights and activations that are rounded to bfloat16: F16 and BF16.
//!
//! Numbers below [`SMALLEST_BF16`](crate::simd::SMALLEST_BF16) are rounded to zero, so products of two others are multiples of 2^-126, as are
//! all sums of them: none is subnormal. Instructions for pairs of bfloat16, which take subnormal numbers for zero, then do what two fused
//! multiply-adds do, the odd column first.

use super::{AHEAD, prefetch_rows};
use crate::activations::Bf16Activations;
use crate::cache_line::CacheLine;
use crate::matrix::{Out, Rows};
use crate::simd::{BYTES, Job, Simd};
use std::marker::PhantomData;
use std::ops::Range;

/// Rows that are rounded and multiplied together.
pub(crate) const ROWS: usize = 6;
/// Tokens of a tile where registers are many: with [`ROWS`] rows, its sums, the rows and an input fill 31.
const TOKENS: usize = 4;

/// 32 columns of some rows.
pub(crate) type Strip = [CacheLine; ROWS];

/// A float format: how 32 weights are rounded to bfloat16.
pub(crate) trait Weights {
    /// By an instruction for it, if `PAIRS`.
    fn round<S: Simd, const PAIRS: bool>(simd: S, bytes: &[u8; BYTES]) -> S::F;
}

pub(crate) struct F16;
pub(crate) struct Bf16;

impl Weights for F16 {
    #[inline(always)]
    fn round<S: Simd, const PAIRS: bool>(simd: S, bytes: &[u8; BYTES]) -> S::F {
        // Half precision has no number below 2^-24 but zero.
        let floats = [simd.load_f16(bytes), simd.load_f16(&bytes[BYTES / 2..])];
        if PAIRS { simd.convert_bf16(floats) } else { simd.pack_bf16(floats) }
    }
}

impl Weights for Bf16 {
    #[inline(always)]
    fn round<S: Simd, const PAIRS: bool>(simd: S, bytes: &[u8; BYTES]) -> S::F {
        simd.flush_bf16(simd.load_f32(bytes))
    }
}

/// `strip` has room for all columns.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Weights>(simd: S, w: &Rows, x: &Bf16Activations, strip: &mut [Strip], out: &mut Out) {
    let job = Product::<W, false> { w, x, strip, out, format: PhantomData };
    if simd.has_dot_bf16() {
        simd.call_bf16(Product::<W, true> { w, x, strip: job.strip, out: job.out, format: PhantomData });
    } else {
        job.run(simd);
    }
}

/// A product by the instruction for pairs, if `PAIRS`, or by two multiply-adds.
pub(crate) struct Product<'a, 'b, W, const PAIRS: bool> {
    pub w: &'a Rows<'a>,
    pub x: &'a Bf16Activations<'a>,
    pub strip: &'a mut [Strip],
    pub out: &'a mut Out<'b>,
    pub format: PhantomData<W>,
}

impl<W: Weights, const PAIRS: bool> Job for Product<'_, '_, W, PAIRS> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Product { w, x, strip, out, .. } = self;
        let strip = &mut strip[..x.width];
        let most = if S::WIDE { TOKENS } else { 1 };
        let tiles = x.tokens.div_ceil(most);
        prefetch_rows(simd, w, ROWS);
        for row in w.range.clone().step_by(ROWS) {
            let rows = row..w.range.end.min(row + ROWS);
            // The rows after these in memory come in evenly, a share of them in each of some phases.
            let ahead = |phases: Range<usize>, of: usize| {
                let at = w.row(row).as_ptr().wrapping_add(rows.len() * w.stride + AHEAD);
                Ahead { at, stride: w.stride, rows: ROWS * phases.start / of..ROWS * phases.end / of }
            };
            if tiles == 1 {
                let weights = Rounded::<W, PAIRS>::new(simd, w, rows.clone());
                products::<S, PAIRS>(simd, &weights, x, 0..x.tokens, rows.clone(), ahead(0..1, 1), out);
                continue;
            }
            // Rounding takes about as long as three tiles.
            round_rows::<S, W, PAIRS>(simd, w, rows.clone(), ahead(0..3, 3 + tiles), strip);
            for tile in 0..tiles {
                let tokens = tile * most..x.tokens.min((tile + 1) * most);
                let ahead = ahead(3 + tile..4 + tile, 3 + tiles);
                products::<S, PAIRS>(simd, &&*strip, x, tokens, rows.clone(), ahead, out);
            }
        }
    }
}

/// Rows to prefetch.
struct Ahead {
    /// Row 0.
    at: *const u8,
    stride: usize,
    rows: Range<usize>,
}

impl Ahead {
    /// Prefetches vector `i` of each.
    #[inline(always)]
    fn prefetch<S: Simd>(&self, simd: S, i: usize) {
        for r in self.rows.clone() {
            simd.prefetch_l2(self.at.wrapping_add(r * self.stride + i * BYTES));
        }
    }
}

/// [`ROWS`] rows of weights as bfloat16, with zeros after their columns. There may be fewer: the others have any content.
trait Source {
    /// Columns `32 i..32 i + 32` of row `r`.
    fn load<S: Simd>(&self, simd: S, i: usize, r: usize) -> S::F;
}

/// Rounded before.
impl Source for &[Strip] {
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, i: usize, r: usize) -> S::F {
        simd.load(&self[i][r].0)
    }
}

/// Rounded when they are loaded.
struct Rounded<'a, W, const PAIRS: bool> {
    rows: [&'a [[u8; BYTES]]; ROWS],
    /// What is less than a vector.
    rest: Strip,
    format: PhantomData<W>,
}

impl<'a, W: Weights, const PAIRS: bool> Rounded<'a, W, PAIRS> {
    #[inline(always)]
    fn new<S: Simd>(simd: S, w: &Rows<'a>, rows: Range<usize>) -> Self {
        let mut all = Rounded { rows: [&[][..]; ROWS], rest: [CacheLine::ZERO; ROWS], format: PhantomData };
        for r in 0..ROWS {
            let (whole, rest) = w.row(rows.end.min(rows.start + r + 1) - 1)[..2 * w.cols].as_chunks();
            let mut padded = [0; BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            all.rows[r] = whole;
            simd.store(W::round::<S, PAIRS>(simd, &padded), &mut all.rest[r].0);
        }
        all
    }
}

impl<W: Weights, const PAIRS: bool> Source for Rounded<'_, W, PAIRS> {
    #[inline(always)]
    fn load<S: Simd>(&self, simd: S, i: usize, r: usize) -> S::F {
        match self.rows[r].get(i) {
            Some(bytes) => W::round::<S, PAIRS>(simd, bytes),
            None => simd.load(&self.rest[r].0),
        }
    }
}

/// Rounds rows to a strip.
#[inline(always)]
fn round_rows<S: Simd, W: Weights, const PAIRS: bool>(
    simd: S,
    w: &Rows,
    rows: Range<usize>,
    ahead: Ahead,
    strip: &mut [Strip],
) {
    let weights = Rounded::<W, PAIRS>::new(simd, w, rows.clone());
    for r in 0..rows.len() {
        let ahead = Ahead { rows: if ahead.rows.contains(&r) { r..r + 1 } else { 0..0 }, ..ahead };
        for (i, strip) in strip.iter_mut().enumerate() {
            ahead.prefetch(simd, i);
            simd.store(weights.load(simd, i, r), &mut strip[r].0);
        }
    }
}

/// Multiplies rows by a tile of tokens.
#[inline(always)]
fn products<S: Simd, const PAIRS: bool>(
    simd: S,
    weights: &impl Source,
    x: &Bf16Activations,
    tokens: Range<usize>,
    rows: Range<usize>,
    ahead: Ahead,
    out: &mut Out,
) {
    let first = tokens.start;
    let mut write = |t: usize, dots: &[f32; ROWS]| out.write(x.first + first + t, rows.start, &dots[..rows.len()]);
    let inputs = &x.lines[first * x.width..tokens.end * x.width];
    match tokens.len() {
        TOKENS if S::WIDE => tile::<S, PAIRS, TOKENS>(simd, weights, inputs, ahead, &mut write),
        3 if S::WIDE => tile::<S, PAIRS, 3>(simd, weights, inputs, ahead, &mut write),
        2 if S::WIDE => tile::<S, PAIRS, 2>(simd, weights, inputs, ahead, &mut write),
        _ => tile::<S, PAIRS, 1>(simd, weights, inputs, ahead, &mut write),
    }
}

/// The products of rows with `T` tokens.
#[inline(always)]
fn tile<S: Simd, const PAIRS: bool, const T: usize>(
    simd: S,
    weights: &impl Source,
    x: &[CacheLine],
    ahead: Ahead,
    write: &mut impl FnMut(usize, &[f32; ROWS]),
) {
    let width = x.len() / T;
    let inputs: [&[CacheLine]; T] = std::array::from_fn(|t| &x[t * width..][..width]);
    let mut sums = [[simd.splat(0.0); ROWS]; T];
    for i in 0..width {
        ahead.prefetch(simd, i);
        if PAIRS {
            let mut w = [simd.splat(0.0); ROWS];
            for r in 0..ROWS {
                w[r] = weights.load(simd, i, r);
            }
            for t in 0..T {
                let x = simd.load(&inputs[t][i].0);
                for r in 0..ROWS {
                    sums[t][r] = simd.dot_bf16(w[r], x, sums[t][r]);
                }
            }
        } else {
            let mut x = [[simd.splat(0.0); 2]; T];
            for t in 0..T {
                x[t] = simd.unpack_bf16(simd.load(&inputs[t][i].0));
            }
            for r in 0..ROWS {
                let w = simd.unpack_bf16(weights.load(simd, i, r));
                for t in 0..T {
                    sums[t][r] = simd.fma(w[0], x[t][0], simd.fma(w[1], x[t][1], sums[t][r]));
                }
            }
        }
    }
    for t in 0..T {
        let mut dots = [0.0; ROWS];
        for r in 0..ROWS {
            dots[r] = simd.reduce_sum(sums[t][r]);
        }
        write(t, &dots);
    }
}
