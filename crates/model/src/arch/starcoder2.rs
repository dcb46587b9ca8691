//! StarCoder 2: layer norms, biases everywhere, a plain feed-forward layer, and a window.

use super::{Arch, NormKind, llama::LLAMA};
use trine_backend::{Activation, RopeLayout};

/// arXiv:2402.19173.
pub static STARCODER2: Arch = Arch {
    gguf: &["starcoder2"],
    hub: &["starcoder2"],
    pairs: RopeLayout::Halves,
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    heeds: &[],
    implied: &[],
    renamed: &[("blk.{}.ffn_up", "model.layers.{}.mlp.c_fc"), ("blk.{}.ffn_down", "model.layers.{}.mlp.c_proj")],
    ..LLAMA
};
