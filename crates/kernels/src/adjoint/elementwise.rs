//! Gradients of norms and activation functions.

use crate::elementwise::{Activation, norm_factor};
use crate::math::{dot, load_tail, one_plus_exp_neg, store_tail, vectors};
use crate::simd::Simd;

/// The gradients of a row of [`rms_norm`](crate::elementwise::rms_norm), by `x` and added to that by `gain`.
///
/// With `r = 1 / sqrt(mean(x²) + eps)`: `dx = r · (gain · dy − x · r² · mean(x · gain · dy))` and `dgain = dy · x · r`.
#[inline(always)]
pub(crate) fn rms_norm_back<S: Simd>(
    simd: S,
    x: &[f32],
    gain: &[f32],
    eps: f32,
    dy: &[f32],
    dx: &mut [f32],
    dgain: &mut [f32],
) {
    let r = norm_factor(dot(simd, x, x) / x.len() as f32, eps);
    let mut sum = simd.splat(0.0);
    for at in vectors(x.len()) {
        let dy = simd.mul(load_tail(simd, &gain[at.clone()]), load_tail(simd, &dy[at.clone()]));
        sum = simd.fma(dy, load_tail(simd, &x[at]), sum);
    }
    let pull = simd.splat(-(r * r) * (simd.reduce_sum(sum) / x.len() as f32));
    let r = simd.splat(r);
    for at in vectors(x.len()) {
        let (x, dy) = (load_tail(simd, &x[at.clone()]), load_tail(simd, &dy[at.clone()]));
        let by_norm = simd.mul(load_tail(simd, &gain[at.clone()]), dy);
        store_tail(simd, simd.mul(r, simd.fma(x, pull, by_norm)), &mut dx[at.clone()]);
        let sum = simd.fma(dy, simd.mul(x, r), load_tail(simd, &dgain[at.clone()]));
        store_tail(simd, sum, &mut dgain[at]);
    }
}

/// The gradients of [`gated_activation`](crate::elementwise::gated_activation).
#[inline(always)]
pub(crate) fn gated_activation_back<S: Simd>(
    simd: S,
    kind: Activation,
    gate: &[f32],
    up: &[f32],
    dy: &[f32],
    dgate: &mut [f32],
    dup: &mut [f32],
) {
    let one = simd.splat(1.0);
    for at in vectors(gate.len()) {
        let (x, up) = (load_tail(simd, &gate[at.clone()]), load_tail(simd, &up[at.clone()]));
        let dy = load_tail(simd, &dy[at.clone()]);
        let (y, slope) = match kind {
            Activation::Silu => {
                let sigmoid = simd.div(one, one_plus_exp_neg(simd, x));
                let y = simd.mul(x, sigmoid);
                // sigmoid · (1 + x · (1 − sigmoid))
                (y, simd.fma(y, simd.sub(one, sigmoid), sigmoid))
            }
            Activation::Relu2 => {
                let x = simd.max(simd.splat(0.0), x);
                (simd.mul(x, x), simd.add(x, x))
            }
            Activation::Gelu | Activation::GeluTanh | Activation::Clamped => {
                unreachable!("training rejects models with these")
            }
        };
        store_tail(simd, simd.mul(simd.mul(dy, up), slope), &mut dgate[at.clone()]);
        store_tail(simd, simd.mul(dy, y), &mut dup[at]);
    }
}
