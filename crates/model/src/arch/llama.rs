//! Llama, and everything built like it: Mistral without a window, Falcon 3, SmolLM 2, their ternary versions.

use super::Arch;
use trine_backend::{Gate, Pairs};

/// arXiv:2302.13971.
pub static LLAMA: Arch = Arch {
    gguf: &["llama"],
    hub: &[("llama", Some("silu"))],
    pairs: Pairs::Adjacent,
    gate: Gate::Silu,
    head_norms: false,
    sub_norms: false,
    bit_linear: false,
    renamed: &[],
};
