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
        prefetch_rows(simd, w, ROWS);
        for row in w.range.clone().step_by(ROWS) {
            let rows = ROWS.min(w.range.end - row);
            round_rows::<S, W, PAIRS>(simd, w, row, rows, strip);
            let mut token = 0;
            while S::WIDE && token + TOKENS <= x.tokens {
                tile::<S, PAIRS, TOKENS>(simd, strip, x, token, row, rows, out);
                token += TOKENS;
            }
            while token < x.tokens {
                tile::<S, PAIRS, 1>(simd, strip, x, token, row, rows, out);
                token += 1;
            }
        }
    }
}

/// Rounds rows from `row` on to a strip, with zeros after their columns. Rows of the strip beyond them have any content.
#[inline(always)]
fn round_rows<S: Simd, W: Weights, const PAIRS: bool>(simd: S, w: &Rows, row: usize, rows: usize, strip: &mut [Strip]) {
    // The rows after these in memory.
    let ahead = w.row(row).as_ptr().wrapping_add(rows * w.stride + AHEAD);
    for r in 0..rows {
        let (bytes, rest) = w.row(row + r)[..2 * w.cols].as_chunks();
        for (i, (bytes, strip)) in bytes.iter().zip(&mut *strip).enumerate() {
            simd.prefetch_l2(ahead.wrapping_add(r * w.stride + i * BYTES));
            simd.store(W::round::<S, PAIRS>(simd, bytes), &mut strip[r].0);
        }
        if !rest.is_empty() {
            let mut padded = [0; BYTES];
            padded[..rest.len()].copy_from_slice(rest);
            simd.store(W::round::<S, PAIRS>(simd, &padded), &mut strip[bytes.len()][r].0);
        }
    }
}

/// Multiplies a strip of rows by `T` tokens.
#[inline(always)]
fn tile<S: Simd, const PAIRS: bool, const T: usize>(
    simd: S,
    strip: &[Strip],
    x: &Bf16Activations,
    token: usize,
    row: usize,
    rows: usize,
    out: &mut Out,
) {
    let inputs: [&[CacheLine]; T] = std::array::from_fn(|t| &x.lines[(token + t) * x.width..][..strip.len()]);
    let mut sums = [[simd.splat(0.0); ROWS]; T];
    for (i, strip) in strip.iter().enumerate() {
        if PAIRS {
            let mut w = [simd.splat(0.0); ROWS];
            for r in 0..ROWS {
                w[r] = simd.load(&strip[r].0);
            }
            for t in 0..T {
                let x = simd.load(&inputs[t][i].0);
                for r in 0..ROWS {
                    sums[t][r] = simd.dot_bf16(w[r], x, sums[t][r]);
                }
            }
        } else {
            for half in [1, 0] {
                let mut x = [simd.splat(0.0); T];
                for t in 0..T {
                    x[t] = simd.unpack_bf16(simd.load(&inputs[t][i].0))[half];
                }
                for r in 0..ROWS {
                    let w = simd.unpack_bf16(simd.load(&strip[r].0))[half];
                    for t in 0..T {
                        sums[t][r] = simd.fma(w, x[t], sums[t][r]);
                    }
                }
            }
        }
    }
    for t in 0..T {
        let mut dots = [0.0; ROWS];
        for r in 0..ROWS {
            dots[r] = simd.reduce_sum(sums[t][r]);
        }
        out.write(token + t + x.first, row, &dots[..rows]);
    }
}
