//! AdamW (arXiv:1711.05101), and the norm of a gradient.

use crate::math::{load_tail, store_tail, vectors};
use crate::simd::{LANES, Simd};

/// Hyperparameters of one step of AdamW, with decay decoupled from the gradient as in PyTorch.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// Steps, this one included: at least 1.
    pub step: u64,
    /// Learning rate.
    pub rate: f64,
    /// Decay rate of the running mean of gradients.
    pub beta1: f64,
    /// Decay rate of the running mean of their squares.
    pub beta2: f64,
    /// Added to the root of that mean.
    pub eps: f64,
    /// Weights shrink by `rate * decay`.
    pub decay: f64,
    /// The gradient is multiplied by this first: below 1, it clips.
    pub factor: f32,
}

/// What the kernel needs of [`AdamW`], in single precision.
pub(crate) struct AdamWStep {
    keep: f32,
    rate: f32,
    betas: [f32; 2],
    rest: [f32; 2],
    /// One over the root of the second bias correction.
    root: f32,
    eps: f32,
    factor: f32,
}

impl AdamW {
    pub(crate) fn constants(&self) -> AdamWStep {
        let betas = [self.beta1, self.beta2];
        let [mean, square] = betas.map(|beta| 1.0 - libm::pow(beta, self.step as f64));
        AdamWStep {
            keep: (1.0 - self.rate * self.decay) as f32,
            rate: (self.rate / mean) as f32,
            betas: betas.map(|beta| beta as f32),
            rest: betas.map(|beta| (1.0 - beta) as f32),
            root: (1.0 / square.sqrt()) as f32,
            eps: self.eps as f32,
            factor: self.factor,
        }
    }
}

/// Moves weights `w` against their gradient `g`; `m` and `v` are the running means of the gradient and of its square.
#[inline(always)]
pub(crate) fn adamw<S: Simd>(simd: S, step: &AdamWStep, w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
    let (keep, rate, root, eps) =
        (simd.splat(step.keep), simd.splat(step.rate), simd.splat(step.root), simd.splat(step.eps));
    let (factor, betas, rest) = (simd.splat(step.factor), step.betas, step.rest);
    for at in vectors(w.len()) {
        let g = simd.mul(load_tail(simd, &g[at.clone()]), factor);
        let mean = simd.mul(load_tail(simd, &m[at.clone()]), simd.splat(betas[0]));
        let mean = simd.fma(g, simd.splat(rest[0]), mean);
        let square = simd.mul(load_tail(simd, &v[at.clone()]), simd.splat(betas[1]));
        let square = simd.fma(simd.mul(g, g), simd.splat(rest[1]), square);
        store_tail(simd, mean, &mut m[at.clone()]);
        store_tail(simd, square, &mut v[at.clone()]);
        let change = simd.div(mean, simd.fma(simd.sqrt(square), root, eps));
        let kept = simd.mul(load_tail(simd, &w[at.clone()]), keep);
        store_tail(simd, simd.sub(kept, simd.mul(rate, change)), &mut w[at]);
    }
}

/// `Σ x²` in double precision, in which no square of a float overflows.
#[inline(always)]
pub(crate) fn sum_of_squares<S: Simd>(_: S, x: &[f32]) -> f64 {
    let mut sums = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for i in 0..LANES {
            sums[i] += x[i] as f64 * x[i] as f64;
        }
    }
    for i in 0..rest.len() {
        sums[i] += rest[i] as f64 * rest[i] as f64;
    }
    sums.iter().sum()
}
