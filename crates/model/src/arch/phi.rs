//! Phi 2, 3 and 4.

use super::{Arch, NormKind};
use trine_backend::Activation;

/// Attention and feed-forward in parallel after one norm; rope on a part of each head.
pub static PHI2: Arch = Arch {
    gguf: &["phi2"],
    hf: &["phi"],
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    parallel_residual: true,
    optional: &["ffn_norm", "output.bias"],
    hf_names: &[
        ("output_norm", "model.final_layernorm"),
        ("blk.{}.attn_output", "model.layers.{}.self_attn.dense"),
        ("blk.{}.ffn_up", "model.layers.{}.mlp.fc1"),
        ("blk.{}.ffn_down", "model.layers.{}.mlp.fc2"),
    ],
    ..Arch::NEUTRAL
};

/// Phi 3 and 4 (arXiv:2404.14219). Files have queries, keys and values in one matrix, and gate and up in another.
pub static PHI3: Arch = Arch {
    gguf: &["phi3"],
    hf: &["phi3"],
    gguf_fused: true,
    hf_names: &[("blk.{}.ffn_up", "model.layers.{}.mlp.gate_up_proj")],
    ..Arch::NEUTRAL
};
