//! BERT and what embedding models made of it.

use super::{Arch, NormKind, NormPlacement, llama::LLAMA};
use trine_backend::{Activation, RopeLayout};

/// arXiv:1810.04805.
pub static BERT: Arch = Arch {
    gguf: &["bert"],
    hub: &["bert"],
    norm: NormKind::Layer,
    norm_placement: NormPlacement::PostResidual,
    activation: Activation::Gelu,
    gated: false,
    learned_positions: true,
    embedding_norm: true,
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
    hub: &["nomic_bert"],
    pairs: RopeLayout::Halves,
    activation: Activation::Silu,
    hf_activations: &["swiglu"],
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

/// Norms before, windows in two of three layers, no biases (arXiv:2412.13663). The first layer's input is normed already.
pub static MODERN_BERT: Arch = Arch {
    gguf: &["modern-bert"],
    hub: &["modernbert"],
    pairs: RopeLayout::Halves,
    norm_placement: NormPlacement::Pre,
    hf_activations: &[],
    gated: true,
    learned_positions: false,
    global_every: 3,
    global_first: true,
    optional: &["attn_norm"],
    implied: &[("rope.freq_base", 160000.0), ("rope.freq_base_swa", 10000.0)],
    renamed: &[
        ("token_embd", "embeddings.tok_embeddings"),
        ("token_embd_norm", "embeddings.norm"),
        ("output_norm", "final_norm"),
        ("blk.{}.attn_norm", "layers.{}.attn_norm"),
        ("blk.{}.attn_qkv", "layers.{}.attn.Wqkv"),
        ("blk.{}.attn_output", "layers.{}.attn.Wo"),
        ("blk.{}.ffn_norm", "layers.{}.mlp_norm"),
        ("blk.{}.ffn_up", "layers.{}.mlp.Wi"),
        ("blk.{}.ffn_down", "layers.{}.mlp.Wo"),
    ],
    ..BERT
};
