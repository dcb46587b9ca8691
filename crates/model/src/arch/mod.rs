//! How models differ, as data: one file for each family.

mod bert;
mod bitnet;
mod cohere;
mod deepseek;
mod gemma;
mod gpt;
mod gpt_oss;
mod granite;
mod llama;
mod olmo;
mod phi;
mod qwen;
mod smollm3;
mod stablelm;
mod starcoder2;

use crate::weights::Recipe;
use std::collections::BTreeSet;
use trine_backend::{Activation, RopeLayout};

/// Every architecture we know. A new one is a file beside these and a row here.
pub static ARCHS: &[&Arch] = &[
    &llama::LLAMA,
    &llama::MISTRAL3,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &qwen::QWEN2_MOE,
    &qwen::QWEN3_MOE,
    &bitnet::BITNET_B158,
    &bitnet::BITNET,
    &gemma::GEMMA,
    &gemma::GEMMA2,
    &gemma::GEMMA3,
    &gemma::GEMMA_EMBEDDING,
    &phi::PHI2,
    &phi::PHI3,
    &olmo::OLMO2,
    &olmo::OLMOE,
    &granite::GRANITE,
    &granite::GRANITE_MOE,
    &smollm3::SMOLLM3,
    &starcoder2::STARCODER2,
    &gpt::GPT2,
    &gpt::GPT_NEOX,
    &stablelm::STABLELM,
    &cohere::COMMAND_R,
    &cohere::COHERE2,
    &gpt_oss::GPT_OSS,
    &deepseek::DEEPSEEK2,
    &bert::BERT,
    &bert::NOMIC_BERT,
    &bert::MODERN_BERT,
];

/// What all models of an architecture have in common.
#[derive(Debug)]
pub struct Arch {
    /// `general.architecture` of its GGUF files; the first is what Trine writes.
    pub gguf: &'static [&'static str],
    /// `model_type` of its Hugging Face folders.
    pub hub: &'static [&'static str],
    /// Which numbers rope turns together in GGUF files.
    pub pairs: RopeLayout,
    /// The same in Hugging Face folders.
    pub hub_pairs: RopeLayout,
    /// What norms compute.
    pub norm: NormKind,
    /// Where they stand.
    pub norm_placement: NormPlacement,
    /// Activation of the feed-forward layer, unless a folder names another.
    pub activation: Activation,
    /// Names that its folders have for that activation, and others for another one.
    pub hf_activations: &'static [&'static str],
    /// Whether it is multiplied by another projection.
    pub gated: bool,
    /// Norms of queries and keys, before rope.
    pub qk_norm: QkNorm,
    /// Queries, keys and values have biases in every model that is known.
    pub biased: bool,
    /// The outputs of attention and of the gate are normed before their last linear layer.
    pub sub_norms: bool,
    /// Linear layers round their inputs to 8 bits, whatever format the weights are stored in.
    pub bit_linear: bool,
    /// Attention and feed-forward layer take the same input, unless a key says otherwise.
    pub parallel_residual: bool,
    /// Keys and values are projections of one small vector, which is what is cached (arXiv:2405.04434).
    pub mla: bool,
    /// Positions are rows of a table instead of rotations.
    pub learned_positions: bool,
    /// Each so-manyth layer sees everything, where the others have a window; 0 where all have it.
    pub global_every: usize,
    /// The first of so many layers sees everything, and not the last of them.
    pub global_first: bool,
    /// Layers that see everything do not turn queries and keys.
    pub global_unturned: bool,
    /// Each so-manyth layer does not turn queries and keys; 0 where all do.
    pub unturned_every: usize,
    /// Embeddings are normed.
    pub embedding_norm: bool,
    /// Embeddings are multiplied by the root of the width.
    pub scaled_embedding: bool,
    /// Logits are divided by `logit_scale`, not multiplied.
    pub divided_logits: bool,
    /// Heads have a score that takes part in softmax and has no value.
    pub sinks: bool,
    /// It reads a text as a whole and gives its tokens' last states instead of logits.
    pub encoder: bool,
    /// Values of keys that its files may leave out.
    pub implied: &'static [(&'static str, f32)],
    /// And those that its Hugging Face folders may leave out, whose defaults transformers has.
    pub hub_implied: &'static [(&'static str, f32)],
    /// Keys of [`crate::keys`] that change what is computed, and that it heeds.
    pub heeds: &'static [&'static str],
    /// Parts of layers that files may lack.
    pub optional: &'static [&'static str],
    /// What Hugging Face folders add to the gains of norms.
    pub hub_gain: f32,
    /// Hugging Face's matrices are `[inputs, outputs]`.
    pub hub_transposed: bool,
    /// Rows of Hugging Face's fused queries, keys and values are ordered by head.
    pub hub_by_head: bool,
    /// How tensors are found in Hugging Face folders that neither have them nor a list of their parts.
    pub recipe: Option<Recipe>,
    /// Hugging Face's names that differ from the usual ones in [`TENSORS`]: `(GGUF, Hugging Face)`.
    pub renamed: &'static [(&'static str, &'static str)],
    /// Parts of layers that GGUF files of this architecture call otherwise than all others.
    pub aliases: &'static [(&'static str, &'static str)],
    /// Models of so many layers divide scores by the root of the width of a head as all heads share it, whatever their heads have.
    pub scaled_by_width: &'static [usize],
}

/// What norms compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Root mean square (arXiv:1910.07467).
    Rms,
    /// Mean and variance (arXiv:1607.06450).
    Layer,
}

/// Where norms stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward layer.
    Pre,
    /// Behind both, before they are added.
    Post,
    /// Before and behind.
    Sandwich,
    /// Behind the sums.
    PostResidual,
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    /// None.
    None,
    /// One gain for all heads, each normed alone.
    Shared,
    /// Each head normed alone, with a gain of its own.
    Own,
    /// All heads normed together.
    Row,
}

/// Names of tensors in GGUF and at Hugging Face, without `.weight` or `.bias`; `{}` is the layer, `[]` an expert.
pub static TENSORS: &[(&str, &str)] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
    ("blk.{}.attn_norm", "model.layers.{}.input_layernorm"),
    ("blk.{}.attn_q", "model.layers.{}.self_attn.q_proj"),
    ("blk.{}.attn_k", "model.layers.{}.self_attn.k_proj"),
    ("blk.{}.attn_v", "model.layers.{}.self_attn.v_proj"),
    ("blk.{}.attn_qkv", "model.layers.{}.self_attn.qkv_proj"),
    ("blk.{}.attn_q_norm", "model.layers.{}.self_attn.q_norm"),
    ("blk.{}.attn_k_norm", "model.layers.{}.self_attn.k_norm"),
    ("blk.{}.attn_sub_norm", "model.layers.{}.self_attn.attn_sub_norm"),
    ("blk.{}.attn_output", "model.layers.{}.self_attn.o_proj"),
    ("blk.{}.ffn_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_gate", "model.layers.{}.mlp.gate_proj"),
    ("blk.{}.ffn_up", "model.layers.{}.mlp.up_proj"),
    ("blk.{}.ffn_sub_norm", "model.layers.{}.mlp.ffn_sub_norm"),
    ("blk.{}.ffn_down", "model.layers.{}.mlp.down_proj"),
    ("blk.{}.ffn_gate_inp", "model.layers.{}.mlp.gate"),
    ("blk.{}.ffn_gate_exps", "model.layers.{}.mlp.experts.[].gate_proj"),
    ("blk.{}.ffn_up_exps", "model.layers.{}.mlp.experts.[].up_proj"),
    ("blk.{}.ffn_down_exps", "model.layers.{}.mlp.experts.[].down_proj"),
];

/// Names that transformers has for activations.
pub static ACTIVATIONS: &[(&[&str], Activation)] = &[
    (&["silu", "swish"], Activation::Silu),
    (&["relu2"], Activation::Relu2),
    (&["gelu", "gelu_python"], Activation::Gelu),
    (&["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh"], Activation::GeluTanh),
];

/// Hugging Face's names of norms before and behind both halves of a layer.
const AROUND: [(&str, &str); 3] = [
    ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"),
    ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
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

    /// The architectures of Hugging Face folders of this type, which differ in their activations.
    pub fn of_hub(model_type: &str) -> impl Iterator<Item = &'static Arch> {
        ARCHS.iter().copied().filter(move |arch| arch.hub.contains(&model_type))
    }

    /// The types of Hugging Face folders, for messages.
    pub fn hub_names() -> String {
        let names: BTreeSet<&str> = ARCHS.iter().flat_map(|arch| arch.hub).copied().collect();
        Vec::from_iter(names).join(", ")
    }

    /// Hugging Face's name for a GGUF tensor, such as `blk.3.attn_q.weight`; with `[]` for the number of an expert.
    pub fn hub_name(&self, gguf: &str) -> Option<String> {
        let (stem, suffix) = gguf.rsplit_once('.')?;
        let (layer, pattern) = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, rest)) => (layer, format!("blk.{{}}.{rest}")),
            None => ("", stem.to_owned()),
        };
        // A whole name among those that differ stands for itself.
        let whole = format!("{pattern}.{suffix}");
        if let Some((_, name)) = self.renamed.iter().find(|(gguf, _)| *gguf == whole) {
            return Some(name.replace("{}", layer));
        }
        let (_, name) = self.renamed.iter().chain(TENSORS).find(|(gguf, _)| *gguf == pattern)?;
        Some(format!("{}.{suffix}", name.replace("{}", layer)))
    }

    /// The activation that its Hugging Face folders mean by this name of transformers', if we compute it.
    pub fn activation_of_hf(&self, name: &str) -> Option<Activation> {
        let named = ACTIVATIONS.iter().find(|(names, _)| names.contains(&name)).map(|&(_, gate)| gate);
        if self.hf_activations.contains(&name) { Some(self.activation) } else { named }
    }

    /// The names of activations that we compute, for messages.
    pub fn activation_names() -> String {
        ACTIVATIONS.iter().flat_map(|(names, _)| *names).copied().collect::<Vec<_>>().join(", ")
    }

    /// Whether a layer may lack this part.
    pub fn may_lack(&self, part: &str) -> bool {
        self.optional.contains(&part)
    }
}
