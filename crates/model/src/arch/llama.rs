//! Llama, and everything built like it: Mistral, Falcon 3, SmolLM 2, their ternary versions; and Mixtral, with experts.

use super::{Arch, NormKind, NormPlacement, QkNorm};
use trine_backend::{Activation, RopeLayout};

/// arXiv:2302.13971, arXiv:2310.06825, arXiv:2401.04088.
pub static LLAMA: Arch = Arch {
    gguf: &["llama"],
    hub: &["llama", "mistral", "ministral", "mixtral"],
    pairs: RopeLayout::Adjacent,
    hub_pairs: RopeLayout::Halves,
    norm: NormKind::Rms,
    norm_placement: NormPlacement::Pre,
    activation: Activation::Silu,
    hf_activations: &[],
    gated: true,
    qk_norm: QkNorm::None,
    biased: false,
    sub_norms: false,
    bit_linear: false,
    parallel_residual: false,
    mla: false,
    learned_positions: false,
    global_every: 0,
    global_first: false,
    global_unturned: false,
    unturned_every: 0,
    embedding_norm: false,
    scaled_embedding: false,
    divided_logits: false,
    sinks: false,
    encoder: false,
    implied: &[("expert_weights_norm", 1.0)],
    hub_implied: &[],
    heeds: &["expert_count"],
    optional: &[],
    hub_gain: 0.0,
    hub_transposed: false,
    hub_by_head: false,
    recipe: None,
    renamed: &[
        ("blk.{}.ffn_gate_inp", "model.layers.{}.block_sparse_moe.gate"),
        ("blk.{}.ffn_gate_exps", "model.layers.{}.block_sparse_moe.experts.[].w1"),
        ("blk.{}.ffn_down_exps", "model.layers.{}.block_sparse_moe.experts.[].w2"),
        ("blk.{}.ffn_up_exps", "model.layers.{}.block_sparse_moe.experts.[].w3"),
    ],
    aliases: &[],
    scaled_by_width: &[],
};

/// Ministral 3, whose queries grow with their positions; the name that GGUF files of Mistral Small 3.1 have, too.
pub static MISTRAL3: Arch = Arch {
    gguf: &["mistral3"],
    hub: &["ministral3"],
    implied: &[],
    heeds: &["attention.temperature_scale"],
    renamed: &[],
    ..LLAMA
};
