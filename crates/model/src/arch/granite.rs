//! Granite 3: Llama with factors on embeddings, scores, residuals and logits; with experts, too.

use super::{Arch, TensorRule};
use crate::slice::half_of_each;
use trine_backend::RopeLayout;

/// The factors are those of the Power scheduler's paper (arXiv:2408.13359).
pub static GRANITE: Arch = Arch {
    gguf: &["granite"],
    hf: &["granite"],
    pairs: RopeLayout::Adjacent,
    divided_logits: true,
    supported_keys: &["attention.scale", "embedding_scale", "residual_scale", "logit_scale"],
    ..Arch::NEUTRAL
};

const GATE_UP: &str = "model.layers.{}.block_sparse_moe.input_linear.weight";

pub static GRANITE_MOE: Arch = Arch {
    gguf: &["granitemoe"],
    hf: &["granitemoe"],
    supported_keys: &["attention.scale", "embedding_scale", "residual_scale", "logit_scale", "expert_count"],
    default_keys: &[("expert_weights_norm", 1.0)],
    // Gate and up of all experts are one tensor.
    hf_rules: &[
        TensorRule {
            part: "ffn_gate_exps.weight",
            from: GATE_UP,
            read: |file, name| half_of_each(&file.view(name)?, 0),
        },
        TensorRule { part: "ffn_up_exps.weight", from: GATE_UP, read: |file, name| half_of_each(&file.view(name)?, 1) },
    ],
    hf_names: &[
        ("blk.{}.ffn_gate_inp", "model.layers.{}.block_sparse_moe.router.layer"),
        ("blk.{}.ffn_down_exps", "model.layers.{}.block_sparse_moe.output_linear"),
    ],
    ..GRANITE
};
