//! OLMo 2, and OLMoE with experts.

use super::{AROUND, Arch, NormPlacement, QkNorm, llama::LLAMA};
use trine_backend::RopeLayout;

/// Norms behind both halves of a layer, and over all queries and all keys: arXiv:2501.00656.
pub static OLMO2: Arch = Arch {
    gguf: &["olmo2"],
    hub: &["olmo2"],
    pairs: RopeLayout::Halves,
    norm_placement: NormPlacement::Post,
    qk_norm: QkNorm::Row,
    heeds: &[],
    implied: &[],
    renamed: &AROUND,
    ..LLAMA
};

/// arXiv:2409.02060.
pub static OLMOE: Arch = Arch {
    gguf: &["olmoe"],
    hub: &["olmoe"],
    pairs: RopeLayout::Halves,
    qk_norm: QkNorm::Row,
    implied: &[],
    renamed: &[],
    ..LLAMA
};
