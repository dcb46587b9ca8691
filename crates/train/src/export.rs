//! Model files of trained weights.

use crate::Result;
use crate::adjoint::Adjoint;
use crate::tape::Tape;
use std::path::Path;
use trine_backend::Role;
use trine_tensor::{Format, Metadata, TensorInfo, gguf};

/// The file formats of tensors.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    /// Matrices inside layers.
    pub inner: &'static Format,
    /// Embeddings and output heads.
    pub outer: &'static Format,
}

/// Writes the effective weights. Norms and biases are float32.
///
/// # Errors
/// When a matrix does not fit its format, or the file cannot be written.
pub fn write<B: Adjoint>(tape: &mut Tape<B>, metadata: &Metadata, formats: Formats, path: &Path) -> Result<()> {
    let format = |role| match role {
        Role::Linear | Role::BitLinear => formats.inner,
        Role::Embedding | Role::Head => formats.outer,
        Role::Norm | Role::Bias => &trine_tensor::format::F32,
    };
    let entry = |i: usize| {
        let param = &tape.params[i];
        TensorInfo { name: param.name.clone(), format: format(param.role), shape: param.shape.clone() }
    };
    let entries: Vec<TensorInfo> = (0..tape.params.len()).map(entry).collect();
    let mut writer = gguf::create(path, metadata, entries.clone())?;
    for (i, entry) in entries.iter().enumerate() {
        writer.tensor(&entry.encode(&tape.effective_weights(i))?)?;
    }
    Ok(writer.finish()?)
}
