//! How models differ, as data: one file for each family.

mod bitnet;
mod llama;
mod qwen2;
mod qwen3;

use trine_backend::{Gate, Pairs};

/// Every architecture we know. A new one is a file beside these and a row here.
pub static ARCHS: &[&Arch] = &[&llama::LLAMA, &qwen2::QWEN2, &qwen3::QWEN3, &bitnet::BITNET, &bitnet::BITNET_B158];

/// What all models of an architecture have in common.
#[derive(Debug)]
pub struct Arch {
    /// `general.architecture` of its GGUF files; the first is what Trine writes.
    pub gguf: &'static [&'static str],
    /// `model_type` of its Hugging Face folders, and the activation function where that decides.
    pub hub: &'static [(&'static str, Option<&'static str>)],
    /// Which numbers rope turns together in GGUF files. In Hugging Face folders it is always the halves.
    pub pairs: Pairs,
    /// Activation of the gated feed-forward layer.
    pub gate: Gate,
    /// Queries and keys are normed per head, before rope.
    pub head_norms: bool,
    /// The outputs of attention and of the gate are normed before their last linear layer.
    pub sub_norms: bool,
    /// Linear layers round their inputs to 8 bits, whatever format the weights are stored in.
    pub bit_linear: bool,
    /// Hugging Face's names that differ from the usual ones in [`TENSORS`]: `(GGUF, Hugging Face)`.
    pub renamed: &'static [(&'static str, &'static str)],
}

/// Names of tensors in GGUF and at Hugging Face, without `.weight` or `.bias`; `{}` is the layer.
pub static TENSORS: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("blk.{}.attn_norm", "model.layers.{}.input_layernorm"),
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"),
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
    ("blk.{}.attn_sub_norm", "model.layers.{}.self_attn.attn_sub_norm"),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"),
    ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"),
    ("blk.{}.ffn_sub_norm", "model.layers.{}.mlp.ffn_sub_norm"),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"),
];

impl Arch {
    /// The architecture of a GGUF file.
    pub fn of_gguf(name: &str) -> Option<&'static Arch> {
        ARCHS.iter().copied().find(|arch| arch.gguf.contains(&name))
    }

    /// The GGUF names of all, for messages.
    pub fn names() -> String {
        ARCHS.iter().flat_map(|arch| arch.gguf).copied().collect::<Vec<_>>().join(", ")
    }

    /// The architecture of a Hugging Face folder.
    pub fn of_hub(model_type: &str, activation: &str) -> Option<&'static Arch> {
        let is = |&(name, act): &(&str, Option<&str>)| name == model_type && act.is_none_or(|act| act == activation);
        ARCHS.iter().copied().find(|arch| arch.hub.iter().any(is))
    }

    /// Hugging Face's name for a GGUF tensor, such as `blk.3.attn_q.weight`.
    pub fn hub_name(&self, gguf: &str) -> Option<String> {
        let (stem, suffix) = gguf.rsplit_once('.')?;
        let (layer, pattern) = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, rest)) => (layer, format!("blk.{{}}.{rest}")),
            None => ("", stem.to_owned()),
        };
        let (_, name) = self.renamed.iter().chain(TENSORS).find(|(gguf, _)| *gguf == pattern)?;
        Some(format!("{}.{suffix}", name.replace("{}", layer)))
    }
}
