//! Llama, and what is built like it: Mistral, Falcon 3, SmolLM 2, their ternary versions; and Mixtral, with experts.

use super::Arch;
use trine_backend::RopeLayout;

/// arXiv:2302.13971, arXiv:2310.06825, arXiv:2401.04088.
pub static LLAMA: Arch = Arch {
    gguf: &["llama"],
    hf: &["llama", "mistral", "ministral", "mixtral"],
    pairs: RopeLayout::Adjacent,
    default_keys: &[("expert_weights_norm", 1.0)],
    supported_keys: &["expert_count"],
    hf_names: &[
        ("blk.{}.ffn_gate_inp", "model.layers.{}.block_sparse_moe.gate"),
        ("blk.{}.ffn_gate_exps", "model.layers.{}.block_sparse_moe.experts.[].w1"),
        ("blk.{}.ffn_down_exps", "model.layers.{}.block_sparse_moe.experts.[].w2"),
        ("blk.{}.ffn_up_exps", "model.layers.{}.block_sparse_moe.experts.[].w3"),
    ],
    ..Arch::NEUTRAL
};

/// Ministral 3, which scales queries by their position. GGUF files of Mistral Small 3.1 have the same name.
pub static MISTRAL3: Arch = Arch {
    gguf: &["mistral3"],
    hf: &["ministral3"],
    pairs: RopeLayout::Adjacent,
    supported_keys: &["attention.temperature_scale"],
    ..Arch::NEUTRAL
};
