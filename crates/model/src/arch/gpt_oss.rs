//! gpt-oss: experts with biases and clamped gates, windows in every other layer, and sinks.

use super::{Arch, llama::LLAMA};
use crate::Error;
use crate::weights::{Part, Source, every_other, transpose};
use trine_backend::{Activation, RopeLayout};
use trine_tensor::View;
use trine_tensor::format::{MXFP4, U8};

/// arXiv:2508.10925.
pub static GPT_OSS: Arch = Arch {
    gguf: &["gpt-oss"],
    hub: &["gpt_oss"],
    pairs: RopeLayout::Halves,
    hf_activations: &["silu"],
    activation: Activation::Clamped,
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

/// MXFP4 as GGUF has it, of `[experts, rows, groups, 16]` bytes with neighbours in the halves of each, and `[experts, rows, groups]` exponents.
fn mxfp4(blocks: &View, scales: &View) -> crate::Result<View> {
    let (&[experts, rows, groups, 16], true) = (&blocks.shape[..], blocks.format == &U8) else {
        let expected = vec![0, 0, 0, 16];
        return Err(Error::Shape { tensor: blocks.name.clone(), expected, found: blocks.shape.clone() });
    };
    if scales.shape != [experts, rows, groups] || scales.format != &U8 {
        let expected = vec![experts, rows, groups];
        return Err(Error::Shape { tensor: scales.name.clone(), expected, found: scales.shape.clone() });
    }
    let mut bytes = Vec::with_capacity(blocks.bytes.len() + scales.bytes.len());
    for (block, &scale) in blocks.bytes.as_chunks::<16>().0.iter().zip(scales.bytes.iter()) {
        let code = |i: usize| block[i / 2] >> (4 * (i % 2)) & 15;
        bytes.push(scale);
        bytes.extend((0..16).map(|i| code(i) | code(i + 16) << 4));
    }
    Ok(View::new(blocks.name.clone(), &MXFP4, vec![experts, rows, 32 * groups], bytes)?)
}

/// Hugging Face has gate and up of an expert in turn, and matrices of all experts as `[experts, inputs, outputs]`.
fn recipe(source: &Source, layer: &str, part: Part) -> crate::Result<Option<View>> {
    let name = |name: &str| format!("model.layers.{layer}.mlp.experts.{name}");
    let view = |part: &str| source.view(&name(part));
    let matrices = |part: &str| match source.contains(&name(&format!("{part}_blocks"))) {
        true => mxfp4(&view(&format!("{part}_blocks"))?, &view(&format!("{part}_scales"))?),
        false => transpose(&view(part)?),
    };
    Ok(Some(match part {
        ("ffn_gate_exps", "weight") => every_other(&matrices("gate_up_proj")?, 0)?,
        ("ffn_up_exps", "weight") => every_other(&matrices("gate_up_proj")?, 1)?,
        ("ffn_down_exps", "weight") => matrices("down_proj")?,
        ("ffn_gate_exps", "bias") => every_other(&view("gate_up_proj_bias")?, 0)?,
        ("ffn_up_exps", "bias") => every_other(&view("gate_up_proj_bias")?, 1)?,
        ("ffn_down_exps", "bias") => view("down_proj_bias")?,
        _ => return Ok(None),
    }))
}
