//! New models: sizes, a tokenizer, random weights.

use crate::config::ModelConfig;
use crate::{Error, Result};
use fastrand::Rng;
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::Role;
use trine_model::{Arch, Sizes, TensorShape};
use trine_tensor::format::F32;
use trine_tensor::{File, Metadata, TensorInfo, gguf};

/// Standard deviation of embeddings.
const EMBEDDING: f32 = 0.02;

/// The sizes of a configuration, for a vocabulary of `vocab_size` tokens and sequences of `sequence` tokens.
///
/// # Errors
/// When its architecture is not known, or has no neutral sizes.
pub fn sizes(model: &ModelConfig, vocab_size: usize, sequence: usize) -> Result<Sizes> {
    let arch = Arch::of_gguf(&model.architecture).filter(|arch| Sizes::fit(arch)).ok_or_else(|| Error::Config {
        key: "model.architecture".into(),
        expected: format!("one of {}", Sizes::names().collect::<Vec<_>>().join(", ")),
        found: model.architecture.clone(),
    })?;
    Ok(Sizes {
        arch,
        n_layers: model.n_layers,
        hidden_size: model.hidden_size,
        n_heads: model.n_heads,
        n_kv_heads: model.n_kv_heads.unwrap_or(model.n_heads),
        head_dim: model.head_dim.unwrap_or(model.hidden_size / model.n_heads),
        intermediate_size: model.intermediate_size,
        vocab_size,
        context_length: model.context_length.unwrap_or(sequence),
        rope_base: model.rope_base,
        eps: model.eps,
        tied: model.tied,
    })
}

/// Writes a float32 model with random weights and the tokenizer keys in `language`; `progress` gets the number of weights written and of all.
///
/// Weights are normal. The output of a matrix has the variance of its input; the last matrix of each half of a layer is smaller by the root of
/// their number, so that the residual sum keeps its size (GPT-2). Gains of norms are 1.
///
/// # Errors
/// When the file cannot be written; [`Error::Cancelled`] when `progress` breaks.
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

/// A new model without weights: zeros, in a file that takes no room on disk.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn shapes(sizes: &Sizes) -> Result<File> {
    let folder = tempfile::tempdir().map_err(Error::io(Path::new("a temporary folder")))?;
    let path = folder.path().join("model.gguf");
    let tensors = sizes.tensors();
    let mut writer = gguf::create(&path, &sizes.metadata(), tensors.iter().map(entry).collect())?;
    tensors.iter().try_for_each(|_| writer.hole())?;
    writer.finish()?;
    Ok(File::open(&path)?)
}

fn entry(TensorShape { name, shape, .. }: &TensorShape) -> TensorInfo {
    TensorInfo { name: name.clone(), format: &F32, shape: shape.clone() }
}

/// A number of the standard normal distribution (Box-Muller), the same on every machine.
fn normal(rng: &mut Rng) -> f32 {
    let (radius, angle) = (1.0 - rng.f64(), rng.f64() * std::f64::consts::TAU);
    (libm::sqrt(-2.0 * libm::log(radius)) * libm::cos(angle)) as f32
}
