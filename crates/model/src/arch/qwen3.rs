//! Qwen 3: Llama with queries and keys normed per head.

use super::{Arch, llama::LLAMA};
use trine_backend::Pairs;

/// arXiv:2505.09388.
pub static QWEN3: Arch =
    Arch { gguf: &["qwen3"], hub: &[("qwen3", Some("silu"))], pairs: Pairs::Halves, head_norms: true, ..LLAMA };
