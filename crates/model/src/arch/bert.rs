//! BERT, and the embedding models derived from it.

use super::{Arch, NormKind, NormPlacement};
use trine_backend::Activation;

/// arXiv:1810.04805.
pub static BERT: Arch = Arch {
    gguf: &["bert"],
    hf: &["bert"],
    norm: NormKind::Layer,
    norm_placement: NormPlacement::PostResidual,
    activation: Activation::Gelu,
    gated: false,
    learned_positions: true,
    embedding_norm: true,
    encoder: true,
    supported_keys: &["attention.causal"],
    hf_names: &[
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
    ..Arch::NEUTRAL
};

/// Rope and gated feed-forward layers (arXiv:2402.01613).
pub static NOMIC_BERT: Arch = Arch {
    gguf: &["nomic-bert"],
    hf: &["nomic_bert"],
    norm: NormKind::Layer,
    norm_placement: NormPlacement::PostResidual,
    hf_activations: &["swiglu"],
    embedding_norm: true,
    encoder: true,
    supported_keys: &["attention.causal"],
    hf_names: &[
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
    ..Arch::NEUTRAL
};

/// Pre-norm, sliding windows in two of three layers, no biases (arXiv:2412.13663). The first layer has no attention norm.
pub static MODERN_BERT: Arch = Arch {
    gguf: &["modern-bert"],
    hf: &["modernbert"],
    norm: NormKind::Layer,
    activation: Activation::Gelu,
    global_every: 3,
    global_first: true,
    embedding_norm: true,
    encoder: true,
    optional: &["attn_norm"],
    supported_keys: &["attention.causal"],
    default_keys: &[("rope.freq_base", 160000.0), ("rope.freq_base_swa", 10000.0)],
    hf_names: &[
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
    ..Arch::NEUTRAL
};
