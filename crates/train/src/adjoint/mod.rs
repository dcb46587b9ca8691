//! The backward pass: for each operation of a backend, the gradients of its inputs from that of its output.

mod cpu;
mod plan;
mod quantize;

use crate::optimizer::{Hyperparameters, Rule};
use trine_backend::{Activation, Backend, Error, Role, Rope};
use trine_kernels::{AttentionOptions, Factors};
use trine_tensor::{Format, View};

/// How a float32 master weight becomes the effective weight of the forward pass.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    /// The weight in a float format: F32, BF16 or F16.
    Float(&'static Format),
    /// `s` times the nearest of -1, 0 and 1 to `w / s`, where `s` is the mean absolute weight of the matrix (BitNet b1.58, arXiv:2402.17764),
    /// rounded to half precision as in files.
    Ternary,
    /// `w + share * (ternary(w) - w)`, for a gradual start of quantization.
    Blend(f32),
}

/// A device on which models can be trained. Gradients of weights accumulate, so that several batches can make one step; those of activations are new.
///
/// Every method gives the same bits for any number of threads.
pub trait Adjoint: Backend {
    /// Rows and columns of `x`.
    fn shape(&self, x: &Self::Act) -> [usize; 2];
    /// The format of an effective weight.
    fn format(&self, w: &Self::Weight) -> &'static Format;
    /// A copy of `x`.
    fn copy(&mut self, x: &Self::Act) -> Self::Act;
    /// Zeros in the shape of `x`.
    fn zeros_like(&mut self, x: &Self::Act) -> Self::Act;
    /// `sum += x`.
    fn accumulate(&mut self, sum: &mut Self::Act, x: &Self::Act);
    /// `x = 0`.
    fn clear(&mut self, x: &mut Self::Act);
    /// Sum of squares in double precision: NaN or infinite if any value is.
    fn sum_of_squares(&mut self, x: &Self::Act) -> f64;

    /// The float32 master of a weight. One that is ternary is scaled so that [`Rounding::Ternary`] gives its effective weight again.
    fn master(&mut self, view: &View, rounding: Rounding) -> Self::Act;
    /// The effective weight of a master weight.
    ///
    /// # Errors
    /// As [`Backend::upload`].
    fn quantize(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
        master: &Self::Act,
        rounding: Rounding,
    ) -> Result<Self::Weight, Error>;
    /// The values of an effective weight.
    fn dequantize(&mut self, w: &Self::Weight) -> Vec<f32>;
    /// Updates a master weight by its gradient, as a [`Rule`] says; there is one of `states` for each that the rule has.
    fn update(
        &mut self,
        rule: &Rule,
        hyper: &Hyperparameters,
        w: &mut Self::Act,
        grad: &Self::Act,
        states: &mut [Self::Act],
    );

    /// Of [`Ops::embed`](trine_backend::Ops::embed).
    fn embed_backward(&mut self, tokens: &[u32], dy: &Self::Act, dtable: &mut Self::Act);
    /// Of [`Ops::linear`](trine_backend::Ops::linear), for the weight: straight through all rounding, with the rounded inputs, which are rounded once more as `factors` says.
    fn linear_backward_weight(
        &mut self,
        w: &Self::Weight,
        x: &Self::Act,
        dy: &Self::Act,
        factors: Factors,
        dw: &mut Self::Act,
    );
    /// Of [`Ops::linear`](trine_backend::Ops::linear), for the input: straight through all rounding, with the effective weight. It is added to `dx` if there is one.
    fn linear_backward_input(
        &mut self,
        w: &Self::Weight,
        dy: &Self::Act,
        factors: Factors,
        dx: Option<Self::Act>,
    ) -> Self::Act;
    /// Of [`Ops::bias`](trine_backend::Ops::bias), for the bias; that of `x` is `dy`.
    fn bias_backward(&mut self, dy: &Self::Act, db: &mut Self::Act);
    /// Of [`Ops::rms_norm`](trine_backend::Ops::rms_norm); without `dgain`, for the input alone.
    fn rms_norm_backward(
        &mut self,
        gain: &Self::Weight,
        x: &Self::Act,
        eps: f32,
        dy: &Self::Act,
        dgain: Option<&mut Self::Act>,
    ) -> Self::Act;
    /// Of [`Ops::gated_activation`](trine_backend::Ops::gated_activation), for `gate` and `up`.
    fn gated_activation_backward(
        &mut self,
        kind: Activation,
        gate: &Self::Act,
        up: &Self::Act,
        dy: &Self::Act,
    ) -> [Self::Act; 2];
    /// The cache with which [`Ops::rope`](trine_backend::Ops::rope) is its own backward pass: the transpose of a rotation is the rotation by the
    /// negative angle.
    fn rope_cache_backward(&mut self, rope: &Rope, rope_cache: &Self::Act) -> Self::Act;
    /// Of [`Ops::attention`](trine_backend::Ops::attention) over sequences that begin in this batch, for queries, keys and values. `out` is the output of attention.
    fn attention_backward(
        &mut self,
        qkv: [&Self::Act; 3],
        out: &Self::Act,
        dy: &Self::Act,
        options: &AttentionOptions,
        pass: &Self::Pass,
    ) -> [Self::Act; 3];
    /// These rows of `x`.
    fn gather_rows(&mut self, x: &Self::Act, rows: &[u32]) -> Self::Act;
    /// Of [`Adjoint::gather_rows`] from `total` rows.
    fn gather_rows_backward(&mut self, rows: &[u32], total: usize, dy: &Self::Act) -> Self::Act;

    /// Appends the cross-entropy of each row of `logits` and its target to `losses`, in nats; returns the gradient of their sum times `scale`. Rows whose
    /// target is [`IGNORE_INDEX`] count as 0.
    fn cross_entropy(&mut self, logits: &Self::Act, targets: &[u32], scale: f32, losses: &mut Vec<f32>) -> Self::Act;
    /// Appends `KL(softmax(teacher / t) ‖ softmax(logits / t))` of each row to `losses`, in nats; adds the gradient of their sum times `scale * t²` to
    /// `dlogits` (arXiv:1503.02531).
    fn kl_divergence(
        &mut self,
        logits: &Self::Act,
        teacher: &Self::Act,
        temperature: f32,
        scale: f32,
        dlogits: &mut Self::Act,
        losses: &mut Vec<f32>,
    );
}

/// The target of a row that [`Adjoint::cross_entropy`] ignores.
pub const IGNORE_INDEX: u32 = u32::MAX;
