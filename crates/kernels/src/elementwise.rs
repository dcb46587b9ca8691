//! What happens to activations between matrix products, row by row.

use crate::dot::float::{dot, padded};
use crate::simd::{LANES, Simd};

/// Activation functions of feed-forward layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)^2`, of BitNet b1.58 2B-4T.
    Relu2,
    /// `x * (1 + erf(x / sqrt 2)) / 2` (arXiv:1606.08415).
    Gelu,
    /// Its approximation `x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// gpt-oss: `x * sigmoid(1.702 x)` with `x` at most 7, times `up + 1` with `up` in -7..=7.
    Clamped,
}

/// A function of two numbers, 16 lanes at a time. A trait and not a closure, so that it is inlined where the CPU's features are known.
pub(crate) trait Map: Copy {
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

impl Activation {
    #[inline(always)]
    fn activation<S: Simd>(self, simd: S, x: S::F) -> S::F {
        let (half, one) = (simd.splat(0.5), simd.splat(1.0));
        match self {
            Activation::Silu => simd.div(x, sigmoid_inverse(simd, x)),
            Activation::Relu2 => {
                let x = simd.max(simd.splat(0.0), x);
                simd.mul(x, x)
            }
            Activation::Gelu => {
                let erf = erf16(simd, simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
                simd.mul(simd.mul(half, x), simd.add(one, erf))
            }
            Activation::GeluTanh => {
                let cube = simd.mul(simd.mul(x, x), x);
                let inner = simd.fma(simd.splat(0.044715), cube, x);
                let tanh = tanh16(simd, simd.mul(simd.splat(0.797_884_6), inner));
                simd.mul(simd.mul(half, x), simd.add(one, tanh))
            }
            Activation::Clamped => {
                // In this order of operands NaN stays.
                let x = simd.min(simd.splat(7.0), x);
                simd.div(x, sigmoid_inverse(simd, simd.mul(simd.splat(1.702), x)))
            }
        }
    }
}

impl Map for Activation {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, up: S::F) -> S::F {
        let up = match self {
            Activation::Clamped => {
                let up = simd.max(simd.splat(-7.0), simd.min(simd.splat(7.0), up));
                simd.add(up, simd.splat(1.0))
            }
            _ => up,
        };
        simd.mul(self.activation(simd, x), up)
    }
}

/// An activation function without anything that it gates.
#[derive(Clone, Copy)]
struct Alone(Activation);
impl Map for Alone {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, _: S::F) -> S::F {
        self.0.activation(simd, x)
    }
}

/// `out = kind(gate) * up`, or `kind(gate)` where nothing is gated.
#[inline(always)]
pub(crate) fn gate<S: Simd>(simd: S, kind: Activation, gate: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    match up {
        Some(up) => zip(simd, kind, gate, up, out),
        None => zip(simd, Alone(kind), gate, gate, out),
    }
}

#[derive(Clone, Copy)]
struct Scale(f32);
impl Map for Scale {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, _: S::F) -> S::F {
        simd.mul(x, simd.splat(self.0))
    }
}

/// `out = factor * x`.
#[inline(always)]
pub(crate) fn scale<S: Simd>(simd: S, x: &[f32], factor: f32, out: &mut [f32]) {
    zip(simd, Scale(factor), x, x, out);
}

/// `cap * tanh(x / cap)`.
#[derive(Clone, Copy)]
pub(crate) struct Cap(pub f32);
impl Map for Cap {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, _: S::F) -> S::F {
        let x = simd.mul(x, simd.splat(1.0 / self.0));
        simd.mul(tanh16(simd, x), simd.splat(self.0))
    }
}

/// `out = cap * tanh(x / cap)` (Gemma 2, arXiv:2408.00118).
#[inline(always)]
pub(crate) fn cap<S: Simd>(simd: S, x: &[f32], cap: f32, out: &mut [f32]) {
    zip(simd, Cap(cap), x, x, out);
}

/// `sum += weight * x`, rounded once.
#[inline(always)]
pub(crate) fn add_weighted<S: Simd>(simd: S, x: &[f32], weight: f32, sum: &mut [f32]) {
    assert_eq!(x.len(), sum.len());
    for (x, sum) in x.chunks(LANES).zip(sum.chunks_mut(LANES)) {
        let mut all = [0.0; LANES];
        simd.store(simd.fma(padded(simd, x), simd.splat(weight), padded(simd, sum)), &mut all);
        sum.copy_from_slice(&all[..sum.len()]);
    }
}

#[derive(Clone, Copy)]
struct Shift(f32);
impl Map for Shift {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, _: S::F) -> S::F {
        simd.add(x, simd.splat(self.0))
    }
}

/// `out = (x - mean(x)) / sqrt(variance(x) + eps) * gain + bias` (arXiv:1607.06450).
#[inline(always)]
pub(crate) fn layer_norm<S: Simd>(simd: S, x: &[f32], gain: &[f32], bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    let mean = sum(simd, x) / x.len() as f32;
    zip(simd, Shift(-mean), x, x, out);
    let variance = dot(simd, out, out) / x.len() as f32;
    let factor = simd.splat(norm_factor(variance, eps));
    for i in (0..x.len()).step_by(LANES) {
        let at = i..x.len().min(i + LANES);
        let (scaled, gain) = (simd.mul(padded(simd, &out[at.clone()]), factor), padded(simd, &gain[at.clone()]));
        let y = match bias {
            Some(bias) => simd.fma(scaled, gain, padded(simd, &bias[at.clone()])),
            None => simd.mul(scaled, gain),
        };
        let mut all = [0.0; LANES];
        simd.store(y, &mut all);
        out[at.clone()].copy_from_slice(&all[..at.len()]);
    }
}

/// The sum of all, in 16 lanes and their tree.
#[inline(always)]
fn sum<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let mut sum = simd.splat(0.0);
    for part in x.chunks(LANES) {
        sum = simd.add(sum, padded(simd, part));
    }
    simd.sum(sum)
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

/// `erf x` within 3 units of the last place of 1; odd; NaN stays NaN.
///
/// A quotient of polynomials on -4..=4, beyond which it is 1 in single precision; its coefficients are those that Eigen and XLA use.
#[inline(always)]
fn erf16<S: Simd>(simd: S, x: S::F) -> S::F {
    let x = simd.max(simd.splat(-4.0), simd.min(simd.splat(4.0), x));
    let square = simd.mul(x, x);
    let mut p = simd.splat(-2.726_142_3e-10);
    for c in [2.770_681_2e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906_5e-4, -2.954_6e-3, -1.609_603_3e-2] {
        p = simd.fma(p, square, simd.splat(c));
    }
    let mut q = simd.splat(-1.456_607_2e-5);
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = simd.fma(q, square, simd.splat(c));
    }
    simd.div(simd.mul(x, p), q)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;

    #[test]
    fn erf_is_within_three_units_of_the_last_place_of_one_and_odd() {
        let erf = |x: f32| erf16(Scalar(()), [x; LANES])[0];
        for bits in (0..f32::INFINITY.to_bits()).step_by(162_143).chain([f32::INFINITY.to_bits()]) {
            let x = f32::from_bits(bits);
            let (found, exact) = (erf(x), libm::erf(x as f64));
            assert!((found as f64 - exact).abs() <= 3.0 * f32::EPSILON as f64, "{found} for {exact}");
            assert_eq!(erf(-x), -found, "{x}");
        }
        assert!(erf(f32::NAN).is_nan());
    }

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
