//! Products with weights that are floats: F32, F16, BF16.

use super::{AHEAD, prefetch_rows};
use crate::math::load_padded;
use crate::matrix::{Out, Rows};
use crate::simd::{LANES, Simd};

/// A float format: how 16 weights are widened.
pub(crate) trait Weights {
    const BYTES: usize;
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F;
}

pub(crate) struct F32;
pub(crate) struct F16;
pub(crate) struct Bf16;

impl Weights for F32 {
    const BYTES: usize = 4;
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F {
        simd.load_f32(bytes)
    }
}

impl Weights for F16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F {
        simd.load_f16(bytes)
    }
}

impl Weights for Bf16 {
    const BYTES: usize = 2;
    #[inline(always)]
    fn load<S: Simd>(simd: S, bytes: &[u8]) -> S::F {
        simd.load_bf16(bytes)
    }
}

/// `x` is `[tokens, cols]`.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Weights>(simd: S, w: &Rows, x: &[f32], out: &mut Out) {
    let (cols, end) = (w.cols, w.range.end);
    let tokens = x.len() / cols;
    prefetch_rows(simd, w, 4);
    let mut row = w.range.start;
    while row + 4 <= end {
        let mut token = 0;
        while S::WIDE && token + 4 <= tokens {
            tile::<S, W, 4, 4>(simd, w, row, x, token, out);
            token += 4;
        }
        while token < tokens {
            tile::<S, W, 4, 1>(simd, w, row, x, token, out);
            token += 1;
        }
        row += 4;
    }
    while row < end {
        for token in 0..tokens {
            tile::<S, W, 1, 1>(simd, w, row, x, token, out);
        }
        row += 1;
    }
}

/// `R` rows by `T` tokens at once, so that every load is used several times.
#[inline(always)]
fn tile<S: Simd, W: Weights, const R: usize, const T: usize>(
    simd: S,
    w: &Rows,
    row: usize,
    x: &[f32],
    token: usize,
    out: &mut Out,
) {
    let cols = w.cols;
    let weights: [&[u8]; R] = std::array::from_fn(|r| &w.row(row + r)[..cols * W::BYTES]);
    let inputs: [&[f32]; T] = std::array::from_fn(|t| &x[(token + t) * cols..][..cols]);
    let mut sums = [[simd.splat(0.0); T]; R];
    let whole = cols - cols % LANES;
    // The rows after these in memory; for further tokens all is there.
    let first = weights[0].as_ptr();
    let ahead = if token == 0 { first.wrapping_add(R * w.stride + AHEAD) } else { first };
    for col in (0..whole).step_by(LANES) {
        for line in (0..R * LANES * W::BYTES).step_by(64) {
            simd.prefetch_l2(ahead.wrapping_add(R * col * W::BYTES + line));
        }
        let x: [S::F; T] = std::array::from_fn(|t| simd.load(&inputs[t][col..]));
        for r in 0..R {
            let w = W::load(simd, &weights[r][col * W::BYTES..]);
            for t in 0..T {
                sums[r][t] = simd.fma(w, x[t], sums[r][t]);
            }
        }
    }
    if whole < cols {
        let x: [S::F; T] = std::array::from_fn(|t| load_padded(simd, &inputs[t][whole..]));
        for r in 0..R {
            let mut rest = [0; 4 * LANES];
            let bytes = &weights[r][whole * W::BYTES..];
            rest[..bytes.len()].copy_from_slice(bytes);
            let w = W::load(simd, &rest);
            for t in 0..T {
                sums[r][t] = simd.fma(w, x[t], sums[r][t]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            out.write(token + t, row + r, &[simd.reduce_sum(sums[r][t])]);
        }
    }
}
