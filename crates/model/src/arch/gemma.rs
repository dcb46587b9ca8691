//! Gemma, Gemma 2 and the text part of Gemma 3.

use super::{Arch, NormPlacement, POST_NORM_NAMES, QkNorm};
use trine_backend::Activation;

/// arXiv:2403.08295. GGUF files store the weights of norms with the offset already added.
pub static GEMMA: Arch = Arch {
    gguf: &["gemma"],
    hf: &["gemma"],
    activation: Activation::GeluTanh,
    hf_activations: &["gelu"],
    scaled_embedding: true,
    hf_norm_offset: 1.0,
    ..Arch::NEUTRAL
};

/// Sliding windows in every other layer, sandwich norms, softcapped scores and logits (arXiv:2408.00118).
pub static GEMMA2: Arch = Arch {
    gguf: &["gemma2"],
    hf: &["gemma2"],
    norm_placement: NormPlacement::Sandwich,
    activation: Activation::GeluTanh,
    global_every: 2,
    scaled_embedding: true,
    hidden_query_scalar: &[46],
    supported_keys: &["attn_logit_softcapping", "final_logit_softcapping", "attention.scale"],
    default_keys: &[("attn_logit_softcapping", 50.0), ("final_logit_softcapping", 30.0)],
    hf_norm_offset: 1.0,
    hf_names: &POST_NORM_NAMES,
    ..Arch::NEUTRAL
};

/// Sliding windows in five of six layers, with a rope base of their own (arXiv:2503.19786).
pub static GEMMA3: Arch = Arch {
    gguf: &["gemma3"],
    hf: &["gemma3_text"],
    norm_placement: NormPlacement::Sandwich,
    activation: Activation::GeluTanh,
    qk_norm: QkNorm::Shared,
    global_every: 6,
    scaled_embedding: true,
    hidden_query_scalar: &[62],
    supported_keys: &["attention.scale", "final_logit_softcapping"],
    default_keys: &[("rope.freq_base", 1e6), ("rope.freq_base_swa", 10000.0)],
    hf_norm_offset: 1.0,
    hf_names: &POST_NORM_NAMES,
    ..Arch::NEUTRAL
};

/// Gemma 3 with bidirectional attention, for embeddings (arXiv:2509.20354).
pub static GEMMA_EMBEDDING: Arch = Arch {
    gguf: &["gemma-embedding"],
    hf: &["gemma3_text_bidirectional"],
    supported_keys: &["attention.scale", "attention.causal"],
    encoder: true,
    ..GEMMA3
};
