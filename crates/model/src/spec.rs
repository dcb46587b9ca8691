//! What one model is: the numbers that the decoder needs.

use crate::keys::{self, Keys};
use crate::{Arch, Error, NormKind, Result, hub, packed, rope, weights};
use trine_backend::{Activation, Groups, Rope, Routing, Score};
use trine_tensor::{File, FileFormat, Value};

/// One model of an architecture.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What it has in common with others.
    pub arch: &'static Arch,
    /// Layers.
    pub n_layers: usize,
    /// What each of them does otherwise than its neighbours.
    pub layer_kinds: Vec<LayerKind>,
    /// Numbers of a token between layers.
    pub hidden_size: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads as they are cached, a divisor of `heads`.
    pub n_kv_heads: usize,
    /// Numbers of a head as it is cached.
    pub head_dim: usize,
    /// Activation of the feed-forward layer.
    pub activation: Activation,
    /// Width of the feed-forward layer.
    pub intermediate_size: usize,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Positions it was trained for.
    pub context_length: usize,
    /// Added to the mean square in norms.
    pub eps: f32,
    /// Rotary positions: of all layers, or of those that see everything and of those with a window.
    pub ropes: Vec<Rope>,
    /// Other ones for contexts up to a length.
    pub short_ropes: Option<(usize, Vec<Rope>)>,
    /// The rotation of queries, where it is not that of keys.
    pub query_rope: Option<Rope>,
    /// Products of queries and keys are multiplied by this.
    pub attention_scale: f32,
    /// Scores are capped at this.
    pub attention_softcap: Option<f32>,
    /// Tokens see nothing behind them.
    pub causal: bool,
    /// Attention and feed-forward layer take the same input.
    pub parallel_residual: bool,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f32,
    /// What a layer adds is multiplied by this.
    pub residual_scale: f32,
    /// Logits are multiplied by this.
    pub logit_scale: f32,
    /// Logits are capped at this.
    pub logit_softcap: Option<f32>,
    /// Its experts, when it has some.
    pub experts: Option<Experts>,
    /// Its latent attention, when it has that.
    pub mla: Option<Mla>,
    /// Linear layers round their inputs to 8 bits with one scale per token, as BitNet b1.58 does.
    pub bit_linear: bool,
    /// How the weights of linear layers are written at Hugging Face.
    pub packing: Packing,
    /// What is to be known about the file, though nothing is wrong.
    pub notes: Vec<String>,
    /// What was assumed, and why.
    pub warnings: Vec<String>,
    /// The folder says that the head is the embedding, and has another matrix for it.
    pub own_head: bool,
}

/// What a layer does otherwise than its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerKind {
    /// Positions that a token sees, its own included; without it, all.
    pub window: Option<usize>,
    /// Which rotation its queries and keys get.
    pub rope: Option<usize>,
    /// Whether its feed-forward layer has experts.
    pub experts: bool,
}

/// Experts of a feed-forward layer.
#[derive(Clone, Debug)]
pub struct Experts {
    /// How many.
    pub n_experts: usize,
    /// Their width.
    pub intermediate_size: usize,
    /// How a token's are chosen.
    pub routing: Routing,
}

/// Mla attention (arXiv:2405.04434), with the up-projections of keys and values moved to queries and outputs.
#[derive(Clone, Copy, Debug)]
pub struct Mla {
    /// Width that queries are projected through, if any.
    pub q_rank: Option<usize>,
    /// Numbers that keys and values are projections of.
    pub rank: usize,
    /// Numbers of a query head that meet those.
    pub plain: usize,
    /// Numbers of a query head, and of the one key, that are turned.
    pub turned: usize,
    /// Numbers of a value head.
    pub value: usize,
}

/// How Hugging Face folders hold the weights of linear layers; ternary ones as transformers' `integrations/bitnet.py` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// As they are; all GGUF files.
    Plain,
    /// Float weights, made ternary by their mean when loaded: `autobitlinear`, `online`.
    Online,
    /// Packed trits times `weight_scale`: `autobitlinear`, `offline`.
    Times,
    /// Packed trits divided by `weight_scale`: `bitlinear`.
    Over,
    /// Integers with scales and zero points of groups of inputs, packed by GPTQ (arXiv:2210.17323).
    Gptq {
        /// Bits of a weight.
        bits: usize,
        /// Inputs of a group; without it, all.
        group: Option<usize>,
        /// Zero points are stored less one.
        less_one: bool,
    },
    /// 4-bit integers with scales and zero points of groups of inputs, packed by AWQ (arXiv:2306.00978).
    Awq {
        /// Inputs of a group; without it, all.
        group: Option<usize>,
    },
    /// 8-bit floats with scales.
    Fp8 {
        /// Rows and columns of a block with one scale; without it, rows or matrices have one.
        block: Option<[usize; 2]>,
    },
}

impl Spec {
    /// Reads and checks the specification of a model file.
    pub fn of(file: &File) -> Result<Spec> {
        let keys = Keys::of(file)?;
        let arch = keys.arch;
        let many = 1..=1 << 24;
        let n_layers = keys.needed("block_count", 1..=1 << 16)?;
        let n_heads = keys.needed("attention.head_count", 1..=1 << 16)?;
        let n_kv_heads = keys.count("attention.head_count_kv", 1..=1 << 16)?.unwrap_or(n_heads);
        if n_heads % n_kv_heads != 0 {
            return Err(Error::bad(
                keys.said("attention.head_count_kv"),
                format!("a divisor of {n_heads} heads"),
                n_kv_heads,
            ));
        }
        let hidden_size = keys.needed("embedding_length", many.clone())?;
        keys.check_neutral()?;
        let vocab_size = vocab(file, &keys)?;
        let eps_key = match arch.norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        let missing = || Error::MissingKey { key: keys.said(eps_key), expected: "a number" };
        let mla = if arch.mla { Some(latent(&keys)?) } else { None };
        let head_dim = head_dim(&keys, hidden_size, n_heads, mla)?;
        let (n_kv_heads, cached) = mla.map_or((n_kv_heads, head_dim), |latent| (1, latent.rank + latent.turned));
        let turned = mla.map_or(head_dim, |latent| latent.turned);
        let rope::Ropes { all: ropes, short: short_ropes, queries: query_rope, stretch } =
            rope::ropes(&keys, file, turned)?;
        let factor = |key: &str| keys.float(key, 0.0).map(|factor| factor.filter(|&factor| factor != 0.0));
        let (bit_linear, packing) = packing(&keys)?;
        let usual = 1.0 / (scale_dim(arch, n_layers, hidden_size / n_heads, head_dim) as f32).sqrt() * stretch;
        let logit_scale = factor("logit_scale")?.unwrap_or(1.0);
        let embedding_scale = if arch.scaled_embedding { (hidden_size as f32).sqrt() } else { 1.0 };
        let experts = experts(&keys)?;
        let notes = match keys::has_other_parts(file) {
            true => {
                vec!["the model also sees images, which Trine does not show it: it is the part for text".to_owned()]
            }
            false => Vec::new(),
        };
        let mut warnings = keys.config.as_deref().map_or_else(Vec::new, |config| hub::assumptions(config, arch));
        let own_head = keys.config.is_some() && weights::has_own_head(file)?;
        if own_head
            && keys.config.as_deref().is_some_and(|config| config.get("tie_word_embeddings") == Some(&true.into()))
        {
            warnings.push(
                "config.json says tie_word_embeddings, but lm_head.weight is another matrix than the embedding: it is the head"
                    .to_owned(),
            );
        }
        if arch.biased && !file.names().any(|name| name.ends_with(".bias")) {
            let name = arch.gguf[0];
            warnings.push(format!(
                "no tensor is a bias, where every {name} model has biases of queries, keys and values: is it one?"
            ));
        }
        let told = arch.heeds.contains(&"use_parallel_residual");
        let mut spec = Spec {
            arch,
            n_layers,
            layer_kinds: kinds(&keys, n_layers, ropes.len(), experts.is_some(), !arch.encoder)?,
            hidden_size,
            n_heads,
            n_kv_heads,
            head_dim: cached,
            activation: keys.activation,
            intermediate_size: match keys.count("feed_forward_length", 0..=1 << 24)? {
                Some(inner) if inner > 0 => inner,
                // Models of experts alone need not have it.
                _ if experts.is_some() => experts.as_ref().map_or(0, |experts| experts.intermediate_size),
                _ => keys.needed("feed_forward_length", many)?,
            },
            vocab_size,
            context_length: rope::context(&keys)?,
            eps: keys.float(eps_key, 0.0)?.ok_or_else(missing)?,
            ropes,
            short_ropes,
            query_rope,
            attention_scale: factor("attention.scale")?.unwrap_or(usual),
            attention_softcap: factor("attn_logit_softcapping")?,
            causal: !arch.encoder,
            parallel_residual: keys.flag("use_parallel_residual")?.filter(|_| told).unwrap_or(arch.parallel_residual),
            embedding_scale: factor("embedding_scale")?.unwrap_or(embedding_scale),
            residual_scale: factor("residual_scale")?.unwrap_or(1.0),
            logit_scale: if arch.divided_logits { 1.0 / logit_scale } else { logit_scale },
            logit_softcap: factor("final_logit_softcapping")?,
            experts,
            mla,
            bit_linear: bit_linear || arch.bit_linear,
            packing,
            notes,
            warnings,
            own_head,
        };
        spec.limit(spec.context_length);
        Ok(spec)
    }

    /// Takes the rotations that are meant for contexts of this length.
    pub(crate) fn limit(&mut self, context: usize) {
        if let Some((most, ropes)) = self.short_ropes.take_if(|(most, _)| context <= *most) {
            (self.ropes, self.context_length) = (ropes, self.context_length.min(most));
        }
    }
}

/// Rows of the embedding.
fn vocab(file: &File, keys: &Keys) -> Result<usize> {
    let name = match file.format() {
        FileFormat::Gguf { .. } => "token_embd.weight".to_owned(),
        FileFormat::Safetensors => keys.arch.hub_name("token_embd.weight").expect("every architecture embeds tokens"),
    };
    let vocab = file.view(&weights::find(file, &name).unwrap_or(name))?;
    if let Some(found) = keys.count("vocab_size", 0..=u32::MAX)?.filter(|&found| found != vocab.rows()) {
        let expected = format!("the {} rows of the embedding", vocab.rows());
        return Err(Error::bad(keys.said("vocab_size"), expected, found));
    }
    Ok(vocab.rows())
}

/// Numbers of a head of queries.
fn head_dim(keys: &Keys, width: usize, heads: usize, latent: Option<Mla>) -> Result<usize> {
    if let Some(latent) = latent {
        return Ok(latent.plain + latent.turned);
    }
    let head_dim = match keys.count("attention.key_length", 1..=1 << 16)? {
        Some(head_dim) => head_dim,
        None if width / heads > 1 << 16 => {
            let expected = format!("heads of at most 65536 numbers of {width}");
            return Err(Error::bad(keys.said("attention.head_count"), expected, heads));
        }
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let expected = format!("a divisor of width {width}");
            return Err(Error::bad(keys.said("attention.head_count"), expected, heads));
        }
    };
    match keys.count("attention.value_length", 1..=1 << 16)?.filter(|&value| value != head_dim) {
        Some(value) => Err(Error::bad(keys.said("attention.value_length"), head_dim.to_string(), value)),
        None => Ok(head_dim),
    }
}

/// What scores are divided by the root of. The largest Gemmas take another number than their heads', which GGUF files do not say.
fn scale_dim(arch: &Arch, layers: usize, width_of_head: usize, head_dim: usize) -> usize {
    if arch.scaled_by_width.contains(&layers) { width_of_head } else { head_dim }
}

/// What each layer does otherwise.
fn kinds(keys: &Keys, layers: usize, ropes: usize, experts: bool, causal: bool) -> Result<Vec<LayerKind>> {
    let arch = keys.arch;
    let window = keys.count("attention.sliding_window", 0..=u32::MAX)?.filter(|&window| window > 0);
    let dense = keys.count("leading_dense_block_count", 0..=1 << 16)?.unwrap_or(0);
    // Who sees ahead has a window to both sides, half as far.
    let window = window.map(|window| if causal { window } else { window / 2 + 1 });
    let every = |n: usize, layer: usize| n > 0 && (layer + 1).is_multiple_of(n);
    let ahead = if arch.global_first { arch.global_every.saturating_sub(1) } else { 0 };
    let mut global: Vec<bool> = (0..layers).map(|layer| every(arch.global_every, layer + ahead)).collect();
    let mut turned: Vec<bool> = (0..layers).map(|layer| !every(arch.unturned_every, layer)).collect();
    let pattern = keys.name("attention.sliding_window_pattern");
    match keys.metadata.get(&pattern) {
        Some(Value::Array(trine_tensor::Array::Bool(windowed))) if windowed.len() == layers => {
            global = windowed.iter().map(|windowed| !windowed).collect();
        }
        Some(_) => {
            let n = keys.count("attention.sliding_window_pattern", 0..=1 << 16)?.unwrap_or(0);
            let ahead = if arch.global_first { n.saturating_sub(1) } else { 0 };
            global = (0..layers).map(|layer| every(n, layer + ahead)).collect();
        }
        None => {}
    }
    // Hugging Face may say it for each layer.
    let list = |key: &str| keys.config.as_deref()?.get(key)?.as_array().filter(|list| list.len() == layers);
    // Or from which layer on there are windows.
    let first = keys.config.as_deref().and_then(|config| config.get("max_window_layers")?.as_u64());
    if let Some(first) = first {
        global = (0..layers as u64).map(|layer| layer < first).collect();
    }
    if let Some(types) = list("layer_types") {
        global = types.iter().map(|kind| kind != "sliding_attention").collect();
    }
    if let Some(unturned) = list("no_rope_layers") {
        turned = unturned.iter().map(|turned| *turned != 0).collect();
    }
    let kind = |layer: usize| {
        let window = window.filter(|_| !global[layer]);
        let turned = turned[layer] && ropes > 0 && !(arch.global_unturned && window.is_none());
        let rope = turned.then_some(if window.is_some() { ropes - 1 } else { 0 });
        LayerKind { window, rope, experts: experts && layer >= dense }
    };
    Ok((0..layers).map(kind).collect())
}

/// The experts that the keys tell of.
fn experts(keys: &Keys) -> Result<Option<Experts>> {
    let Some(n_experts) = keys.count("expert_count", 0..=1 << 16)?.filter(|&count| count > 0) else { return Ok(None) };
    let used = keys.needed("expert_used_count", 1..=n_experts as u32)?;
    let intermediate_size = match keys.count("expert_feed_forward_length", 0..=1 << 24)?.filter(|&width| width > 0) {
        Some(width) => width,
        None => keys.needed("feed_forward_length", 1..=1 << 24)?,
    };
    let score = match keys.count("expert_gating_func", 0..=3)?.unwrap_or(1) {
        2 => Score::Sigmoid,
        // The third takes the softmax of the chosen, which is that of all over its sum.
        _ => Score::Softmax,
    };
    let groups = match keys.count("expert_group_count", 0..=1 << 16)?.filter(|&groups| groups > 1) {
        None => None,
        Some(groups) if n_experts % groups != 0 => {
            let expected = format!("a divisor of {n_experts} experts");
            return Err(Error::bad(keys.said("expert_group_count"), expected, groups));
        }
        Some(groups) => {
            let kept = keys.needed("expert_group_used_count", 1..=groups as u32)?;
            if kept * (n_experts / groups) < used {
                let expected = format!("groups with {used} experts or more together");
                return Err(Error::bad(keys.said("expert_group_used_count"), expected, kept));
            }
            // Two are what sigmoids go with.
            Some(Groups { count: groups, used: kept, best: if score == Score::Sigmoid { 2 } else { 1 } })
        }
    };
    let scale = keys.float("expert_weights_scale", 0.0)?.filter(|&scale| scale != 0.0).unwrap_or(1.0);
    let normalize = keys.flag("expert_weights_norm")?.unwrap_or(false);
    Ok(Some(Experts { n_experts, intermediate_size, routing: Routing { used, score, normalize, scale, groups } }))
}

fn latent(keys: &Keys) -> Result<Mla> {
    let size = 1..=1 << 16;
    let turned = keys.needed("rope.dimension_count", size.clone())?;
    // Files from before keys and values were one head have only the short names.
    let of = |key: &str| match keys.count(&format!("{key}_mla"), size.clone())? {
        Some(length) => Ok(length),
        None => keys.needed(key, size.clone()),
    };
    let key = of("attention.key_length")?;
    if key <= turned {
        return Err(Error::bad(keys.said("attention.key_length_mla"), format!("more than {turned}"), key));
    }
    Ok(Mla {
        q_rank: keys.count("attention.q_lora_rank", 0..=1 << 16)?.filter(|&rank| rank > 0),
        rank: keys.needed("attention.kv_lora_rank", size.clone())?,
        plain: key - turned,
        turned,
        value: of("attention.value_length")?,
    })
}

/// Whether a Hugging Face folder says that it is ternary, and how its linear layers are packed.
fn packing(keys: &Keys) -> Result<(bool, Packing)> {
    let config = keys.config.as_deref().and_then(|config| config.get("quantization_config"));
    let Some(config) = config.filter(|config| !config.is_null()) else { return Ok((false, Packing::Plain)) };
    let text =
        |key: &str, default: &str| config.get(key).and_then(|value| value.as_str()).unwrap_or(default).to_owned();
    // Its blocks are a format, and say themselves what they are.
    if text("quant_method", "") == "mxfp4" {
        return Ok((false, Packing::Plain));
    }
    if let Some(packing) = packed::packing(config)? {
        return Ok((false, packing));
    }
    match (&*text("quant_method", ""), &*text("linear_class", "bitlinear"), &*text("quantization_mode", "offline")) {
        ("bitnet", "autobitlinear", "online") => Ok((true, Packing::Online)),
        ("bitnet", "autobitlinear", "offline") => Ok((true, Packing::Times)),
        ("bitnet", "bitlinear", "offline") => Ok((true, Packing::Over)),
        _ => Err(Error::bad(
            "quantization_config",
            "none, or quant_method gptq, awq, fp8, compressed-tensors, or bitnet with a known linear_class",
            config,
        )),
    }
}
