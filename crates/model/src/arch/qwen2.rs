//! Qwen 2 and 2.5: Llama with biases on queries, keys and values.

use super::{Arch, llama::LLAMA};
use trine_backend::Pairs;

/// arXiv:2407.10671.
pub static QWEN2: Arch = Arch { gguf: &["qwen2"], hub: &[("qwen2", Some("silu"))], pairs: Pairs::Halves, ..LLAMA };
