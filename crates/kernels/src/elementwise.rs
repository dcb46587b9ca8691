//! What happens to activations between matrix products, row by row.

use crate::dot::float::{dot, padded};
use crate::simd::{LANES, Simd};

/// Activation functions of gated feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)^2`, of BitNet b1.58 2B-4T.
    Relu2,
}

/// A function of two numbers, 16 lanes at a time. A trait and not a closure, so that it is inlined where the CPU's features are known.
trait Map: Copy {
    fn map<S: Simd>(self, simd: S, a: S::F, b: S::F) -> S::F;
}

#[inline(always)]
fn zip<S: Simd>(simd: S, f: impl Map, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert!(a.len() == b.len() && a.len() == out.len());
    let whole = a.len() - a.len() % LANES;
    for i in (0..whole).step_by(LANES) {
        simd.store(f.map(simd, simd.load(&a[i..]), simd.load(&b[i..])), &mut out[i..]);
    }
    if whole < a.len() {
        let mut rest = [0.0; LANES];
        simd.store(f.map(simd, padded(simd, &a[whole..]), padded(simd, &b[whole..])), &mut rest);
        out[whole..].copy_from_slice(&rest[..a.len() - whole]);
    }
}

#[derive(Clone, Copy)]
struct Add;
impl Map for Add {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, a: S::F, b: S::F) -> S::F {
        simd.add(a, b)
    }
}

/// `out = a + b`.
#[inline(always)]
pub(crate) fn add<S: Simd>(simd: S, a: &[f32], b: &[f32], out: &mut [f32]) {
    zip(simd, Add, a, b, out);
}

#[derive(Clone, Copy)]
struct Scaled(f32);
impl Map for Scaled {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, gain: S::F) -> S::F {
        simd.mul(simd.mul(x, simd.splat(self.0)), gain)
    }
}

/// `out = x / sqrt(mean(x²) + eps) * gain` (arXiv:1910.07467).
#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(simd: S, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    let mean = dot(simd, x, x) / x.len() as f32;
    zip(simd, Scaled(norm_factor(mean, eps)), x, gain, out);
}

/// What a row is multiplied by, from the mean of its squares.
#[inline(always)]
pub(crate) fn norm_factor(mean: f32, eps: f32) -> f32 {
    // A mean beyond float32 would turn the row into zeros: NaN says what happened.
    1.0 / (mean + eps).sqrt() + mean * 0.0
}

/// `1 + e^-x`.
#[inline(always)]
pub(crate) fn sigmoid_inverse<S: Simd>(simd: S, x: S::F) -> S::F {
    simd.add(simd.splat(1.0), exp16(simd, simd.sub(simd.splat(0.0), x)))
}

impl Map for Gate {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, up: S::F) -> S::F {
        match self {
            Gate::Silu => simd.mul(simd.div(x, sigmoid_inverse(simd, x)), up),
            Gate::Relu2 => {
                let x = simd.max(simd.splat(0.0), x);
                simd.mul(simd.mul(x, x), up)
            }
        }
    }
}

/// `out = kind(gate) * up`.
#[inline(always)]
pub(crate) fn gate<S: Simd>(simd: S, kind: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
    zip(simd, kind, gate, up, out);
}

/// `[n, r, q]` with `e^x = 2^n (q r + 1)`, for the nearest `x` in -87..=88; NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and Cody and Waite's split of `ln 2`, so that `r` is exact; `e^r` by its Taylor series to the
/// seventh power, whose remainder is below half a unit of the last place.
#[inline(always)]
fn exponential<S: Simd>(simd: S, x: S::F) -> [S::F; 3] {
    // In this order of operands the comparisons let NaN through.
    let x = simd.max(simd.splat(-87.0), simd.min(simd.splat(88.0), x));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.fma(n, simd.splat(-0.693_359_4), x);
    let r = simd.fma(n, simd.splat(2.121_944_4e-4), r);
    let mut q = simd.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        q = simd.fma(q, r, simd.splat(c));
    }
    [n, r, q]
}

/// `e^x` within 2 units of the last place; `e^-87` and `e^88` beyond them; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp16<S: Simd>(simd: S, x: S::F) -> S::F {
    let [n, r, q] = exponential(simd, x);
    simd.mul(simd.fma(q, r, simd.splat(1.0)), simd.exp2(n))
}

/// `tanh x` within 2 units of the last place; odd, bit for bit but for the sign of zero; NaN stays NaN.
///
/// `t / (t + 2)` with `t = e^2|x| - 1`, which loses nothing near zero since it is not computed from the power.
#[inline(always)]
pub(crate) fn tanh16<S: Simd>(simd: S, x: S::F) -> S::F {
    let twice = simd.add(x, x);
    let [n, r, q] = exponential(simd, simd.abs(twice));
    let power = simd.exp2(n);
    let t = simd.fma(simd.mul(q, r), power, simd.sub(power, simd.splat(1.0)));
    let y = simd.div(t, simd.add(t, simd.splat(2.0)));
    // The sign: twice `x` is beyond `y` on its own side.
    simd.max(simd.min(twice, y), simd.sub(simd.splat(0.0), y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;

    #[test]
    fn tanh_is_within_two_units_of_the_last_place_and_odd() {
        let tanh = |x: f32| tanh16(Scalar(()), [x; LANES])[0];
        // Every magnitude: each step is a 50th or so of the number.
        for bits in (0..f32::INFINITY.to_bits()).step_by(162_143).chain([f32::INFINITY.to_bits()]) {
            let x = f32::from_bits(bits);
            let (found, exact) = (tanh(x), (x as f64).tanh());
            let unit = (exact * f32::EPSILON as f64).max(f32::from_bits(1) as f64);
            assert!((found as f64 - exact).abs() <= 2.0 * unit && found <= 1.0, "{found} for {exact}");
            assert_eq!(tanh(-x), -found, "{x}");
        }
        assert!(tanh(f32::NAN).is_nan());
    }
}
