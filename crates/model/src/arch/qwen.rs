//! Qwen 2, 2.5 and 3, with and without experts.

use super::{Arch, QkNorm};

/// Biases on queries, keys and values (arXiv:2407.10671).
pub static QWEN2: Arch = Arch { gguf: &["qwen2"], hf: &["qwen2"], qkv_bias: true, ..Arch::NEUTRAL };

/// Queries and keys normed per head (arXiv:2505.09388).
pub static QWEN3: Arch = Arch { gguf: &["qwen3"], hf: &["qwen3"], qk_norm: QkNorm::Shared, ..Arch::NEUTRAL };

/// Routed experts beside a shared one.
pub static QWEN2_MOE: Arch = Arch {
    gguf: &["qwen2moe"],
    hf: &["qwen2_moe"],
    global_every: 2,
    supported_keys: &["expert_count"],
    hf_names: &[
        ("blk.{}.ffn_gate_inp_shexp", "model.layers.{}.mlp.shared_expert_gate"),
        ("blk.{}.ffn_gate_shexp", "model.layers.{}.mlp.shared_expert.gate_proj"),
        ("blk.{}.ffn_up_shexp", "model.layers.{}.mlp.shared_expert.up_proj"),
        ("blk.{}.ffn_down_shexp", "model.layers.{}.mlp.shared_expert.down_proj"),
    ],
    ..QWEN2
};

/// Routed experts alone.
pub static QWEN3_MOE: Arch = Arch {
    gguf: &["qwen3moe"],
    hf: &["qwen3_moe"],
    supported_keys: &["expert_count"],
    default_keys: &[("expert_weights_norm", 1.0)],
    ..QWEN3
};
