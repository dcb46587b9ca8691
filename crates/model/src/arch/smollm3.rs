//! SmolLM 3: Llama that does not turn every fourth layer (arXiv:2501.18795).

use super::{Arch, llama::LLAMA};

/// As GGUF and Hugging Face have it.
pub static SMOLLM3: Arch =
    Arch { gguf: &["smollm3"], hub: &["smollm3"], unturned_every: 4, heeds: &[], implied: &[], renamed: &[], ..LLAMA };
