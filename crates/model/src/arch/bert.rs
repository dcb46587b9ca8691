//! BERT and what embedding models made of it.

use super::{Arch, NormKind, Norms, llama::LLAMA};
use trine_backend::{Gate, Pairs};

/// arXiv:1810.04805.
pub static BERT: Arch = Arch {
    gguf: &["bert"],
    hub: &[("bert", Some("gelu"))],
    norm: NormKind::Layer,
    norms: Norms::Sums,
    gate: Gate::Gelu,
    gated: false,
    learned_positions: true,
    encoder: true,
    heeds: &["attention.causal"],
    implied: &[],
    renamed: &[
        ("token_embd", "embeddings.word_embeddings"),
        ("position_embd", "embeddings.position_embeddings"),
        ("token_types", "embeddings.token_type_embeddings"),
        ("token_embd_norm", "embeddings.LayerNorm"),
        ("blk.{}.attn_q", "encoder.layer.{}.attention.self.query"),
        ("blk.{}.attn_k", "encoder.layer.{}.attention.self.key"),
        ("blk.{}.attn_v", "encoder.layer.{}.attention.self.value"),
        ("blk.{}.attn_output", "encoder.layer.{}.attention.output.dense"),
        ("blk.{}.attn_output_norm", "encoder.layer.{}.attention.output.LayerNorm"),
        ("blk.{}.ffn_up", "encoder.layer.{}.intermediate.dense"),
        ("blk.{}.ffn_down", "encoder.layer.{}.output.dense"),
        ("blk.{}.layer_output_norm", "encoder.layer.{}.output.LayerNorm"),
    ],
    ..LLAMA
};

/// Rotations and gates in place of learned positions and plain layers (arXiv:2402.01613).
pub static NOMIC_BERT: Arch = Arch {
    gguf: &["nomic-bert"],
    hub: &[("nomic_bert", None)],
    pairs: Pairs::Halves,
    gate: Gate::Silu,
    gated: true,
    learned_positions: false,
    renamed: &[
        ("token_embd", "embeddings.word_embeddings"),
        ("token_types", "embeddings.token_type_embeddings"),
        ("token_embd_norm", "emb_ln"),
        ("blk.{}.attn_qkv", "encoder.layers.{}.attn.Wqkv"),
        ("blk.{}.attn_output", "encoder.layers.{}.attn.out_proj"),
        ("blk.{}.attn_output_norm", "encoder.layers.{}.norm1"),
        ("blk.{}.ffn_up", "encoder.layers.{}.mlp.fc11"),
        ("blk.{}.ffn_gate", "encoder.layers.{}.mlp.fc12"),
        ("blk.{}.ffn_down", "encoder.layers.{}.mlp.fc2"),
        ("blk.{}.layer_output_norm", "encoder.layers.{}.norm2"),
    ],
    ..BERT
};
