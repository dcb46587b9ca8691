//! How models differ, as data: one file per family.
//!
//! A row names what differs from [`Arch::NEUTRAL`], or from a sibling to which it only adds.

pub mod bert;
pub mod bitnet;
pub mod cohere;
pub mod deepseek;
pub mod gemma;
pub mod gpt;
pub mod gpt_oss;
pub mod granite;
pub mod llama;
pub mod olmo;
pub mod phi;
pub mod qwen;
pub mod smollm3;
pub mod stablelm;
pub mod starcoder2;

use crate::file_weights::FileWeights;
use std::collections::BTreeSet;
use trine_backend::{Activation, RopeLayout};
use trine_tensor::View;

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
///
/// Fields that begin with `hf_` hold for Hugging Face folders alone.
#[derive(Debug)]
pub struct Arch {
    /// `general.architecture` of GGUF files; the first is the one that Trine writes.
    pub gguf: &'static [&'static str],
    /// `model_type` in `config.json`.
    pub hf: &'static [&'static str],
    /// Which elements of a head rope rotates together in GGUF files.
    pub pairs: RopeLayout,
    /// The same in Hugging Face folders.
    pub hf_pairs: RopeLayout,
    pub norm: NormKind,
    pub norm_placement: NormPlacement,
    /// Activation of the feed-forward layer, unless `config.json` names another.
    pub activation: Activation,
    /// Names of `activation` in `config.json` that mean another function elsewhere.
    pub hf_activations: &'static [&'static str],
    /// The activation multiplies an up projection (a gated linear unit, arXiv:2002.05202).
    pub gated: bool,
    /// Norms of queries and keys, applied before rope.
    pub qk_norm: QkNorm,
    /// Every known model has biases on queries, keys and values.
    pub qkv_bias: bool,
    /// Norms before the output projection of attention and the down projection (BitNet, arXiv:2310.11453).
    pub sub_norms: bool,
    /// Linear layers quantize their inputs to 8 bits, whatever the format of the weights.
    pub bit_linear: bool,
    /// Attention and feed-forward take the same input, unless a key says otherwise.
    pub parallel_residual: bool,
    /// Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434 section 2.1): caches the compressed KV vector.
    pub mla: bool,
    /// Positions are rows of an embedding instead of rotations.
    pub learned_positions: bool,
    /// Every n-th layer attends globally, the others within a sliding window; 0 where all layers have the window.
    pub global_every: usize,
    /// The global layer is the first of each group of `global_every`, not the last.
    pub global_first: bool,
    /// Global layers do without rope.
    pub global_nope: bool,
    /// Every n-th layer does without rope (NoPE, arXiv:2305.19466); 0 where none does.
    pub nope_every: usize,
    pub embedding_norm: bool,
    /// Embeddings are multiplied by `sqrt(hidden_size)`.
    pub scaled_embedding: bool,
    /// Logits are divided by `logit_scale`, not multiplied.
    pub divided_logits: bool,
    /// Each head has a learned logit that takes part in softmax without a value (arXiv:2309.17453).
    pub sinks: bool,
    /// Attention is bidirectional, and the forward pass returns hidden states instead of logits.
    pub encoder: bool,
    /// Values of keys that files may omit. For `config.json`, those of transformers come first.
    pub default_keys: &'static [(&'static str, f32)],
    /// Keys that change what is computed and that this architecture supports; others must be neutral.
    pub supported_keys: &'static [&'static str],
    /// Parts of layers that files may lack.
    pub optional: &'static [&'static str],
    /// Added to the weights of norms (Gemma computes `1 + weight`).
    pub hf_norm_offset: f32,
    /// Matrices are `[inputs, outputs]` (`Conv1D` of transformers).
    pub hf_transposed: bool,
    /// Rows of fused queries, keys and values are grouped by KV head.
    pub hf_qkv_by_head: bool,
    /// Where tensors are found that are stored in another shape.
    pub hf_rules: &'static [TensorRule],
    /// Tensor names that differ from [`HF_NAMES`]: `(GGUF, Hugging Face)`.
    pub hf_names: &'static [(&'static str, &'static str)],
    /// Parts of layers with another name in GGUF files of this architecture: `(usual, own)`.
    pub gguf_aliases: &'static [(&'static str, &'static str)],
    /// GGUF files have queries, keys and values in one matrix, and gate and up in another.
    pub gguf_fused: bool,
    /// Layer counts of models whose `query_pre_attn_scalar` is `hidden_size / n_heads` instead of `head_dim`, which GGUF files omit.
    pub hidden_query_scalar: &'static [usize],
}

/// Derives a part of a layer from a Hugging Face tensor of another shape.
#[derive(Debug)]
pub struct TensorRule {
    /// GGUF name within the layer, such as `ffn_up_exps.weight`.
    pub part: &'static str,
    /// Name of the tensor that holds it, where `{}` is the layer. The rule applies if the file has this tensor.
    pub from: &'static str,
    /// Reads the part from `from`, given as it is named in the file.
    pub read: fn(&FileWeights, &str) -> crate::Result<View>,
}

/// Function of a norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm (arXiv:1910.07467).
    Rms,
    /// LayerNorm (arXiv:1607.06450).
    Layer,
}

/// Where the norms of a layer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlacement {
    /// Before attention and before the feed-forward layer.
    Pre,
    /// After both, before the residual addition.
    Post,
    /// Before and after both.
    Sandwich,
    /// After the residual additions.
    PostResidual,
}

/// Norms of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QkNorm {
    None,
    /// Each head alone, with one weight of `[head_dim]` for all heads.
    Shared,
    /// Each head alone, with a weight per head: `[heads, head_dim]`.
    PerHead,
    /// All heads together, `[heads * head_dim]`.
    Row,
}

/// Names of tensors in GGUF and at Hugging Face, without `.weight` or `.bias`; `{}` is the layer, `[]` an expert.
pub static HF_NAMES: &[(&str, &str)] = &[
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

/// Names of activations in transformers.
pub static ACTIVATIONS: &[(&[&str], Activation)] = &[
    (&["silu", "swish"], Activation::Silu),
    (&["relu2"], Activation::Relu2),
    (&["gelu", "gelu_python"], Activation::Gelu),
    (&["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh"], Activation::GeluTanh),
];

/// Hugging Face's names of norms after both halves of a layer, where `ffn_norm` is not `post_attention_layernorm`.
const POST_NORM_NAMES: [(&str, &str); 3] = [
    ("blk.{}.post_attention_norm", "model.layers.{}.post_attention_layernorm"),
    ("blk.{}.ffn_norm", "model.layers.{}.pre_feedforward_layernorm"),
    ("blk.{}.post_ffw_norm", "model.layers.{}.post_feedforward_layernorm"),
];

impl Arch {
    /// The name in the GGUF files that Trine writes.
    pub fn name(&self) -> &'static str {
        self.gguf[0]
    }

    /// Llama without experts: RMSNorm before each half of a layer, rope over halves of a head, a SiLU-gated feed-forward layer.
    pub const NEUTRAL: Arch = Arch {
        gguf: &[],
        hf: &[],
        pairs: RopeLayout::Halves,
        hf_pairs: RopeLayout::Halves,
        norm: NormKind::Rms,
        norm_placement: NormPlacement::Pre,
        activation: Activation::Silu,
        hf_activations: &[],
        gated: true,
        qk_norm: QkNorm::None,
        qkv_bias: false,
        sub_norms: false,
        bit_linear: false,
        parallel_residual: false,
        mla: false,
        learned_positions: false,
        global_every: 0,
        global_first: false,
        global_nope: false,
        nope_every: 0,
        embedding_norm: false,
        scaled_embedding: false,
        divided_logits: false,
        sinks: false,
        encoder: false,
        default_keys: &[],
        supported_keys: &[],
        optional: &[],
        hf_norm_offset: 0.0,
        hf_transposed: false,
        hf_qkv_by_head: false,
        hf_rules: &[],
        hf_names: &[],
        gguf_aliases: &[],
        gguf_fused: false,
        hidden_query_scalar: &[],
    };

    /// The architecture with this `general.architecture`.
    pub fn of_gguf(name: &str) -> Option<&'static Arch> {
        ARCHS.iter().copied().find(|arch| arch.gguf.contains(&name))
    }

    /// The GGUF names of all architectures, separated by commas.
    pub fn gguf_list() -> String {
        ARCHS.iter().flat_map(|arch| arch.gguf).copied().collect::<Vec<_>>().join(", ")
    }

    /// The architectures with this `model_type`; they differ in their activation.
    pub fn of_hf(model_type: &str) -> impl Iterator<Item = &'static Arch> {
        ARCHS.iter().copied().filter(move |arch| arch.hf.contains(&model_type))
    }

    /// Every `model_type`, in alphabetical order, separated by commas.
    pub fn hf_list() -> String {
        let names: BTreeSet<&str> = ARCHS.iter().flat_map(|arch| arch.hf).copied().collect();
        Vec::from_iter(names).join(", ")
    }

    /// The name in GGUF files of this architecture of a tensor with this usual one.
    pub fn gguf_name(&self, usual: &str) -> String {
        let alias = self.gguf_aliases.iter().find_map(|(name, alias)| {
            let (layer, rest) = usual.strip_prefix("blk.")?.split_once('.')?;
            (rest.split_once('.')?.0 == *name).then(|| format!("blk.{layer}.{}", rest.replacen(name, alias, 1)))
        });
        alias.unwrap_or_else(|| usual.to_owned())
    }

    /// The usual name of a tensor of GGUF files of this architecture.
    pub fn usual_name(&self, gguf: &str) -> String {
        let usual = self.gguf_aliases.iter().find_map(|(name, alias)| {
            let (layer, rest) = gguf.strip_prefix("blk.")?.split_once('.')?;
            (rest.split_once('.')?.0 == *alias).then(|| format!("blk.{layer}.{}", rest.replacen(alias, name, 1)))
        });
        usual.unwrap_or_else(|| gguf.to_owned())
    }

    /// Hugging Face's name of a GGUF tensor such as `blk.3.attn_q.weight`, with `[]` for the index of an expert.
    ///
    /// ```
    /// use trine_model::arch::llama::LLAMA;
    ///
    /// let name = LLAMA.hf_name("blk.3.attn_q.weight");
    /// assert_eq!(name.as_deref(), Some("model.layers.3.self_attn.q_proj.weight"));
    /// ```
    pub fn hf_name(&self, gguf: &str) -> Option<String> {
        let (stem, suffix) = gguf.rsplit_once('.')?;
        let (layer, pattern) = match stem.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) {
            Some((layer, rest)) => (layer, format!("blk.{{}}.{rest}")),
            None => ("", stem.to_owned()),
        };
        // A row may give the full name, suffix included.
        let whole = format!("{pattern}.{suffix}");
        if let Some((_, name)) = self.hf_names.iter().find(|(gguf, _)| *gguf == whole) {
            return Some(name.replace("{}", layer));
        }
        let (_, name) = self.hf_names.iter().chain(HF_NAMES).find(|(gguf, _)| *gguf == pattern)?;
        Some(format!("{}.{suffix}", name.replace("{}", layer)))
    }

    /// The activation with this name in `config.json`, if it is supported.
    pub fn activation_of_hf(&self, name: &str) -> Option<Activation> {
        let named = ACTIVATIONS.iter().find(|(names, _)| names.contains(&name)).map(|&(_, activation)| activation);
        if self.hf_activations.contains(&name) {
            return Some(self.activation);
        }
        // Clamped activations have no name in transformers.
        named.filter(|_| self.activation != Activation::Clamped)
    }

    /// The names of all supported activations, separated by commas.
    pub fn activation_list() -> String {
        ACTIVATIONS.iter().flat_map(|(names, _)| *names).copied().collect::<Vec<_>>().join(", ")
    }

    /// Whether a file may lack this part of a layer.
    pub fn is_optional(&self, part: &str) -> bool {
        self.optional.contains(&part)
    }
}
