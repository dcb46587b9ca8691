//! GPT-2, and GPT-NeoX with Pythia.

use super::{Arch, NormKind};
use trine_backend::Activation;

/// Learned positions.
pub static GPT2: Arch = Arch {
    gguf: &["gpt2"],
    hf: &["gpt2"],
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    learned_positions: true,
    hf_transposed: true,
    hf_names: &[
        ("token_embd", "transformer.wte"),
        ("position_embd", "transformer.wpe"),
        ("output_norm", "transformer.ln_f"),
        ("blk.{}.attn_norm", "transformer.h.{}.ln_1"),
        ("blk.{}.attn_qkv", "transformer.h.{}.attn.c_attn"),
        ("blk.{}.attn_output", "transformer.h.{}.attn.c_proj"),
        ("blk.{}.ffn_norm", "transformer.h.{}.ln_2"),
        ("blk.{}.ffn_up", "transformer.h.{}.mlp.c_fc"),
        ("blk.{}.ffn_down", "transformer.h.{}.mlp.c_proj"),
    ],
    ..Arch::NEUTRAL
};

/// Attention and feed-forward in parallel, each with a norm of its own (arXiv:2204.06745, arXiv:2304.01373).
pub static GPT_NEOX: Arch = Arch {
    gguf: &["gptneox"],
    hf: &["gpt_neox"],
    norm: NormKind::Layer,
    activation: Activation::Gelu,
    gated: false,
    parallel_residual: true,
    supported_keys: &["use_parallel_residual"],
    hf_qkv_by_head: true,
    hf_names: &[
        ("token_embd", "gpt_neox.embed_in"),
        ("output_norm", "gpt_neox.final_layer_norm"),
        ("output", "embed_out"),
        ("blk.{}.attn_norm", "gpt_neox.layers.{}.input_layernorm"),
        ("blk.{}.attn_qkv", "gpt_neox.layers.{}.attention.query_key_value"),
        ("blk.{}.attn_output", "gpt_neox.layers.{}.attention.dense"),
        ("blk.{}.ffn_norm", "gpt_neox.layers.{}.post_attention_layernorm"),
        ("blk.{}.ffn_up", "gpt_neox.layers.{}.mlp.dense_h_to_4h"),
        ("blk.{}.ffn_down", "gpt_neox.layers.{}.mlp.dense_4h_to_h"),
    ],
    ..Arch::NEUTRAL
};
