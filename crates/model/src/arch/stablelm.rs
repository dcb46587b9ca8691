//! StableLM 2: layer norms, a part of each head turned, sometimes both halves of a layer in parallel and heads normed alone.

use super::{Arch, NormKind, QkNorm, llama::LLAMA};
use crate::weights::{Part, Source, stack};
use trine_backend::RopeLayout;

/// arXiv:2402.17834.
pub static STABLELM: Arch = Arch {
    gguf: &["stablelm"],
    hub: &["stablelm"],
    pairs: RopeLayout::Halves,
    norm: NormKind::Layer,
    qk_norm: QkNorm::Own,
    optional: &["ffn_norm", "attn_q_norm", "attn_k_norm"],
    heeds: &["use_parallel_residual"],
    implied: &[],
    recipe: Some(recipe),
    renamed: &[],
    ..LLAMA
};

/// Hugging Face has a tensor for the norm of each head.
fn recipe(source: &Source, layer: &str, part: Part) -> crate::Result<Option<trine_tensor::View>> {
    let which = match part {
        ("attn_q_norm", "weight") => "q_layernorm",
        ("attn_k_norm", "weight") => "k_layernorm",
        _ => return Ok(None),
    };
    let name = |head: usize| format!("model.layers.{layer}.self_attn.{which}.norms.{head}.weight");
    let mut heads = Vec::new();
    while source.contains(&name(heads.len())) {
        heads.push(source.view(&name(heads.len()))?);
    }
    if heads.is_empty() { Ok(None) } else { stack(&name(0), &heads).map(Some) }
}
