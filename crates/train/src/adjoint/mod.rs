//! The way back: for each operation of a backend the gradient of what went in, given that of what came out.

mod cpu;
mod muon;

use trine_backend::{Activation, Backend, Batch, Error, Role, Rope};
pub use trine_kernels::AdamW;
use trine_kernels::{AttentionOptions, Factors};
use trine_tensor::Format;

/// What the forward pass sees of a master weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rounding {
    /// The weight in a float format: F32, BF16 or F16.
    Float(&'static Format),
    /// `s` times the nearest of -1, 0 and 1 to `w / s`, where `s` is the mean absolute weight of the matrix, rounded to half precision, which
    /// is what files keep (arXiv:2402.17764).
    Ternary,
    /// So much of the way from the weight to its ternary form.
    Towards(f32),
}

/// How one step of Muon changes a matrix (arXiv:2502.16982).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Learning rate, as AdamW would have it: updates are as large as AdamW's.
    pub rate: f64,
    /// Decay of the sum of gradients.
    pub momentum: f64,
    /// Weights shrink by this times the rate.
    pub decay: f64,
    /// Gradients are multiplied by it first.
    pub factor: f32,
}

/// A device that a model can be trained on. Gradients of weights are added up, for several batches to make one step; those of activations are new.
///
/// Every method gives the same bits for any number of threads.
pub trait Adjoint: Backend {
    /// Brings numbers to the device, rows of `cols`.
    fn write(&mut self, values: &[f32], cols: usize) -> Self::Act;
    /// The same numbers once more.
    fn copy(&mut self, x: &Self::Act) -> Self::Act;
    /// `sum += x`.
    fn accumulate(&mut self, sum: &mut Self::Act, x: &Self::Act);
    /// `x = 0`.
    fn clear(&mut self, x: &mut Self::Act);
    /// Sum of the squares, in double precision: NaN or infinite when any number is.
    fn sum_of_squares(&mut self, x: &Self::Act) -> f64;

    /// The weight `name` that the forward pass is to see, of its `master`.
    ///
    /// # Errors
    /// As [`Backend::upload`].
    fn settle(
        &mut self,
        name: &str,
        shape: &[usize],
        role: Role,
        master: &Self::Act,
        rounding: Rounding,
    ) -> Result<Self::Weight, Error>;

    /// Of [`Backend::embed`].
    fn embed_back(&mut self, tokens: &[u32], dy: &Self::Act, dtable: &mut Self::Act);
    /// Of [`Backend::linear`]: straight through all rounding, with the rounded weights and inputs as factors, which are rounded once more as `factors`
    /// says. The gradient of `x` is added to `dx` where there is one.
    fn linear_back(
        &mut self,
        w: &Self::Weight,
        x: &Self::Act,
        dy: &Self::Act,
        factors: Factors,
        dw: &mut Self::Act,
        dx: Option<Self::Act>,
    ) -> Self::Act;
    /// Of [`Backend::bias`]; that of `x` is `dy`.
    fn bias_back(&mut self, dy: &Self::Act, db: &mut Self::Act);
    /// Of [`Backend::rms_norm`].
    fn rms_norm_back(
        &mut self,
        gain: &Self::Weight,
        x: &Self::Act,
        eps: f32,
        dy: &Self::Act,
        dgain: &mut Self::Act,
    ) -> Self::Act;
    /// Of [`Backend::gate`]: for the gate and for what is gated.
    fn gate_back(&mut self, kind: Activation, gate: &Self::Act, up: &Self::Act, dy: &Self::Act) -> [Self::Act; 2];
    /// Of [`Backend::rope`].
    fn rope_back(&mut self, rope: &Rope, angles: &Self::Act, dy: Self::Act) -> Self::Act;
    /// Of [`Backend::attention`] over sequences that begin in this batch: for queries, keys and values. `out` is what attention gave.
    fn attention_back(
        &mut self,
        qkv: [&Self::Act; 3],
        out: &Self::Act,
        dy: &Self::Act,
        attend: &AttentionOptions,
        batch: &Batch,
    ) -> [Self::Act; 3];
    /// Of [`Backend::select`] from so many rows.
    fn select_back(&mut self, rows: &[u32], total: usize, dy: &Self::Act) -> Self::Act;

    /// Cross-entropy of each row of `logits` and its target, nats, appended to `losses`; returns the gradient of their sum times `scale`. A row whose
    /// target is [`NO_TARGET`] counts nothing.
    fn cross_entropy(&mut self, logits: &Self::Act, targets: &[u32], scale: f32, losses: &mut Vec<f32>) -> Self::Act;
    /// Divergence of each row of `logits` from that of a teacher, `KL(softmax(teacher / t) ‖ softmax(logits / t))`, nats, appended to `losses`; adds
    /// the gradient of their sum times `scale * t²` to `dlogits` (arXiv:1503.02531).
    fn divergence(
        &mut self,
        logits: &Self::Act,
        teacher: &Self::Act,
        temperature: f32,
        scale: f32,
        dlogits: &mut Self::Act,
        losses: &mut Vec<f32>,
    );

    /// One step of Muon over a matrix, its gradient, and the sum of gradients.
    fn muon(&mut self, step: &Muon, w: &mut Self::Act, g: &Self::Act, m: &mut Self::Act);
    /// What the forward pass multiplies by, as numbers.
    fn seen(&mut self, w: &Self::Weight) -> Vec<f32>;

    /// One step of AdamW over a weight, its gradient, and the means of gradients and their squares.
    fn adamw(&mut self, step: &AdamW, w: &mut Self::Act, g: &Self::Act, m: &mut Self::Act, v: &mut Self::Act);
}

/// The target of a row that has none.
pub const NO_TARGET: u32 = u32::MAX;
