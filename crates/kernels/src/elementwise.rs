//! Norms, activation functions and other operations on rows between matrix products.

use crate::math::{dot, erf, load_padded, one_plus_exp_neg, sum, tanh};
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

/// A function of two vectors. A trait rather than a closure, so that it is inlined where the CPU's features are known.
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
        simd.store(f.map(simd, load_padded(simd, &a[whole..]), load_padded(simd, &b[whole..])), &mut rest);
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

/// `1 / sqrt(mean + eps)`, with `mean` the mean of a row's squares.
#[inline(always)]
pub(crate) fn norm_factor(mean: f32, eps: f32) -> f32 {
    // A mean beyond float32 would make the row zeros: it becomes NaN instead.
    1.0 / (mean + eps).sqrt() + mean * 0.0
}

impl Activation {
    #[inline(always)]
    fn activation<S: Simd>(self, simd: S, x: S::F) -> S::F {
        let (half, one) = (simd.splat(0.5), simd.splat(1.0));
        match self {
            Activation::Silu => simd.div(x, one_plus_exp_neg(simd, x)),
            Activation::Relu2 => {
                let x = simd.max(simd.splat(0.0), x);
                simd.mul(x, x)
            }
            Activation::Gelu => {
                let erf = erf(simd, simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
                simd.mul(simd.mul(half, x), simd.add(one, erf))
            }
            Activation::GeluTanh => {
                let cube = simd.mul(simd.mul(x, x), x);
                let inner = simd.fma(simd.splat(0.044715), cube, x);
                let tanh = tanh(simd, simd.mul(simd.splat(0.797_884_6), inner));
                simd.mul(simd.mul(half, x), simd.add(one, tanh))
            }
            Activation::Clamped => {
                // In this order of operands NaN stays.
                let x = simd.min(simd.splat(7.0), x);
                simd.div(x, one_plus_exp_neg(simd, simd.mul(simd.splat(1.702), x)))
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

/// An activation function that gates nothing.
#[derive(Clone, Copy)]
struct Ungated(Activation);
impl Map for Ungated {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, _: S::F) -> S::F {
        self.0.activation(simd, x)
    }
}

/// `out = kind(gate) * up`, or `kind(gate)` without `up`.
#[inline(always)]
pub(crate) fn gated_activation<S: Simd>(simd: S, kind: Activation, gate: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    match up {
        Some(up) => zip(simd, kind, gate, up, out),
        None => zip(simd, Ungated(kind), gate, gate, out),
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
pub(crate) struct Softcap(pub f32);
impl Map for Softcap {
    #[inline(always)]
    fn map<S: Simd>(self, simd: S, x: S::F, _: S::F) -> S::F {
        let x = simd.mul(x, simd.splat(1.0 / self.0));
        simd.mul(tanh(simd, x), simd.splat(self.0))
    }
}

/// `out = cap * tanh(x / cap)` (Gemma 2, arXiv:2408.00118).
#[inline(always)]
pub(crate) fn softcap<S: Simd>(simd: S, x: &[f32], cap: f32, out: &mut [f32]) {
    zip(simd, Softcap(cap), x, x, out);
}

/// `sum += weight * x`, rounded once.
#[inline(always)]
pub(crate) fn add_weighted<S: Simd>(simd: S, x: &[f32], weight: f32, sum: &mut [f32]) {
    assert_eq!(x.len(), sum.len());
    for (x, sum) in x.chunks(LANES).zip(sum.chunks_mut(LANES)) {
        let mut all = [0.0; LANES];
        simd.store(simd.fma(load_padded(simd, x), simd.splat(weight), load_padded(simd, sum)), &mut all);
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
        let (scaled, gain) =
            (simd.mul(load_padded(simd, &out[at.clone()]), factor), load_padded(simd, &gain[at.clone()]));
        let y = match bias {
            Some(bias) => simd.fma(scaled, gain, load_padded(simd, &bias[at.clone()])),
            None => simd.mul(scaled, gain),
        };
        let mut all = [0.0; LANES];
        simd.store(y, &mut all);
        out[at.clone()].copy_from_slice(&all[..at.len()]);
    }
}
