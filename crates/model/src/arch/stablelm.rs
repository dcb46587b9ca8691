//! StableLM 2: layer norms, rope on a part of each head, sometimes a parallel residual and norms per head.

use super::{Arch, NormKind, QkNorm, TensorRule};
use crate::Result;
use crate::file_weights::FileWeights;
use crate::slice::stack;
use trine_tensor::View;

/// arXiv:2402.17834.
pub static STABLELM: Arch = Arch {
    gguf: &["stablelm"],
    hf: &["stablelm"],
    norm: NormKind::Layer,
    qk_norm: QkNorm::PerHead,
    optional: &["ffn_norm", "attn_q_norm", "attn_k_norm"],
    supported_keys: &["use_parallel_residual"],
    // The norm of each head is a tensor of its own.
    hf_rules: &[
        TensorRule {
            part: "attn_q_norm.weight",
            from: "model.layers.{}.self_attn.q_layernorm.norms.0.weight",
            read: norms_of_heads,
        },
        TensorRule {
            part: "attn_k_norm.weight",
            from: "model.layers.{}.self_attn.k_layernorm.norms.0.weight",
            read: norms_of_heads,
        },
    ],
    ..Arch::NEUTRAL
};

fn norms_of_heads(file: &FileWeights, first: &str) -> Result<View> {
    let name = |head: usize| first.replace(".norms.0.", &format!(".norms.{head}."));
    let names = (0..).map(name).take_while(|name| file.contains(name));
    stack(first, &names.map(|name| file.view(&name)).collect::<Result<Vec<View>>>()?)
}
