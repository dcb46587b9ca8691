//! SmolLM 3: Llama without rope in every fourth layer.

use super::Arch;
use trine_backend::RopeLayout;

/// NoPE, arXiv:2501.18795.
pub static SMOLLM3: Arch =
    Arch { gguf: &["smollm3"], hf: &["smollm3"], pairs: RopeLayout::Adjacent, nope_every: 4, ..Arch::NEUTRAL };
