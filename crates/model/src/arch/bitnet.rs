//! BitNet b1.58: ternary weights, 8-bit inputs of linear layers, and norms before the last linear layer of each half.

use super::Arch;
use trine_backend::Activation;

/// arXiv:2402.17764, with SiLU.
pub static BITNET: Arch =
    Arch { gguf: &["bitnet"], hf: &["bitnet"], sub_norms: true, bit_linear: true, ..Arch::NEUTRAL };

/// BitNet b1.58 2B-4T (arXiv:2504.12285): squared ReLU and a tied embedding.
pub static BITNET_B158: Arch = Arch { gguf: &["bitnet-b1.58", "bitnet-25"], activation: Activation::Relu2, ..BITNET };
