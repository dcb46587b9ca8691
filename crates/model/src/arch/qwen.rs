//! Qwen 2, 2.5 and 3, with and without experts.

use super::{Arch, QkNorm, llama::LLAMA};
use trine_backend::RopeLayout;

/// Llama with biases on queries, keys and values: arXiv:2407.10671.
pub static QWEN2: Arch = Arch {
    gguf: &["qwen2"],
    hub: &["qwen2"],
    biased: true,
    pairs: RopeLayout::Halves,
    heeds: &[],
    implied: &[],
    renamed: &[],
    ..LLAMA
};

/// Llama with queries and keys normed per head: arXiv:2505.09388.
pub static QWEN3: Arch = Arch { gguf: &["qwen3"], hub: &["qwen3"], qk_norm: QkNorm::Shared, biased: false, ..QWEN2 };

/// Experts beside one that all tokens share.
pub static QWEN2_MOE: Arch = Arch {
    gguf: &["qwen2moe"],
    hub: &["qwen2_moe"],
    heeds: &["expert_count"],
    renamed: &[
        ("blk.{}.ffn_gate_inp_shexp", "model.layers.{}.mlp.shared_expert_gate"),
        ("blk.{}.ffn_gate_shexp", "model.layers.{}.mlp.shared_expert.gate_proj"),
        ("blk.{}.ffn_up_shexp", "model.layers.{}.mlp.shared_expert.up_proj"),
        ("blk.{}.ffn_down_shexp", "model.layers.{}.mlp.shared_expert.down_proj"),
    ],
    ..QWEN2
};

/// Experts alone.
pub static QWEN3_MOE: Arch = Arch {
    gguf: &["qwen3moe"],
    hub: &["qwen3_moe"],
    heeds: &["expert_count"],
    implied: &[("expert_weights_norm", 1.0)],
    ..QWEN3
};
