//! What a trainer tells while it works.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// How far something is that must be done before training begins.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What is being done.
    pub what: &'static str,
    /// How much of it.
    pub done: u64,
    /// Of how much.
    pub total: u64,
}

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The weights changed once, or a step was skipped.
    Step(&'a Step),
    /// The model was tried on documents that it does not learn from.
    Validation(&'a Validation),
    /// A checkpoint is on disk.
    Checkpoint {
        /// Steps done.
        step: u64,
        /// Where.
        path: &'a Path,
        /// Whether its validation loss is the lowest so far.
        best: bool,
    },
    /// A model file is on disk from which sample texts can be made.
    Sample {
        /// Steps done.
        step: u64,
        /// Where.
        model: &'a Path,
    },
    /// Something a person should know.
    Warning(&'a str),
}

/// One step of an optimiser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Steps done, this one included.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean cross-entropy, nats per token.
    pub loss: f64,
    /// Mean divergence from the teacher, nats per token, where there is one.
    pub distillation: Option<f64>,
    /// Tokens that were learned from in this step.
    pub tokens: u64,
    /// Tokens in all steps so far.
    pub total_tokens: u64,
    /// Of this step.
    pub learning_rate: f64,
    /// Norm of all gradients before clipping.
    pub grad_norm: f64,
    /// What gradients are multiplied by on their way, in half precision.
    pub loss_scale: Option<f64>,
    /// Whether gradients overflowed, so that the weights stayed.
    pub skipped: bool,
    /// Floating-point operations of the step's matrix products, forward and backward: `6 x weights x tokens` and attention's.
    pub flops: f64,
    /// Seconds that the step took.
    pub seconds: f64,
}

/// How well unseen documents are predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Steps done.
    pub step: u64,
    /// Mean cross-entropy, nats per token.
    pub loss: f64,
    /// `e^loss`.
    pub perplexity: f64,
    /// Bits per byte of text, which other tokenizers can be compared by.
    pub bits_per_byte: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
}
