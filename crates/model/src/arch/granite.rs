//! Granite 3: Llama with factors on embeddings, scores, sums and logits; with experts, too.

use super::{Arch, llama::LLAMA};
use crate::weights::{Part, Source, halves_of_experts};

/// The factors are Power's (arXiv:2408.13359).
pub static GRANITE: Arch = Arch {
    gguf: &["granite"],
    hub: &["granite"],
    divided_logits: true,
    heeds: &["attention.scale", "embedding_scale", "residual_scale", "logit_scale"],
    implied: &[],
    renamed: &[],
    ..LLAMA
};

/// Hugging Face keeps gate and up of all experts in one tensor.
pub static GRANITE_MOE: Arch = Arch {
    gguf: &["granitemoe"],
    hub: &["granitemoe"],
    heeds: &["attention.scale", "embedding_scale", "residual_scale", "logit_scale", "expert_count"],
    implied: &[("expert_weights_norm", 1.0)],
    recipe: Some(recipe),
    renamed: &[
        ("blk.{}.ffn_gate_inp", "model.layers.{}.block_sparse_moe.router.layer"),
        ("blk.{}.ffn_down_exps", "model.layers.{}.block_sparse_moe.output_linear"),
    ],
    ..GRANITE
};

fn recipe(source: &Source, layer: &str, part: Part) -> crate::Result<Option<trine_tensor::View>> {
    let half = match part {
        ("ffn_gate_exps", "weight") => 0,
        ("ffn_up_exps", "weight") => 1,
        _ => return Ok(None),
    };
    let both = source.view(&format!("model.layers.{layer}.block_sparse_moe.input_linear.weight"))?;
    halves_of_experts(&both, half).map(Some)
}
