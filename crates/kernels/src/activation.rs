//! Activations as bytes: absmax scaling per token, as BitNet b1.58 defines it, or per 32 columns, for block formats.

use crate::dot::float::padded;
use crate::simd::{LANES, Simd};

/// `q = round(x * 127 / m)` with `m` the largest `|x|`, but at least `least`; returns the scale `m / 127`, so that `x ≈ q * scale`.
/// A scale of NaN where any `x` is not finite, so that the error shows in every product instead of vanishing in a byte.
#[inline(always)]
pub(crate) fn quantize<S: Simd>(simd: S, x: &[f32], least: f32, q: &mut [i8]) -> f32 {
    let (mut most, mut poison) = (simd.splat(least), simd.splat(0.0));
    for x in x.chunks(LANES) {
        let x = if x.len() == LANES { simd.load(x) } else { padded(simd, x) };
        most = simd.max(most, simd.abs(x));
        poison = simd.fma(x, simd.splat(0.0), poison);
    }
    let mut lanes = [0.0; LANES];
    simd.store(most, &mut lanes);
    let most = lanes.into_iter().fold(least, f32::max);
    let inverse = simd.splat(if most > 0.0 { 127.0 / most } else { 0.0 });
    for (x, q) in x.chunks(LANES).zip(q.chunks_mut(LANES)) {
        if x.len() == LANES {
            simd.store_i8(simd.round(simd.mul(simd.load(x), inverse)), q);
        } else {
            let mut all = [0; LANES];
            simd.store_i8(simd.round(simd.mul(padded(simd, x), inverse)), &mut all);
            q.copy_from_slice(&all[..x.len()]);
        }
    }
    most / 127.0 + simd.sum(poison)
}

/// Sum of 32 bytes.
#[inline(always)]
pub(crate) fn block_sum<S: Simd>(simd: S, q: &[i8]) -> i32 {
    simd.sum_all(simd.dot(simd.zero(), simd.splat8(1), simd.signed(q)))
}
