//! The sizes of a model, and the keys and tensors that follow from them.

use crate::{ARCHS, Arch, NormKind, NormPlacement, QkNorm};
use trine_backend::Role;
use trine_tensor::Metadata;

/// The sizes of a model, whether it is in a file or does not exist yet.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub arch: &'static Arch,
    pub n_layers: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    pub n_heads: usize,
    /// Key and value heads as they are cached, a divisor of `n_heads`; 1 with multi-head latent attention.
    pub n_kv_heads: usize,
    /// Elements of a head as it is cached; `kv_lora_rank + qk_rope_head_dim` with multi-head latent attention.
    pub head_dim: usize,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions the model was trained for.
    pub context_length: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    pub eps: f32,
    /// The embedding is the output head as well.
    pub tied: bool,
}

/// A tensor of a model that does not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorShape {
    pub name: String,
    pub role: Role,
    pub shape: Vec<usize>,
}

impl Sizes {
    /// Whether new models of an architecture can be made: those whose tensors [`Sizes::tensors`] lists.
    pub fn fit(arch: &Arch) -> bool {
        let &Arch {
            norm,
            norm_placement,
            gated,
            parallel_residual,
            mla,
            sinks,
            learned_positions,
            encoder,
            qk_norm,
            ..
        } = arch;
        let plain = norm == NormKind::Rms && norm_placement == NormPlacement::Pre && gated && !parallel_residual;
        let heads = matches!(qk_norm, QkNorm::None | QkNorm::Shared);
        let experts = arch.supported_keys.contains(&"expert_count") && arch.name().ends_with("moe");
        plain && heads && !experts && !mla && !sinks && !learned_positions && !encoder
    }

    /// The GGUF names of the architectures that fit.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ARCHS.iter().filter(|arch| Sizes::fit(arch)).flat_map(|arch| arch.gguf).copied()
    }

    /// The GGUF keys of a model of these sizes.
    pub fn metadata(&self) -> Metadata {
        let name = self.arch.name();
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", name);
        for (key, value) in [
            ("block_count", self.n_layers),
            ("context_length", self.context_length),
            ("embedding_length", self.hidden_size),
            ("feed_forward_length", self.intermediate_size),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.head_dim),
            ("vocab_size", self.vocab_size),
        ] {
            metadata.insert(format!("{name}.{key}"), value as u32);
        }
        let eps = match self.arch.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        metadata.insert(format!("{name}.{eps}"), self.eps);
        metadata.insert(format!("{name}.rope.freq_base"), self.rope_base);
        metadata
    }

    /// All tensors, in the order of llama.cpp's converter.
    pub fn tensors(&self) -> Vec<TensorShape> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let linear = if self.arch.bit_linear { Role::BitLinear } else { Role::Linear };
        let mut tensors = Vec::new();
        let mut push = |name: String, role, shape: &[usize]| {
            tensors.push(TensorShape { name: format!("{name}.weight"), role, shape: shape.into() });
        };
        push("token_embd".into(), Role::Embedding, &[self.vocab_size, hidden]);
        for i in 0..self.n_layers {
            let name = |part: &str| format!("blk.{i}.{part}");
            push(name("attn_norm"), Role::Norm, &[hidden]);
            push(name("attn_q"), linear, &[q, hidden]);
            push(name("attn_k"), linear, &[kv, hidden]);
            push(name("attn_v"), linear, &[kv, hidden]);
            push(name("attn_output"), linear, &[hidden, q]);
            if self.arch.qk_norm != QkNorm::None {
                push(name("attn_q_norm"), Role::Norm, &[self.head_dim]);
                push(name("attn_k_norm"), Role::Norm, &[self.head_dim]);
            }
            if self.arch.sub_norms {
                push(name("attn_sub_norm"), Role::Norm, &[q]);
                push(name("ffn_sub_norm"), Role::Norm, &[inner]);
            }
            if self.arch.norm_placement == NormPlacement::Sandwich {
                push(name("post_attention_norm"), Role::Norm, &[hidden]);
                push(name("post_ffw_norm"), Role::Norm, &[hidden]);
            }
            push(name("ffn_norm"), Role::Norm, &[hidden]);
            push(name("ffn_gate"), linear, &[inner, hidden]);
            push(name("ffn_up"), linear, &[inner, hidden]);
            push(name("ffn_down"), linear, &[hidden, inner]);
        }
        push("output_norm".into(), Role::Norm, &[hidden]);
        if !self.tied {
            push("output".into(), Role::Head, &[self.vocab_size, hidden]);
        }
        tensors
    }
}
