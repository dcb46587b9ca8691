//! Model files of trained weights.

use crate::Result;
use crate::adjoint::Adjoint;
use crate::tape::Tape;
use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::Role;
use trine_model::{Spec, interleave};
use trine_tensor::format::F32;
use trine_tensor::{Format, Metadata, TensorInfo, View, gguf};

/// The file formats of tensors.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    /// Matrices inside layers; float32 where rows are not whole blocks of it.
    pub inner: &'static Format,
    /// Embeddings and output heads.
    pub outer: &'static Format,
}

/// What a model file has beside its weights, and how it orders those.
#[derive(Clone, Debug, Default)]
pub struct FileLayout {
    pub metadata: Metadata,
    /// Tensors that are no weights.
    pub tensors: Vec<View>,
    /// The model, if its heads are in halves and the file has the two elements of a pair side by side.
    pub interleave: Option<Spec>,
    /// Whether queries, keys and values are one matrix, and gate and up another.
    pub fused: bool,
}

/// Matrices that files may have as one, and its name.
const FUSED: [(&[&str], &str); 2] = [
    (&["attn_q.weight", "attn_k.weight", "attn_v.weight"], "attn_qkv.weight"),
    (&["ffn_gate.weight", "ffn_up.weight"], "ffn_up.weight"),
];

/// Writes the effective weights. Norms and biases are float32.
///
/// # Errors
/// When a matrix does not fit its format or has weights that it cannot hold, or the file cannot be written.
pub fn write<B: Adjoint>(tape: &mut Tape<B>, layout: &FileLayout, formats: Formats, path: &Path) -> Result<()> {
    let format = |role| match role {
        Role::Linear | Role::BitLinear => formats.inner,
        Role::Embedding | Role::Head => formats.outer,
        Role::Norm | Role::Bias => &F32,
    };
    let mut entries: Vec<(TensorInfo, Vec<usize>)> = Vec::new();
    let mut next = 0;
    while let Some(param) = tape.params.get(next) {
        let format = format(param.role);
        let fits = param.shape.last().is_none_or(|cols| cols.is_multiple_of(format.block)) || !param.is_inner();
        let format = if fits { format } else { &F32 };
        let entry = TensorInfo { name: param.name.clone(), format, shape: param.shape.clone() };
        // One scale for a whole tensor cannot be that of several.
        let parts = if layout.fused && entry.format.tail == 0 { parts(tape, next) } else { None };
        let (fused, count) = parts.unwrap_or((entry.name.clone(), 1));
        let rows = tape.params[next..next + count].iter().map(|param| param.shape[0]).sum();
        let mut shape = entry.shape.clone();
        shape[0] = rows;
        entries.push((TensorInfo { name: fused, shape, ..entry }, (next..next + count).collect()));
        next += count;
    }
    let infos = entries.iter().map(|(info, _)| info.clone()).chain(layout.tensors.iter().map(View::info));
    let mut writer = gguf::create(path, &layout.metadata, infos.collect())?;
    for (info, params) in entries {
        let mut parts = Vec::new();
        for i in params {
            let mut part = tape.effective_weights(i);
            if let Some(spec) = &layout.interleave {
                interleave(&tape.params[i].name, &mut part, info.shape[1..].iter().product(), spec);
            }
            parts.push(part);
        }
        let weights = if parts.len() == 1 { parts.remove(0) } else { parts.concat() };
        let written = View::new(&*info.name, info.format, info.shape.clone(), info.encode(&weights)?)?;
        let _ = written.check_encoded(&weights, &mut || ControlFlow::Continue(()))?;
        writer.tensor(&written.bytes)?;
    }
    layout.tensors.iter().try_for_each(|view| writer.tensor(&view.bytes))?;
    Ok(writer.finish()?)
}

/// The name of the matrix that weights from `first` on are parts of, and their number.
fn parts<B: Adjoint>(tape: &Tape<B>, first: usize) -> Option<(String, usize)> {
    FUSED.iter().find_map(|(parts, fused)| {
        let layer = tape.params[first].name.strip_suffix(parts[0])?;
        let names = tape.params.get(first..first + parts.len())?.iter().map(|param| param.name.strip_prefix(layer));
        names.eq(parts.iter().map(|part| Some(*part))).then(|| (format!("{layer}{fused}"), parts.len()))
    })
}
