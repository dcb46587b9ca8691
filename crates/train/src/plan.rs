//! Estimates of the memory and work of a run.

use crate::config::{Config, WeightQuantization};
use crate::data::Documents;
use crate::setup::language;
use crate::{Result, init};
use trine_backend::Role;
use trine_model::{Language, Spec, TensorShape, open_file};
use trine_tensor::OpenOptions;

/// Estimates for a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    pub parameters: u64,
    pub memory: PlanMemory,
    /// Floating-point operations of matrix products per token, forward and backward.
    pub flops_per_token: f64,
    pub steps: u64,
    /// Target tokens of all steps.
    pub tokens: u64,
}

/// Memory by purpose, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanMemory {
    /// Master weights and effective weights.
    pub weights: u64,
    pub gradients: u64,
    pub optimizer: u64,
    /// Activations that the backward pass needs, and those in use.
    pub activations: u64,
    pub total: u64,
}

/// Estimates memory and work without starting the run.
///
/// # Errors
/// When the configuration is invalid, or the tokenizer or a model cannot be read.
pub fn plan(config: &Config) -> Result<Plan> {
    config.check()?;
    // Whether all files are there.
    Documents::open(&config.data.files, &config.data.separator, &config.data.field)?;
    if let Some(distill) = &config.distill {
        open_file(&distill.teacher, &OpenOptions::default())?;
    }
    let (steps, batch, sequence) = (config.train.steps, config.train.batch, config.train.sequence);
    let sizes = match &config.model.from {
        Some(path) => {
            let file = open_file(path, &OpenOptions::default())?;
            Spec::of(&file)?.sizes
        }
        None => init::sizes(&config.model, Language::of_metadata(&language(config)?)?.tokenizer.len(), sequence)?,
    };
    let ternary = config.quantization.weights == WeightQuantization::Ternary;
    let (mut parameters, mut effective, mut products, mut states) = (0u64, 0, 0, 0);
    for TensorShape { role, shape, .. } in sizes.tensors() {
        let len = shape.iter().product::<usize>() as u64;
        parameters += len;
        let inner = matches!(role, Role::Linear | Role::BitLinear);
        effective += if ternary && inner { len / 4 } else { 4 * len };
        states += config.optimizer.name.rule(inner).states.len() as u64 * len;
        let lookup = role == Role::Embedding && !sizes.tied;
        products += if shape.len() == 2 && !lookup { len } else { 0 };
    }
    let (q, kv) = (sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim);
    let sub_norms = usize::from(sizes.arch.sub_norms);
    // Inputs of norms, matrices and the gated activation; inputs and output of attention.
    let layer = 4 * sizes.hidden_size + (2 + sub_norms) * q + 2 * kv + (3 + sub_norms) * sizes.intermediate_size;
    let layers = match config.train.grad_checkpoint {
        true => layer + sizes.n_layers * sizes.hidden_size,
        false => layer * sizes.n_layers,
    };
    // The layer in the backward pass, and logits with their gradient.
    let each = layers + layer + 2 * sizes.vocab_size;
    let micro_batch = config.train.micro_batch.unwrap_or(batch) * sequence;
    let (weights, gradients, optimizer) = (4 * parameters + effective, 4 * parameters, 4 * states);
    // Keys and values of one layer, with room for partly filled blocks.
    let cache = 2 * kv * 5 / 4;
    let activations = 4 * ((each + cache) * micro_batch) as u64;
    let attention = 4.0 * (sequence as f64 + 1.0) / 2.0 * (sizes.n_layers * q) as f64;
    Ok(Plan {
        parameters,
        memory: PlanMemory {
            weights,
            gradients,
            optimizer,
            activations,
            total: weights + gradients + optimizer + activations,
        },
        flops_per_token: 3.0 * (2.0 * products as f64 + attention),
        steps,
        tokens: steps * (batch * sequence) as u64,
    })
}
