//! Activations as bytes: absmax scaling per token, as BitNet b1.58 defines it, or per 32 columns, for block formats.

use crate::dot::{Column, GROUP, float::padded};
use crate::simd::{LANES, Simd};

/// How the scale of some bytes is found.
#[derive(Clone, Copy)]
enum Scale {
    /// The largest `|x|` over 127, as BitNet b1.58 defines it; the largest counts as 1e-5 at least, as in its reference code.
    Token,
    /// The bytes are those of the largest `|x|`, the scale is the best for them: `Σ x·q / Σ q·q`. Of 32 numbers that takes away a
    /// thirty-second of the squared error.
    Block,
}

/// Numbers no larger than this count as zero: their inverse is not finite.
const LEAST: f32 = 1e-30;

/// A token's activations as bytes with one scale, which is returned.
#[inline(always)]
pub(crate) fn token<S: Simd>(simd: S, x: &[f32], q: &mut [i8]) -> f32 {
    quantize(simd, x, Scale::Token, q)
}

/// Some groups of 32 columns of some tokens, `[groups, tokens]`; `x` starts at the first of them and has `cols` numbers for each token.
/// Token by token, since that is how `x` lies.
#[inline(always)]
pub(crate) fn columns<S: Simd>(simd: S, x: &[f32], cols: usize, tokens: usize, out: &mut [Column]) {
    let groups = out.len() / tokens;
    for (token, x) in x.chunks(cols).take(tokens).enumerate() {
        for (group, x) in x.as_chunks::<GROUP>().0[..groups].iter().enumerate() {
            let out = &mut out[group * tokens + token];
            out.scale = quantize(simd, x, Scale::Block, &mut out.q);
            out.add_up(simd);
        }
    }
}

/// `q = round(x * 127 / m)` with `m` the largest `|x|`; returns the scale for which `x ≈ q * scale`. It is NaN where any `x` is not finite,
/// so that the error shows in every product instead of vanishing in a byte.
#[inline(always)]
fn quantize<S: Simd>(simd: S, x: &[f32], kind: Scale, q: &mut [i8]) -> f32 {
    let (mut most, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    for x in x.chunks(LANES) {
        let x = if x.len() == LANES { simd.load(x) } else { padded(simd, x) };
        most = simd.max(most, simd.abs(x));
        poison = simd.fma(x, simd.splat(0.0), poison);
    }
    let least = if let Scale::Token = kind { 1e-5 } else { 0.0 };
    let largest = simd.largest(most);
    let most = if largest > least { largest } else { least };
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
