//! StarCoder 2: layer norms, biases everywhere, a feed-forward layer without a gate, and a sliding window.

use super::{Arch, NormKind};
use trine_backend::Activation;

/// arXiv:2402.19173.
pub static STARCODER2: Arch = Arch {
    gguf: &["starcoder2"],
    hf: &["starcoder2"],
    norm: NormKind::Layer,
    activation: Activation::GeluTanh,
    gated: false,
    hf_names: &[("blk.{}.ffn_up", "model.layers.{}.mlp.c_fc"), ("blk.{}.ffn_down", "model.layers.{}.mlp.c_proj")],
    ..Arch::NEUTRAL
};
