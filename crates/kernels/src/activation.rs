//! Activations as bytes: absmax scaling per token, as BitNet b1.58 defines it, or per 32 columns, for block formats.

use crate::dot::{GROUP, float::padded};
use crate::simd::{LANES, Simd};

/// How the scale of some bytes is found.
#[derive(Clone, Copy)]
pub(crate) enum Scale {
    /// The largest `|x|` over 127, as BitNet b1.58 defines it; the largest counts as 1e-5 at least, as in its reference code.
    Token,
    /// For each 32 columns: the bytes are those of the largest `|x|`, the scale is the best for them: `Σ x·q / Σ q·q`. Of 32 numbers that
    /// takes away a thirty-second of the squared error.
    Block,
}

/// Numbers no larger than this count as zero: their inverse is not finite.
const LEAST: f32 = 1e-30;

/// `q = round(x * 127 / m)` with `m` the largest `|x|`; `scales` are those for which `x ≈ q * scale`: one, or one for each 32 columns.
/// A scale of NaN where any `x` is not finite, so that the error shows in every product instead of vanishing in a byte.
#[inline(always)]
pub(crate) fn quantize<S: Simd>(simd: S, x: &[f32], kind: Scale, q: &mut [i8], scales: &mut [f32]) {
    match kind {
        Scale::Token => scales[0] = group(simd, x, kind, q),
        Scale::Block => {
            for ((x, q), scale) in x.chunks_exact(GROUP).zip(q.chunks_exact_mut(GROUP)).zip(scales) {
                *scale = group(simd, x, kind, q);
            }
        }
    }
}

#[inline(always)]
fn group<S: Simd>(simd: S, x: &[f32], kind: Scale, q: &mut [i8]) -> f32 {
    let (mut most, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    for x in x.chunks(LANES) {
        let x = if x.len() == LANES { simd.load(x) } else { padded(simd, x) };
        most = simd.max(most, simd.abs(x));
        poison = simd.fma(x, simd.splat(0.0), poison);
    }
    let mut lanes = [0.0; LANES];
    simd.store(most, &mut lanes);
    let least = if let Scale::Token = kind { 1e-5 } else { 0.0 };
    let most = lanes.into_iter().fold(least, f32::max);
    let inverse = simd.splat(if most > LEAST { 127.0 / most } else { 0.0 });
    let (mut xq, mut qq) = (simd.splat(0.0), simd.splat(0.0));
    for (x, q) in x.chunks(LANES).zip(q.chunks_mut(LANES)) {
        let x = if x.len() == LANES { simd.load(x) } else { padded(simd, x) };
        let rounded = simd.round(simd.mul(x, inverse));
        xq = simd.fma(x, rounded, xq);
        qq = simd.fma(rounded, rounded, qq);
        if q.len() == LANES {
            simd.store_i8(rounded, q);
        } else {
            let mut all = [0; LANES];
            simd.store_i8(rounded, &mut all);
            q.copy_from_slice(&all[..q.len()]);
        }
    }
    let poison = simd.sum(poison);
    match kind {
        Scale::Token => most / 127.0 + poison,
        Scale::Block if most > LEAST => simd.sum(xq) / simd.sum(qq) + poison,
        Scale::Block => poison,
    }
}

/// Sums of each 16 bytes, two by two.
#[inline(always)]
pub(crate) fn sums<S: Simd>(_: S, q: &[i8], halves: &mut [[i32; 2]]) {
    for (q, halves) in q.as_chunks::<GROUP>().0.iter().zip(halves) {
        *halves = [0, GROUP / 2].map(|from| (from..from + GROUP / 2).map(|i| q[i] as i32).sum());
    }
}
