//! What one model is: its sizes, and the numbers that the decoder needs.

mod experts;
mod head;
mod heads;
mod layers;
mod rope;
mod same;

pub use experts::Experts;
pub use heads::Mla;
pub use layers::LayerKind;

use crate::config::is_multimodal;
use crate::keys::Keys;
use crate::{Error, NormKind, QuantMethod, Result, Sizes, hf};
use std::collections::BTreeSet;
use std::ops::Deref;
use trine_backend::{Activation, Rope};
use trine_tensor::{File, FileFormat};

/// One model of an architecture. Its [`Sizes`] are fields of it as well.
#[derive(Clone, Debug)]
pub struct Spec {
    pub sizes: Sizes,
    /// The kind of each layer.
    pub layer_kinds: Vec<LayerKind>,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
    /// Rotary positions: of all layers, or of global ones and of those with a window.
    pub ropes: Vec<Rope>,
    /// `(length, rotations)` for contexts up to a length (LongRoPE, arXiv:2402.13753).
    pub short_ropes: Option<(usize, Vec<Rope>)>,
    /// The rotation of queries, where it differs from that of keys.
    pub query_rope: Option<Rope>,
    /// Factor on products of queries and keys.
    pub attention_scale: f32,
    /// Softcap of attention scores.
    pub attention_softcap: Option<f32>,
    /// Tokens attend to earlier positions alone.
    pub causal: bool,
    /// Attention and feed-forward take the same input.
    pub parallel_residual: bool,
    pub embedding_scale: f32,
    /// Factor on what a half of a layer adds to the residual stream.
    pub residual_scale: f32,
    pub logit_scale: f32,
    pub logit_softcap: Option<f32>,
    pub experts: Option<Experts>,
    pub mla: Option<Mla>,
    /// Linear layers round their inputs to 8 bits with one scale per token, as BitNet b1.58 does.
    pub bit_linear: bool,
    /// How a Hugging Face folder stores the weights of linear layers.
    pub quant_method: QuantMethod,
    /// Remarks about the file that are no problems.
    pub notes: Vec<String>,
    /// Assumptions that were made, with reasons.
    pub warnings: Vec<String>,
}

impl Deref for Spec {
    type Target = Sizes;

    fn deref(&self) -> &Sizes {
        &self.sizes
    }
}

impl Spec {
    /// Reads and checks the specification of a model file.
    ///
    /// # Errors
    /// When a key is missing, of the wrong type, out of range or unsupported.
    pub fn of(file: &File) -> Result<Spec> {
        let read = || Spec::of_keys(file, &keys(file)?);
        read().map_err(|error| hf::explain(file, error))
    }

    /// The longest window of its layers; `None` when all attend to everything.
    pub fn max_window(&self) -> Option<usize> {
        self.layer_kinds.iter().filter_map(|kind| kind.window).max()
    }

    /// The keys that [`Spec::of`] looks for in a file, whether it has them or not: paths in `config.json`, or keys of GGUF without the name of
    /// the architecture in front.
    ///
    /// # Errors
    /// As [`Spec::of`].
    pub fn keys(file: &File) -> Result<BTreeSet<String>> {
        let keys = keys(file)?;
        Spec::of_keys(file, &keys)?;
        Ok(keys.looked_for())
    }

    fn of_keys(file: &File, keys: &Keys) -> Result<Spec> {
        let arch = keys.arch;
        let many = 1..=1 << 24;
        let n_layers = keys.required("block_count", 1..=1 << 16).map_err(|error| match error {
            Error::MissingKey { .. } if file.tensors().next().is_none() => Error::NoWeights,
            error => error,
        })?;
        let n_heads = keys.required("attention.head_count", 1..=1 << 16)?;
        let n_kv_heads = keys.count("attention.head_count_kv", 1..=1 << 16)?.unwrap_or(n_heads);
        let hidden_size = keys.required("embedding_length", many.clone())?;
        if n_heads % n_kv_heads != 0 {
            let (key, kv) = (keys.file_key("attention.head_count"), keys.file_key("attention.head_count_kv"));
            // Heads that do not divide the hidden size are more likely the wrong number.
            return Err(match hidden_size.is_multiple_of(n_heads) {
                true => Error::bad(kv, format!("a divisor of {n_heads} heads"), n_kv_heads),
                false => Error::bad(key, format!("a multiple of {kv}, which is {n_kv_heads}"), n_heads),
            });
        }
        keys.check_neutral()?;
        let vocab_size = head::vocab_size(file, keys)?;
        let eps_key = match arch.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        let missing = || Error::MissingKey { key: keys.file_key(eps_key), expected: "a number" };
        let eps = keys.float(eps_key, 0.0)?.ok_or_else(missing)?;
        let mla = if arch.mla { Some(Mla::of(keys, eps)?) } else { None };
        let query_dim = heads::head_dim(keys, hidden_size, n_heads, mla)?;
        let (n_kv_heads, head_dim) =
            mla.map_or((n_kv_heads, query_dim), |mla| (1, mla.kv_lora_rank + mla.qk_rope_head_dim));
        keys.check_same(&["embedding_length_out"], hidden_size)?;
        keys.check_same(&["attention.key_length_swa", "attention.value_length_swa"], query_dim)?;
        check_activation(keys)?;
        let rope = rope::ropes(keys, file, mla.map_or(query_dim, |mla| mla.qk_rope_head_dim))?;
        let factor = |key: &str| keys.float(key, 0.0).map(|factor| factor.filter(|&factor| factor != 0.0));
        let quant_method = keys.config.as_ref().map_or(Ok(QuantMethod::None), |config| {
            config.get("quantization_config");
            QuantMethod::of(config.value())
        })?;
        let query_scalar = heads::query_scalar(arch, n_layers, hidden_size / n_heads, query_dim);
        let usual_scale = 1.0 / (query_scalar as f32).sqrt() * rope.score_scale;
        let logit_scale = factor("logit_scale")?.unwrap_or(1.0);
        let embedding_scale = if arch.scaled_embedding { (hidden_size as f32).sqrt() } else { 1.0 };
        let experts = experts::experts(keys)?;
        let mut warnings = keys.config.as_ref().map_or_else(Vec::new, |config| hf::assumptions(config, arch));
        if let Some(config) = &keys.config {
            warnings.extend(QuantMethod::warnings(config.value())?);
        }
        let tied = head::is_tied(file, keys, &quant_method, &mut warnings)?;
        if arch.qkv_bias && !file.names().any(|name| name.ends_with(".bias")) {
            let name = arch.name();
            warnings.push(format!(
                "no tensor is a bias, where every {name} model has biases of queries, keys and values: is it one?"
            ));
        }
        let mut notes = Vec::new();
        if is_multimodal(file) {
            notes
                .push("the model also takes images, which Trine does not support: only its text part is loaded".into());
        }
        notes.extend(quant_method.note(file));
        if let Some((length, _)) = &rope.short {
            notes.push(format!(
                "LongRoPE has one list of factors for contexts of up to {length} tokens and one for longer ones: the context that the model is \
                 loaded with decides, not the length of a prompt"
            ));
        }
        if mla.is_some() && quant_method.bitnet().is_some_and(|bitnet| bitnet.norm_eps.is_some()) {
            return Err(Error::bad("quantization_config.use_rms_norm", "false in this architecture", true));
        }
        let chooses = arch.supported_keys.contains(&"use_parallel_residual");
        let parallel = if chooses { keys.flag("use_parallel_residual")? } else { None };
        // llama.cpp's converter writes the key for every model: where a file may lack the second norm, it says it.
        let second_norm = arch.is_optional("ffn_norm") && file.contains("blk.0.ffn_norm.weight");
        let parallel = parallel.filter(|_| keys.config.is_some() || !second_norm);
        let layer_kinds = layers::layer_kinds(keys, n_layers, rope.all.len(), experts.is_some(), !arch.encoder)?;
        let intermediate_size = match keys.count("feed_forward_length", 0..=1 << 24)? {
            Some(inner) if inner > 0 => inner,
            // Models of experts alone need not have it.
            _ if experts.is_some() => experts.as_ref().map_or(0, |experts| experts.intermediate_size),
            _ => keys.required("feed_forward_length", many)?,
        };
        let sizes = Sizes {
            arch,
            n_layers,
            hidden_size,
            n_heads,
            n_kv_heads,
            head_dim,
            intermediate_size,
            vocab_size,
            context_length: rope::context_length(keys)?,
            rope_base: rope.base,
            eps,
            tied,
        };
        let mut spec = Spec {
            sizes,
            layer_kinds,
            activation: keys.activation,
            ropes: rope.all,
            short_ropes: rope.short,
            query_rope: rope.queries,
            attention_scale: factor("attention.scale")?.unwrap_or(usual_scale),
            attention_softcap: factor("attn_logit_softcapping")?,
            causal: !arch.encoder,
            parallel_residual: parallel.unwrap_or(arch.parallel_residual),
            embedding_scale: factor("embedding_scale")?.unwrap_or(embedding_scale),
            residual_scale: factor("residual_scale")?.unwrap_or(1.0),
            logit_scale: if arch.divided_logits { 1.0 / logit_scale } else { logit_scale },
            logit_softcap: factor("final_logit_softcapping")?,
            experts,
            mla,
            bit_linear: quant_method.bitnet().is_some() || arch.bit_linear,
            quant_method,
            notes,
            warnings,
        };
        spec.warnings.extend(keys.warnings());
        spec.limit(spec.context_length);
        Ok(spec)
    }

    /// Limits the context, and switches to the rotations for it.
    pub(crate) fn limit(&mut self, context: usize) {
        if let Some((_, ropes)) = self.short_ropes.take_if(|(length, _)| context <= *length) {
            self.ropes = ropes;
        }
        self.sizes.context_length = self.sizes.context_length.min(context);
    }

    /// The longest context with the rotations of a context of `context` tokens: the model's, unless LongRoPE has others for short contexts.
    pub fn longest_context_like(&self, context: usize) -> usize {
        match self.short_ropes {
            Some((length, _)) if context <= length => length.min(self.context_length),
            _ => self.context_length,
        }
    }
}

/// GGUF files need not name the activation, which the architecture has.
fn check_activation(keys: &Keys) -> Result<()> {
    match keys.text("hidden_activation")? {
        Some(name) if keys.arch.activation_of_hf(name) != Some(keys.activation) => {
            let expected = format!("the activation of the architecture, {:?}", keys.activation);
            Err(Error::bad(keys.file_key("hidden_activation"), expected, name))
        }
        _ => Ok(()),
    }
}

fn keys(file: &File) -> Result<Keys<'_>> {
    match file.format() {
        FileFormat::Gguf { .. } => Keys::of_gguf(file),
        FileFormat::Safetensors => hf::keys(file),
    }
}
