//! Quantizes activations to bytes: absmax scaling per token, as BitNet b1.58 defines it, or per
//! 32 columns, for block formats. And to bfloat16. Encodes weights.

use crate::activations::{ActivationBlock, GROUP};
use crate::cache_line::CacheLine;
use crate::math::{load_padded, load_tail};
use crate::simd::{LANES, Simd};
use trine_tensor::{Format, IntegerScheme, format};

/// How the scale is chosen.
#[derive(Clone, Copy)]
enum Scale {
    /// The largest `|x|` over 127, as BitNet b1.58 defines it; the largest counts as 1e-5 at
    /// least, as in its reference code.
    Token,
    /// The bytes are those for the largest `|x|`; the scale then minimizes the squared error: `Σ x·q / Σ q·q`,
    /// about 3 % less for 32 numbers.
    Block,
}

/// Numbers no larger than this count as zero: their inverse is not finite.
const MIN_ABSMAX: f32 = 1e-30;

/// A token's activations as bytes with one scale, which is returned.
#[inline(always)]
pub(crate) fn token<S: Simd>(simd: S, x: &[f32], q: &mut [i8]) -> f32 {
    quantize(simd, x, Scale::Token, q)
}

/// Blocks of 32 columns of some tokens, `[groups, tokens]`; `x` starts at the first block of the first token, and
/// tokens are `cols` apart. Token by token, the order of `x` in memory.
#[inline(always)]
pub(crate) fn blocks<S: Simd>(simd: S, x: &[f32], cols: usize, tokens: usize, out: &mut [ActivationBlock]) {
    let groups = out.len() / tokens;
    for (token, x) in x.chunks(cols).take(tokens).enumerate() {
        for (group, x) in x.as_chunks::<GROUP>().0[..groups].iter().enumerate() {
            let out = &mut out[group * tokens + token];
            out.scale = quantize(simd, x, Scale::Block, &mut out.q);
            set_sums(simd, out);
        }
    }
}

/// Computes the sums of a block from its bytes and its scale.
#[inline(always)]
pub(crate) fn set_sums<S: Simd>(simd: S, block: &mut ActivationBlock) {
    let zeros = &[0; GROUP / 2];
    let [low, high]: &[[u8; GROUP / 2]; 2] = bytemuck::cast_ref(&block.q);
    let (low, high) = (simd.load_quarters([low, zeros, zeros, zeros]), simd.load_quarters([high, zeros, zeros, zeros]));
    let ones = simd.splat_u8(1);
    let sums = [simd.dot(simd.zero_i32(), ones, low), simd.dot(simd.zero_i32(), ones, high)];
    let [low, high, ..] = simd.reduce_sums([sums[0], sums[1], simd.zero_i32(), simd.zero_i32()]);
    block.halves = [low, high];
    block.sum = block.scale * (low + high) as f32;
}

/// `q = round(x * 127 / m)` with `m` the largest `|x|`; returns the scale for which `x ≈ q * scale`. The scale is NaN
/// if any `x` is not finite, so that the error reaches every product instead of vanishing in a byte.
#[inline(always)]
fn quantize<S: Simd>(simd: S, x: &[f32], kind: Scale, q: &mut [i8]) -> f32 {
    let (mut most, mut poison) = (simd.splat(0.0), simd.splat(0.0));
    for x in x.chunks(LANES) {
        let x = if x.len() == LANES { simd.load(x) } else { load_padded(simd, x) };
        most = simd.max(most, simd.abs(x));
        poison = simd.fma(x, simd.splat(0.0), poison);
    }
    let least = if let Scale::Token = kind { 1e-5 } else { 0.0 };
    let largest = simd.reduce_max(most);
    let most = if largest > least { largest } else { least };
    let inverse = simd.splat(if most > MIN_ABSMAX { 127.0 / most } else { 0.0 });
    let (mut xq, mut qq) = (simd.splat(0.0), simd.splat(0.0));
    for (x, q) in x.chunks(LANES).zip(q.chunks_mut(LANES)) {
        let x = if x.len() == LANES { simd.load(x) } else { load_padded(simd, x) };
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
    let poison = simd.reduce_sum(poison);
    match kind {
        Scale::Token => most / 127.0 + poison,
        Scale::Block if most > MIN_ABSMAX => simd.reduce_sum(xq) / simd.reduce_sum(qq) + poison,
        Scale::Block => poison,
    }
}

/// Rounds to bfloat16, and numbers below [`SMALLEST_BF16`](crate::simd::SMALLEST_BF16) to zero. Zeros follow `x` to the end of the last line.
#[inline(always)]
pub(crate) fn bf16<S: Simd>(simd: S, x: &[f32], out: &mut [CacheLine]) {
    for (x, out) in x.chunks(2 * LANES).zip(out) {
        let (low, high) = x.split_at(x.len().min(LANES));
        simd.store(simd.flush_bf16(simd.pack_bf16([load_tail(simd, low), load_tail(simd, high)])), &mut out.0);
    }
}

/// What `encode` of [`Format`] does.
#[inline(always)]
pub(crate) fn encode<S: Simd>(_: S, format: &Format, weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    if S::EXTRA { format::encode(format, weights, importance, out) } else { (format.encode)(weights, importance, out) }
}

/// What `encode` of [`IntegerScheme`] does.
#[inline(always)]
pub(crate) fn integers<S: Simd>(_: S, scheme: IntegerScheme, weights: &[f32], codes: &mut [i8]) -> (f32, i8) {
    scheme.encode(weights, codes)
}
