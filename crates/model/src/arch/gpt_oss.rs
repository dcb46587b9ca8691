//! gpt-oss: experts with biases and clamped activations, windows in every other layer, and attention sinks.

use super::{Arch, TensorRule};
use crate::file_weights::FileWeights;
use crate::slice::{every_other, transpose};
use crate::{Error, Result};
use trine_backend::Activation;
use trine_tensor::View;
use trine_tensor::format::{MXFP4, U8};

/// arXiv:2508.10925.
pub static GPT_OSS: Arch = Arch {
    gguf: &["gpt-oss"],
    hf: &["gpt_oss"],
    activation: Activation::Clamped,
    hf_activations: &["silu"],
    global_every: 2,
    sinks: true,
    supported_keys: &["expert_count"],
    default_keys: &[("expert_weights_norm", 1.0), ("rope.scaling.truncate", 0.0)],
    gguf_aliases: &[("ffn_norm", "post_attention_norm")],
    hf_rules: RULES,
    hf_names: &[
        ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
        ("blk.{}.attn_sinks.weight", "model.layers.{}.self_attn.sinks"),
        ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.router"),
    ],
    ..Arch::NEUTRAL
};

const GATE_UP_BLOCKS: &str = "model.layers.{}.mlp.experts.gate_up_proj_blocks";
const GATE_UP: &str = "model.layers.{}.mlp.experts.gate_up_proj";
const GATE_UP_BIAS: &str = "model.layers.{}.mlp.experts.gate_up_proj_bias";

/// Rows of gate and up alternate, and matrices are MXFP4 blocks or `[experts, inputs, outputs]`.
static RULES: &[TensorRule] = &[
    TensorRule {
        part: "ffn_gate_exps.weight",
        from: GATE_UP_BLOCKS,
        read: |file, name| every_other(&mxfp4(file, name)?, 0),
    },
    TensorRule {
        part: "ffn_up_exps.weight",
        from: GATE_UP_BLOCKS,
        read: |file, name| every_other(&mxfp4(file, name)?, 1),
    },
    TensorRule {
        part: "ffn_gate_exps.weight",
        from: GATE_UP,
        read: |file, name| every_other(&matrices(file, name)?, 0),
    },
    TensorRule { part: "ffn_up_exps.weight", from: GATE_UP, read: |file, name| every_other(&matrices(file, name)?, 1) },
    TensorRule { part: "ffn_down_exps.weight", from: "model.layers.{}.mlp.experts.down_proj_blocks", read: mxfp4 },
    TensorRule { part: "ffn_down_exps.weight", from: "model.layers.{}.mlp.experts.down_proj", read: matrices },
    TensorRule { part: "ffn_gate_exps.bias", from: GATE_UP_BIAS, read: |file, name| every_other(&file.view(name)?, 0) },
    TensorRule { part: "ffn_up_exps.bias", from: GATE_UP_BIAS, read: |file, name| every_other(&file.view(name)?, 1) },
    TensorRule {
        part: "ffn_down_exps.bias",
        from: "model.layers.{}.mlp.experts.down_proj_bias",
        read: |file, name| file.view(name),
    },
];

fn matrices(file: &FileWeights, name: &str) -> Result<View> {
    transpose(&file.view(name)?)
}

/// MXFP4 in GGUF's layout, from `[experts, rows, groups, 16]` bytes of adjacent codes and `[experts, rows, groups]` exponents.
fn mxfp4(file: &FileWeights, name: &str) -> Result<View> {
    let blocks = file.view(name)?;
    let scales = file.view(&name.replace("_blocks", "_scales"))?;
    let (&[experts, rows, groups, 16], true) = (&blocks.shape[..], blocks.format == &U8) else {
        let expected = vec![0, 0, 0, 16];
        return Err(Error::Shape { tensor: blocks.name, expected, found: blocks.shape });
    };
    if scales.shape != [experts, rows, groups] || scales.format != &U8 {
        let expected = vec![experts, rows, groups];
        return Err(Error::Shape { tensor: scales.name, expected, found: scales.shape });
    }
    let mut bytes = Vec::with_capacity(blocks.bytes.len() + scales.bytes.len());
    for (block, &scale) in blocks.bytes.as_chunks::<16>().0.iter().zip(scales.bytes.iter()) {
        let code = |i: usize| block[i / 2] >> (4 * (i % 2)) & 15;
        bytes.push(scale);
        bytes.extend((0..16).map(|i| code(i) | code(i + 16) << 4));
    }
    Ok(View::new(blocks.name, &MXFP4, vec![experts, rows, 32 * groups], bytes)?)
}
