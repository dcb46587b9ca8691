//! How large a model is, and how much memory it takes.

use std::collections::HashSet;
use trine_backend::KvShape;
use trine_engine::BLOCK_LEN;
use trine_model::{QuantMethod, Spec, Unpacker, is_head};
use trine_tensor::format::U8;
use trine_tensor::{File, Format, TensorInfo, View};

/// The weights of a model: everything in its file but tables that follow from its keys and the scales of packed weights.
pub fn parameters(file: &File) -> u64 {
    let quant_method = Spec::of(file).map_or(QuantMethod::None, |spec| spec.quant_method);
    let weights = unpacked(file, distinct(file), quant_method)
        .filter(|entry| ![".weight_scale", "_scales"].iter().any(|end| entry.name.ends_with(end)));
    weights
        .map(|entry| {
            let numbers: u64 = entry.shape.iter().map(|&n| n as u64).product();
            // Two numbers of MXFP4.
            if entry.format == &U8 { 2 * numbers } else { numbers }
        })
        .sum()
}

/// The tensors of a file, each under one name.
pub fn distinct(file: &File) -> impl Iterator<Item = &View> {
    let mut seen = HashSet::new();
    file.tensors().filter(move |view| seen.insert(view.bytes.as_ptr()))
}

/// The tensors of a file as they are loaded.
fn loaded(file: &File, quant_method: QuantMethod) -> impl Iterator<Item = TensorInfo> {
    unpacked(file, file.tensors(), quant_method)
}

fn unpacked<'a>(
    file: &'a File,
    tensors: impl Iterator<Item = &'a View>,
    quant_method: QuantMethod,
) -> impl Iterator<Item = TensorInfo> {
    let unpack = Unpacker::new(file, quant_method);
    // What is badly packed is refused when it is loaded.
    tensors.filter_map(move |stored| unpack.entry(stored).unwrap_or_else(|_| Some(stored.info())))
}

/// A head that is in no tensor of its own.
fn made_head(spec: &Spec) -> Option<TensorInfo> {
    spec.quant_method.bitnet().and_then(|bitnet| bitnet.made_head(&spec.sizes))
}

/// Bytes of a tensor on the device, where matrices are in a format of rows.
fn bytes_of(mut entry: TensorInfo) -> u64 {
    if let Some(packing) = entry.format.matrix_layout() {
        entry.format = packing.rows;
    }
    entry.size().unwrap_or(u64::MAX)
}

/// Bytes of the weights of a file that are uploaded, as the file has them, or unpacked where they are unpacked when loaded.
pub(crate) fn uploaded(file: &File, headless: bool) -> u64 {
    let spec = Spec::of(file);
    let quant_method = spec.as_ref().map_or(QuantMethod::None, |spec| spec.quant_method.clone());
    // Folders of tied models may have a copy of the embedding.
    let idle_head = headless || spec.as_ref().is_ok_and(|spec| spec.tied);
    let made = spec.as_ref().ok().filter(|_| !headless).and_then(made_head);
    let weights = loaded(file, quant_method).filter(|entry| !(idle_head && is_head(&entry.name)));
    weights.chain(made).map(|entry| entry.size().unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// Bytes that a running model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights, as they are in the file, or unpacked where they are unpacked when loaded. When the file is mapped, the system may take its pages back.
    pub weights: u64,
    /// Keys and values of one sequence that fills the context.
    pub kv_cache: u64,
    /// Activations of the largest batch, at most.
    pub scratch: u64,
}

impl Memory {
    /// What a model takes with one sequence of `context` tokens, kept as `cache_type`, and batches of `batch`.
    pub fn of(file: &File, spec: &Spec, context: usize, batch: usize, cache_type: &'static Format) -> Memory {
        let blocks = context.div_ceil(BLOCK_LEN);
        let kv = KvShape {
            n_layers: spec.n_layers,
            n_kv_heads: spec.n_kv_heads,
            head_dim: spec.head_dim,
            blocks,
            block_len: BLOCK_LEN,
            format: cache_type,
        };
        let (q, kv_width) = (spec.n_heads * spec.head_dim, spec.n_kv_heads * spec.head_dim);
        // What lives at the end of a layer, as floats; and what linear layers made bytes of, with a scale and a sum per 32.
        let experts = spec
            .experts
            .as_ref()
            .map_or(0, |experts| experts.routing.top_k * (experts.intermediate_size + spec.hidden_size));
        let inner = spec.intermediate_size + experts;
        let floats = 8 * spec.hidden_size + 3 * q + 2 * kv_width + 5 * inner + spec.head_dim;
        let bytes = (2 * spec.hidden_size + q + inner) * 5 / 4;
        let batch = batch.min(context);
        let logits = spec.vocab_size * 2;
        let scratch = (batch as u64).saturating_mul((4 * floats + bytes) as u64) + 4 * logits as u64;
        Memory {
            weights: unpacked(file, distinct(file), spec.quant_method.clone())
                .chain(made_head(spec))
                .map(bytes_of)
                .fold(0, u64::saturating_add),
            kv_cache: kv.bytes().map_or(u64::MAX, |bytes| bytes as u64),
            scratch,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.scratch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn layouts_of_whole_matrices_are_uploaded_as_the_file_has_them() {
        for name in ["tl1.gguf", "tl2.gguf"] {
            let file =
                File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/ternary").join(name)).unwrap();
            assert!(file.tensors().any(|view| view.format.matrix_layout().is_some()), "{name}");
            let there = file.tensors().map(|view| view.bytes.len() as u64).sum();
            // TL2 may be padded.
            assert!(uploaded(&file, false).abs_diff(there) <= 32, "{name}");
        }
    }
}
