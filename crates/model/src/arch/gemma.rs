//! Gemma, Gemma 2 and the text part of Gemma 3.

use super::{AROUND, Arch, NormPlacement, QkNorm, llama::LLAMA};
use trine_backend::{Activation, RopeLayout};

/// arXiv:2403.08295. GGUF files hold the gains of norms with the one already added.
pub static GEMMA: Arch = Arch {
    gguf: &["gemma"],
    hub: &["gemma"],
    pairs: RopeLayout::Halves,
    activation: Activation::GeluTanh,
    hf_activations: &["gelu"],
    scaled_embedding: true,
    hub_gain: 1.0,
    heeds: &[],
    implied: &[],
    renamed: &[],
    ..LLAMA
};

/// Windows in every other layer, norms on both sides, capped scores and logits: arXiv:2408.00118.
pub static GEMMA2: Arch = Arch {
    gguf: &["gemma2"],
    hub: &["gemma2"],
    hf_activations: &[],
    norm_placement: NormPlacement::Sandwich,
    global_every: 2,
    scaled_by_width: &[46],
    heeds: &["attn_logit_softcapping", "final_logit_softcapping", "attention.scale"],
    implied: &[("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)],
    renamed: &AROUND,
    ..GEMMA
};

/// Windows in five of six layers, with frequencies of their own: arXiv:2503.19786.
pub static GEMMA3: Arch = Arch {
    gguf: &["gemma3"],
    hub: &["gemma3_text"],
    global_every: 6,
    scaled_by_width: &[62],
    qk_norm: QkNorm::Shared,
    heeds: &["attention.scale", "final_logit_softcapping", "attn_logit_softcapping"],
    implied: &[("rope.freq_base", 1e6), ("rope.freq_base_swa", 10000.0)],
    hub_implied: &[
        ("context_length", 131_072.0),
        ("attention.head_count", 8.0),
        ("attention.head_count_kv", 4.0),
        ("attention.key_length", 256.0),
        ("attention.layer_norm_rms_epsilon", 1e-6),
        ("attention.sliding_window", 4096.0),
    ],
    ..GEMMA2
};

/// Gemma 3 that sees ahead, for embeddings: arXiv:2509.20354.
pub static GEMMA_EMBEDDING: Arch = Arch {
    gguf: &["gemma-embedding"],
    hub: &["gemma3_text_bidirectional"],
    heeds: &["attention.scale", "attention.causal"],
    encoder: true,
    ..GEMMA3
};
