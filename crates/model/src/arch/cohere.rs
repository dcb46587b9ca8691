//! Command R and R7B: attention and feed-forward in parallel after one norm, scaled logits.

use super::{Arch, NormKind, QkNorm};
use trine_backend::RopeLayout;

/// Hugging Face rotates adjacent elements here, as GGUF does.
pub static COMMAND_R: Arch = Arch {
    gguf: &["command-r"],
    hf: &["cohere"],
    pairs: RopeLayout::Adjacent,
    hf_pairs: RopeLayout::Adjacent,
    norm: NormKind::Layer,
    qk_norm: QkNorm::PerHead,
    parallel_residual: true,
    supported_keys: &["logit_scale"],
    optional: &["ffn_norm", "attn_q_norm", "attn_k_norm"],
    ..Arch::NEUTRAL
};

/// Sliding windows in three of four layers; the others have no rope.
pub static COHERE2: Arch = Arch {
    gguf: &["cohere2"],
    hf: &["cohere2"],
    pairs: RopeLayout::Adjacent,
    hf_pairs: RopeLayout::Adjacent,
    norm: NormKind::Layer,
    parallel_residual: true,
    global_every: 4,
    global_nope: true,
    supported_keys: &["logit_scale"],
    optional: &["ffn_norm"],
    ..Arch::NEUTRAL
};
