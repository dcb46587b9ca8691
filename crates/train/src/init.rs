//! A new model: its sizes, its language, random weights.

use crate::config::Model;
use crate::{Error, Result};
use fastrand::Rng;
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::Role;
use trine_model::{Arch, Sizes, TensorShape};
use trine_tensor::format::F32;
use trine_tensor::{Metadata, TensorInfo, gguf};

/// Standard deviation of the embedding.
const EMBEDDING: f32 = 0.02;

/// What a configuration says of a model with so many tokens, for sequences of so many.
///
/// # Errors
/// When nobody has written down its architecture.
pub fn sizes(model: &Model, vocab: usize, sequence: usize) -> Result<Sizes> {
    let arch = Arch::of_gguf(&model.architecture).filter(|arch| Sizes::fit(arch)).ok_or_else(|| Error::Config {
        key: "model.architecture".into(),
        expected: Sizes::names().collect::<Vec<_>>().join(", "),
        found: model.architecture.clone(),
    })?;
    Ok(Sizes {
        arch,
        n_layers: model.layers,
        hidden_size: model.width,
        n_heads: model.heads,
        n_kv_heads: model.kv_heads.unwrap_or(model.heads),
        head_dim: model.head_dim.unwrap_or(model.width / model.heads),
        intermediate_size: model.feed_forward,
        vocab_size: vocab,
        context_length: model.context.unwrap_or(sequence),
        rope_base: model.rope_base,
        eps: model.eps,
        tied: model.tied,
    })
}

/// Writes a model of these sizes and this language as float32; `progress` is told how many weights are written, and of how many. Matrices keep the size of what they are multiplied with; the last ones of each half of
/// a layer are smaller by the root of their number, so that their sum is not larger (GPT-2); gains are 1.
///
/// # Errors
/// When the file cannot be written; [`Error::Cancelled`] when `progress` says so.
pub fn write(
    path: &Path,
    sizes: &Sizes,
    language: &Metadata,
    seed: u64,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let mut metadata = sizes.metadata();
    metadata.insert("general.file_type", 0u32);
    for (key, value) in language.iter() {
        metadata.insert(key, value.clone());
    }
    let tensors = sizes.tensors();
    let entry = |TensorShape { name, shape, .. }: &TensorShape| TensorInfo {
        name: name.clone(),
        format: &F32,
        shape: shape.clone(),
    };
    let mut writer = gguf::create(path, &metadata, tensors.iter().map(entry).collect())?;
    let mut rng = Rng::with_seed(seed);
    let total = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>() as u64).sum();
    let mut done = 0;
    for TensorShape { name, role, shape } in &tensors {
        let len = shape.iter().product();
        let cols = *shape.last().expect("tensors have columns") as f32;
        let last = name.contains("attn_output.") || name.contains("ffn_down.");
        let deviation = match role {
            Role::Norm => 0.0,
            Role::Embedding => EMBEDDING,
            _ if last => 1.0 / (cols * 2.0 * sizes.n_layers as f32).sqrt(),
            _ => 1.0 / cols.sqrt(),
        };
        let mean = if *role == Role::Norm { 1.0 } else { 0.0 };
        if progress(done, total).is_break() {
            return Err(Error::Cancelled);
        }
        done += len as u64;
        let weights: Vec<f32> = (0..len).map(|_| mean + deviation * normal(&mut rng)).collect();
        writer.tensor(&F32.encode(&weights))?;
    }
    Ok(writer.finish()?)
}

/// A normal number, by Box and Muller, in plain Rust: the same on every machine.
fn normal(rng: &mut Rng) -> f32 {
    let (radius, angle) = (1.0 - rng.f64(), rng.f64() * std::f64::consts::TAU);
    (libm::sqrt(-2.0 * libm::log(radius)) * libm::cos(angle)) as f32
}
