//! BitNet b1.58: ternary weights, inputs of linear layers rounded to 8 bits, and norms before the last linear layer of each half.

use super::{Arch, llama::LLAMA};
use trine_backend::{Activation, RopeLayout};

/// arXiv:2402.17764, with SiLU.
pub static BITNET: Arch = Arch {
    gguf: &["bitnet"],
    hub: &["bitnet"],
    pairs: RopeLayout::Halves,
    sub_norms: true,
    bit_linear: true,
    heeds: &[],
    implied: &[],
    renamed: &[],
    ..LLAMA
};

/// BitNet b1.58 2B-4T (arXiv:2504.12285): squared ReLU and a tied embedding.
pub static BITNET_B158: Arch =
    Arch { gguf: &["bitnet-b1.58", "bitnet-25"], hub: &["bitnet"], activation: Activation::Relu2, ..BITNET };
