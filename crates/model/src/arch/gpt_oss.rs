//! gpt-oss: experts with biases and clamped gates, windows in every other layer, and sinks.

use super::{Arch, llama::LLAMA};
use crate::weights::{Part, Source, every_other, transpose};
use trine_backend::{Gate, Pairs};
use trine_tensor::View;

/// arXiv:2508.10925.
pub static GPT_OSS: Arch = Arch {
    gguf: &["gpt-oss"],
    hub: &[("gpt_oss", Some("silu"))],
    pairs: Pairs::Halves,
    gate: Gate::Clamped,
    global_every: 2,
    sinks: true,
    implied: &[("expert_weights_norm", 1.0), ("rope.scaling.truncate", 0.0)],
    aliases: &[("ffn_norm", "post_attention_norm")],
    recipe: Some(recipe),
    renamed: &[
        ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
        ("blk.{}.attn_sinks.weight", "model.layers.{}.self_attn.sinks"),
        ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.router"),
    ],
    ..LLAMA
};

/// Hugging Face has gate and up of an expert in turn, and matrices of all experts as `[experts, inputs, outputs]`.
fn recipe(source: &Source, layer: &str, part: Part) -> crate::Result<Option<View>> {
    let view = |name: &str| source.view(&format!("model.layers.{layer}.mlp.experts.{name}"));
    Ok(Some(match part {
        ("ffn_gate_exps", "weight") => every_other(&transpose(&view("gate_up_proj")?)?, 0)?,
        ("ffn_up_exps", "weight") => every_other(&transpose(&view("gate_up_proj")?)?, 1)?,
        ("ffn_down_exps", "weight") => transpose(&view("down_proj")?)?,
        ("ffn_gate_exps", "bias") => every_other(&view("gate_up_proj_bias")?, 0)?,
        ("ffn_up_exps", "bias") => every_other(&view("gate_up_proj_bias")?, 1)?,
        ("ffn_down_exps", "bias") => view("down_proj_bias")?,
        _ => return Ok(None),
    }))
}
