//! What a trainer reports while it works.

use serde::{Deserialize, Serialize};
use std::path::Path;

/// The progress of work before the first step.
#[derive(Clone, Copy, Debug)]
pub struct SetupProgress {
    /// Such as "reading texts".
    pub what: &'static str,
    pub done: u64,
    pub total: u64,
}

/// Something that happened in a run.
#[derive(Clone, Copy, Debug)]
pub enum TrainEvent<'a> {
    Step(&'a StepMetrics),
    Validation(&'a Validation),
    /// A checkpoint was written.
    Checkpoint {
        step: u64,
        path: &'a Path,
        /// Whether its validation loss is the lowest so far.
        best: bool,
    },
    /// A model file was written, to generate sample texts from.
    Sample {
        step: u64,
        model: &'a Path,
    },
    Warning(&'a str),
}

/// One step of training, which updated the weights unless it was skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// Counted from 1.
    pub step: u64,
    pub steps: u64,
    /// Mean cross-entropy, nats per token.
    pub loss: f64,
    /// Mean divergence from the teacher, nats per token, if there is a teacher.
    pub distillation: Option<f64>,
    /// Target tokens of this step.
    pub tokens: u64,
    /// Target tokens of all steps so far.
    pub total_tokens: u64,
    pub learning_rate: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// The factor of the loss, in float16.
    pub loss_scale: Option<f64>,
    /// Whether gradients overflowed in float16, so that the weights stayed as they were.
    pub skipped: bool,
    /// Floating-point operations of matrix products, forward and backward: `6 x weights x tokens`, and those of attention.
    pub flops: f64,
    pub seconds: f64,
}

/// How well held-out documents are predicted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    pub step: u64,
    /// Mean cross-entropy, nats per token.
    pub loss: f64,
    /// `e^loss`.
    pub perplexity: f64,
    /// Bits per byte of text: comparable between tokenizers. None if the vocabulary cannot spell all of it.
    pub bits_per_byte: Option<f64>,
    /// Target tokens.
    pub tokens: u64,
}
