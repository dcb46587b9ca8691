//! Command R and R7B: both halves of a layer in parallel behind one norm, scaled logits.

use super::{Arch, NormKind, QkNorm, llama::LLAMA};
use trine_backend::RopeLayout;

/// Hugging Face turns adjacent numbers here, as GGUF does.
pub static COMMAND_R: Arch = Arch {
    gguf: &["command-r"],
    hub: &["cohere"],
    hub_pairs: RopeLayout::Adjacent,
    norm: NormKind::Layer,
    qk_norm: QkNorm::Own,
    parallel_residual: true,
    heeds: &["logit_scale"],
    optional: &["ffn_norm", "attn_q_norm", "attn_k_norm"],
    implied: &[],
    // What stands before the feed-forward layer elsewhere is the norm of both here.
    renamed: &[],
    ..LLAMA
};

/// Windows in three of four layers; the others do not turn queries and keys.
pub static COHERE2: Arch = Arch {
    gguf: &["cohere2"],
    hub: &["cohere2"],
    qk_norm: QkNorm::None,
    global_every: 4,
    global_unturned: true,
    ..COMMAND_R
};
