//! OLMo 2, and OLMoE with experts.

use super::{Arch, NormPlacement, POST_NORM_NAMES, QkNorm};

/// Norms after both halves of a layer, and over all queries and all keys (arXiv:2501.00656).
pub static OLMO2: Arch = Arch {
    gguf: &["olmo2"],
    hf: &["olmo2"],
    norm_placement: NormPlacement::Post,
    qk_norm: QkNorm::Row,
    hf_names: &POST_NORM_NAMES,
    ..Arch::NEUTRAL
};

/// arXiv:2409.02060.
pub static OLMOE: Arch =
    Arch { gguf: &["olmoe"], hf: &["olmoe"], qk_norm: QkNorm::Row, supported_keys: &["expert_count"], ..Arch::NEUTRAL };
