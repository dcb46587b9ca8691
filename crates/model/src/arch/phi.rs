//! Phi 2, 3 and 4.

use super::{Arch, NormKind, llama::LLAMA};
use trine_backend::{Activation, RopeLayout};

/// Both halves of a layer in parallel behind one norm; half of each head turns.
pub static PHI2: Arch = Arch {
    gguf: &["phi2"],
    hub: &["phi"],
    pairs: RopeLayout::Halves,
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    parallel_residual: true,
    optional: &["ffn_norm"],
    heeds: &[],
    implied: &[],
    renamed: &[
        ("output_norm", "model.final_layernorm"),
        ("blk.{}.attn_output", "model.layers.{}.self_attn.dense"),
        ("blk.{}.ffn_up", "model.layers.{}.mlp.fc1"),
        ("blk.{}.ffn_down", "model.layers.{}.mlp.fc2"),
    ],
    ..LLAMA
};

/// Phi 3 and 4: arXiv:2404.14219. Files have queries, keys and values in one matrix, and gate and up in another.
pub static PHI3: Arch = Arch {
    gguf: &["phi3"],
    hub: &["phi3"],
    pairs: RopeLayout::Halves,
    heeds: &[],
    implied: &[],
    renamed: &[("blk.{}.ffn_up", "model.layers.{}.mlp.gate_up_proj")],
    ..LLAMA
};
