//! What a run takes, before it begins.

use crate::config::{Config, Weights};
use crate::setup::language;
use crate::{Result, init};
use trine_backend::Role;
use trine_model::{Language, Spec, TensorShape, open_file};
use trine_tensor::OpenOptions;

/// What a run takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Weights.
    pub parameters: u64,
    /// Bytes, by what they are for.
    pub memory: PlanMemory,
    /// Floating-point operations of matrix products for each token, forward and back.
    pub flops_per_token: f64,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Tokens of all steps.
    pub tokens: u64,
}

/// Bytes of memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanMemory {
    /// Master weights, and what the forward pass sees of them.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Means of gradients and, where the optimiser has them, of their squares.
    pub optimizer: u64,
    /// What the way back needs of the way forward, and what is at work.
    pub activations: u64,
    /// Together.
    pub total: u64,
}

/// What a run would take, without beginning it.
///
/// # Errors
/// When the configuration makes no sense, or the tokenizer or a model cannot be read.
pub fn plan(config: &Config) -> Result<Plan> {
    config.check()?;
    let (steps, batch, sequence) = (config.train.steps, config.train.batch, config.train.sequence);
    let sizes = match &config.model.from {
        Some(path) => {
            let file = open_file(path, &OpenOptions::default())?;
            Spec::of(&file)?.sizes
        }
        None => init::sizes(&config.model, Language::of_metadata(&language(config)?)?.tokenizer.len(), sequence)?,
    };
    let ternary = config.quantization.weights == Weights::Ternary;
    let (mut parameters, mut seen, mut products, mut moments) = (0u64, 0, 0, 0);
    for TensorShape { role, shape, .. } in sizes.tensors() {
        let len = shape.iter().product::<usize>() as u64;
        parameters += len;
        let inner = matches!(role, Role::Linear | Role::BitLinear);
        seen += if ternary && inner { len / 4 } else { 4 * len };
        moments += config.optimizer.name.moments(inner) as u64 * len;
        let lookup = role == Role::Embedding && !sizes.tied;
        products += if shape.len() == 2 && !lookup { len } else { 0 };
    }
    let (q, kv) = (sizes.n_heads * sizes.head_dim, sizes.n_kv_heads * sizes.head_dim);
    let sub_norms = usize::from(sizes.arch.sub_norms);
    // Inputs of norms and matrices, of the gate, and of attention, and what it gave.
    let layer = 4 * sizes.hidden_size + (2 + sub_norms) * q + 2 * kv + (3 + sub_norms) * sizes.intermediate_size;
    let layers = match config.train.grad_checkpoint {
        true => layer + sizes.n_layers * sizes.hidden_size,
        false => layer * sizes.n_layers,
    };
    // The layer at work on the way back, and logits with their gradient.
    let each = layers + layer + 2 * sizes.vocab_size;
    let portion = config.train.micro_batch.unwrap_or(batch) * sequence;
    let (weights, gradients, optimizer) = (4 * parameters + seen, 4 * parameters, 4 * moments);
    // Keys and values of the layer at work, with room for blocks that are not full.
    let cache = 2 * kv * 5 / 4;
    let activations = 4 * ((each + cache) * portion) as u64;
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
