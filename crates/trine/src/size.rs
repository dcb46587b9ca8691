//! How large a model is, and how much memory it takes.

use crate::backend::KvShape;
use crate::engine::BLOCK_LEN;
use crate::model::{Packing, Spec};
use crate::tensor::File;
use crate::tensor::Format;
use crate::tensor::format::{BOOL, U8};

/// The weights of a model: everything in its file but tables that follow from its keys and the scales of packed weights.
pub fn parameters(file: &File) -> u64 {
    let packing = Spec::of(file).map_or(Packing::Plain, |spec| spec.packing);
    let follows = |name: &str| {
        name.starts_with("rope_f")
            || [
                ".inv_freq",
                ".attn.bias",
                ".attention.bias",
                ".masked_bias",
                "_scale",
                "_scales",
                "_scale_inv",
                ".scales",
                ".qzeros",
                ".g_idx",
            ]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let weights = file.tensors().filter(|view| !follows(&view.name) && view.format != &BOOL);
    weights
        .map(|view| {
            let numbers = (view.rows() * view.cols()) as u64;
            match packing {
                // Four trits to the byte, or two numbers of MXFP4.
                Packing::Times | Packing::Over if view.format == &U8 => 4 * numbers,
                _ if view.format == &U8 => 2 * numbers,
                // Words of 32 bits.
                Packing::Gptq { bits, .. } if view.name.ends_with(".qweight") => numbers * 32 / bits as u64,
                Packing::Awq { .. } if view.name.ends_with(".qweight") => 8 * numbers,
                _ => numbers,
            }
        })
        .sum()
}

/// Bytes that a running model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Weights, as they are in the file. When it is mapped, the system may take these pages back.
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
            layers: spec.layers,
            heads: spec.kv_heads,
            head_dim: spec.head_dim,
            blocks,
            block_len: BLOCK_LEN,
            format: cache_type,
        };
        let (q, kv_width) = (spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim);
        // What lives at the end of a layer, as floats; and what linear layers made bytes of, with a scale and a sum per 32.
        let experts = spec.experts.as_ref().map_or(0, |experts| experts.routing.used * (experts.width + spec.width));
        let inner = spec.feed_forward + experts;
        let floats = 8 * spec.width + 3 * q + 2 * kv_width + 5 * inner + spec.head_dim;
        let bytes = (2 * spec.width + q + inner) * 5 / 4;
        let batch = batch.min(context);
        let logits = spec.vocab * 2;
        let scratch = (batch as u64).saturating_mul((4 * floats + bytes) as u64) + 4 * logits as u64;
        Memory {
            weights: file.tensors().map(|view| view.bytes.len() as u64).sum(),
            kv_cache: kv.bytes().map_or(u64::MAX, |bytes| bytes as u64),
            scratch,
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.kv_cache).saturating_add(self.scratch)
    }
}
