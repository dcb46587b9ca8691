//! The keys of an architecture, from GGUF or from Hugging Face's `config.json`, by their GGUF names.

use crate::{Arch, Error, Result, hub};
use serde_json::Value;
use std::borrow::Cow;
use trine_backend::Activation;
use trine_tensor::{File, FileFormat, Metadata};

/// What a model says of itself.
pub struct Keys<'a> {
    /// Its architecture.
    pub arch: &'static Arch,
    /// GGUF keys, those of the architecture under `prefix`.
    pub metadata: Cow<'a, Metadata>,
    /// The configuration of a Hugging Face folder, as [`config`] gives it.
    pub config: Option<Cow<'a, Value>>,
    /// The activation of its feed-forward layers.
    pub activation: Activation,
    prefix: String,
}

/// Models of several parts whose texts are read by a model of their own, as folders name them, and what that is called where `text_config` does not say.
static WHOLES: &[(&str, &str)] = &[("gemma3", "gemma3_text"), ("mistral3", "mistral")];

/// The `config.json` of a folder; of a model of several parts the one of its text, in the midst of what all parts share.
pub(crate) fn config(file: &File) -> Option<Cow<'_, Value>> {
    let config = file.config()?;
    let Some((text, usual)) = text_of(config) else { return Some(Cow::Borrowed(config)) };
    let mut whole = config.as_object()?.clone();
    whole.insert("model_type".into(), usual.into());
    whole.extend(text.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())));
    Some(Cow::Owned(whole.into()))
}

/// The configuration of the text of a model of several parts, and the usual type of that.
fn text_of(config: &Value) -> Option<(&serde_json::Map<String, Value>, &'static str)> {
    let kind = config.get("model_type")?.as_str()?;
    let (_, usual) = WHOLES.iter().find(|(whole, _)| *whole == kind)?;
    Some((config.get("text_config")?.as_object()?, usual))
}

/// Whether a folder has more than the model of its text.
pub(crate) fn has_other_parts(file: &File) -> bool {
    file.config().is_some_and(|config| text_of(config).is_some())
}

/// `config.json` says this where GGUF says that, as llama.cpp's converter writes it.
static COUNTS: &[(&str, &str)] = &[
    ("num_hidden_layers", "block_count"),
    ("n_layer", "block_count"),
    ("max_position_embeddings", "context_length"),
    ("n_positions", "context_length"),
    ("hidden_size", "embedding_length"),
    ("n_embd", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("n_inner", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("n_head", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("vocab_size", "vocab_size"),
    ("num_local_experts", "expert_count"),
    ("num_experts", "expert_count"),
    ("n_routed_experts", "expert_count"),
    ("num_experts_per_tok", "expert_used_count"),
    ("moe_intermediate_size", "expert_feed_forward_length"),
    ("n_shared_experts", "expert_shared_count"),
    ("first_k_dense_replace", "leading_dense_block_count"),
    ("n_group", "expert_group_count"),
    ("topk_group", "expert_group_used_count"),
    ("q_lora_rank", "attention.q_lora_rank"),
    ("kv_lora_rank", "attention.kv_lora_rank"),
    ("qk_rope_head_dim", "rope.dimension_count"),
    ("v_head_dim", "attention.value_length_mla"),
    ("local_attention", "attention.sliding_window"),
    ("global_attn_every_n_layers", "attention.sliding_window_pattern"),
    ("sliding_window_pattern", "attention.sliding_window_pattern"),
];

/// The same for numbers that need not be whole.
static NUMBERS: &[(&str, &str)] = &[
    ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
    ("layer_norm_eps", "attention.layer_norm_epsilon"),
    ("layer_norm_epsilon", "attention.layer_norm_epsilon"),
    ("norm_epsilon", "attention.layer_norm_epsilon"),
    ("norm_eps", "attention.layer_norm_epsilon"),
    ("attn_logit_softcapping", "attn_logit_softcapping"),
    ("final_logit_softcapping", "final_logit_softcapping"),
    ("logit_scale", "logit_scale"),
    ("logits_scaling", "logit_scale"),
    ("embedding_multiplier", "embedding_scale"),
    ("residual_multiplier", "residual_scale"),
    ("attention_multiplier", "attention.scale"),
    ("routed_scaling_factor", "expert_weights_scale"),
    ("rope_local_base_freq", "rope.freq_base_swa"),
    ("local_rope_theta", "rope.freq_base_swa"),
];

/// And for what is true or false.
static FLAGS: &[(&str, &str)] =
    &[("use_parallel_residual", "use_parallel_residual"), ("norm_topk_prob", "expert_weights_norm")];

/// Keys that change what is computed, and the values that change nothing; an architecture names those that it heeds.
static NEUTRAL: &[(&str, &[f32])] = &[
    ("expert_count", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.scale", &[0.0]),
    ("attention.temperature_scale", &[0.0]),
    ("attention.max_alibi_bias", &[0.0]),
    ("attn_logit_softcapping", &[0.0]),
    ("final_logit_softcapping", &[0.0]),
    ("logit_scale", &[0.0, 1.0]),
    ("residual_scale", &[0.0, 1.0]),
    ("embedding_scale", &[0.0, 1.0]),
];

impl<'a> Keys<'a> {
    /// Reads the keys of a model file.
    pub fn of(file: &'a File) -> Result<Keys<'a>> {
        match file.format() {
            FileFormat::Gguf { .. } => {
                let missing = || Error::MissingKey { key: "general.architecture".into(), expected: "the name of one" };
                let name = file.metadata().str("general.architecture")?.ok_or_else(missing)?;
                let arch = Arch::of_gguf(name).ok_or_else(|| unknown(name))?;
                Ok(Keys {
                    arch,
                    metadata: Cow::Borrowed(file.metadata()),
                    config: None,
                    activation: arch.activation,
                    prefix: name.to_owned(),
                })
            }
            FileFormat::Safetensors => {
                let missing = || Error::NoConfig { path: file.files()[0].with_file_name("config.json") };
                let config = config(file).ok_or_else(missing)?;
                let keys = Keys::of_config(config.clone())?;
                hub::check(&config, file)?;
                Ok(keys)
            }
        }
    }

    fn of_config(whole: Cow<'a, Value>) -> Result<Keys<'a>> {
        let config = &*whole;
        let missing = || Error::MissingKey { key: "model_type".into(), expected: "the name of an architecture" };
        let name = config["model_type"].as_str().ok_or_else(missing)?;
        // The same layers see ahead in some models that are made for embeddings.
        let ahead = if config["use_bidirectional_attention"] == true { "_bidirectional" } else { "" };
        let name = &format!("{name}{ahead}");
        let (arch, activation) = hub::arch(name, config)?;
        let prefix = arch.gguf[0].to_owned();
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", prefix.as_str());
        for (hub, gguf) in COUNTS {
            if let Some(value) = config.get(hub).filter(|value| !value.is_null()) {
                let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
                let number = number.ok_or_else(|| Error::bad(*hub, "a count below 2^32", value))?;
                metadata.insert(format!("{prefix}.{gguf}"), number);
            }
        }
        for (hub, gguf) in NUMBERS {
            match number(config, hub)? {
                Some(value) => _ = metadata.insert(format!("{prefix}.{gguf}"), value as f32),
                // What is none is not what GGUF files that do not say it imply.
                None if hub.ends_with("softcapping") && config.get(hub).is_some() => {
                    metadata.insert(format!("{prefix}.{gguf}"), 0f32);
                }
                None => {}
            }
        }
        for (hub, gguf) in FLAGS {
            if let Some(value) = config.get(hub).filter(|value| !value.is_null()) {
                let flag = value.as_bool().ok_or_else(|| Error::bad(*hub, "true or false", value))?;
                metadata.insert(format!("{prefix}.{gguf}"), flag);
            }
        }
        let mut keys = Keys { arch, metadata: Cow::Owned(metadata), config: Some(whole.clone()), activation, prefix };
        keys.computed_of_config(config)?;
        keys.rope_of_config(config)?;
        Ok(keys)
    }

    /// What GGUF has under another meaning.
    fn computed_of_config(&mut self, config: &Value) -> Result<()> {
        let count = |key: &str| config.get(key).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let mut found = Vec::new();
        if config["use_sliding_window"] != false
            && let Some(window) = count("sliding_window")
        {
            found.push(("attention.sliding_window", window));
        }
        if let (Some(nope), Some(turned)) = (count("qk_nope_head_dim"), count("qk_rope_head_dim")) {
            found.push(("attention.key_length_mla", nope.saturating_add(turned)));
        }
        if let (Some(width), None) = (count("n_embd"), count("n_inner")) {
            found.push(("feed_forward_length", width.saturating_mul(4)));
        }
        match config["scoring_func"].as_str() {
            Some("softmax") => found.push(("expert_gating_func", 1)),
            Some("sigmoid") => found.push(("expert_gating_func", 2)),
            Some(other) => return Err(Error::bad("scoring_func", "softmax or sigmoid", other)),
            // DeepSeek V3 computes it without saying so.
            None if config["model_type"] == "deepseek_v3" => found.push(("expert_gating_func", 2)),
            None => {}
        }
        if let Some(limit) = number(config, "swiglu_limit")?.filter(|&limit| limit != 7.0) {
            return Err(Error::bad("swiglu_limit", "7, or none", limit));
        }
        let groups = config["model_type"] == "deepseek_v3" || config["topk_method"] == "group_limited_greedy";
        for (key, value) in found {
            let key = self.name(key);
            self.metadata.to_mut().insert(key, value);
        }
        if !groups {
            let key = self.name("expert_group_count");
            self.metadata.to_mut().remove(&key);
        }
        if let Some(scalar) = number(config, "query_pre_attn_scalar")? {
            let key = self.name("attention.scale");
            self.metadata.to_mut().insert(key, scalar.powf(-0.5) as f32);
        }
        Ok(())
    }

    /// Rotary positions, which transformers writes in two ways: flat with `rope_scaling`, or all in `rope_parameters`.
    fn rope_of_config(&mut self, config: &Value) -> Result<()> {
        let empty = Value::Null;
        let section = |name: &str| config.get(name).filter(|section| section.is_object());
        let scaling = section("rope_parameters").or_else(|| section("rope_scaling")).unwrap_or(&empty);
        // Layers with a window may have frequencies of their own.
        let windowed = scaling.get("sliding_attention").cloned();
        let scaling = scaling.get("full_attention").unwrap_or(scaling);
        let head_dim = self.count("attention.key_length", 1..=1 << 16)?;
        let head_dim = match head_dim {
            Some(head_dim) => head_dim,
            None => self.needed("embedding_length", 1..=1 << 24)? / self.needed("attention.head_count", 1..=1 << 16)?,
        };
        let metadata = self.metadata.to_mut();
        let mut set = |key: &str, value: f64| metadata.insert(format!("{}.rope.{key}", self.prefix), value as f32);
        // The first of these places that says it.
        let first = |places: &[(&Value, &'static str)]| {
            places.iter().find_map(|(place, key)| number(place, key).transpose()).transpose()
        };
        if let Some(base) = first(&[
            (scaling, "rope_theta"),
            (config, "rope_theta"),
            (config, "rotary_emb_base"),
            (config, "global_rope_theta"),
            (config, "default_theta"),
        ])? {
            set("freq_base", base);
        }
        if let Some(base) = windowed.map(|windowed| number(&windowed, "rope_theta")).transpose()?.flatten() {
            set("freq_base_swa", base);
        }
        for (hub, gguf) in [
            ("factor", "scaling.factor"),
            ("low_freq_factor", "scaling.low_freq_factor"),
            ("high_freq_factor", "scaling.high_freq_factor"),
            ("beta_fast", "scaling.yarn_beta_fast"),
            ("beta_slow", "scaling.yarn_beta_slow"),
            ("attention_factor", "scaling.magnitude"),
        ] {
            if let Some(value) = number(scaling, hub)? {
                set(gguf, value);
            }
        }
        if let Some(all) = number(scaling, "mscale_all_dim")?.filter(|&all| all != 0.0) {
            let factor = number(scaling, "factor")?.unwrap_or(1.0).max(1.0);
            let magnitude = |mscale: f64| 0.1 * mscale * libm::log(factor) + 1.0;
            set("scaling.yarn_log_multiplier", 0.1 * all);
            if number(scaling, "attention_factor")?.is_none() {
                let own = number(scaling, "mscale")?.filter(|&own| own != 0.0);
                set("scaling.magnitude", own.map_or(magnitude(1.0), |own| magnitude(own) / magnitude(all)));
            }
        }
        let fraction = first(&[
            (scaling, "partial_rotary_factor"),
            (config, "partial_rotary_factor"),
            (config, "rotary_pct"),
            (config, "rotary_emb_fraction"),
        ])?;
        if let Some(fraction) = fraction {
            if !(fraction > 0.0 && fraction <= 1.0) {
                return Err(Error::bad("partial_rotary_factor", "a number above 0, up to 1", fraction));
            }
            let key = self.name("rope.dimension_count");
            self.metadata.to_mut().insert(key, (head_dim as f64 * fraction) as u32);
        }
        let original = scaling.get("original_max_position_embeddings");
        let original = original.or_else(|| config.get("original_max_position_embeddings")).and_then(Value::as_u64);
        if let Some(original) = original.and_then(|n| u32::try_from(n).ok()) {
            self.metadata.to_mut().insert(format!("{}.rope.scaling.original_context_length", self.prefix), original);
        }
        let kind =
            scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
        let kind = match kind {
            "default" => "none",
            "su" => "longrope",
            kind => kind,
        };

        self.metadata.to_mut().insert(format!("{}.rope.scaling.type", self.prefix), kind);
        if let Some(scale) = number(scaling, "llama_4_scaling_beta")? {
            let key = self.name("attention.temperature_scale");
            self.metadata.to_mut().insert(key, scale as f32);
        }
        Ok(())
    }

    /// What `config.json` may call a key of GGUF.
    pub fn hub_names(key: &str) -> impl Iterator<Item = &'static str> {
        COUNTS.iter().chain(NUMBERS).chain(FLAGS).filter(move |(_, gguf)| *gguf == key).map(|&(hub, _)| hub)
    }

    /// What the file calls a key, for messages.
    pub fn said(&self, key: &str) -> String {
        self.config.as_deref().map_or_else(|| self.name(key), |config| hub::name(config, key))
    }

    /// The full name of a key of the architecture.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// A whole number in `range`, or an error that says so.
    pub fn count(&self, key: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<usize>> {
        let implied = self.implied(key).map(|n| n as u32);
        match self.metadata.u32(&self.name(key))?.or(implied) {
            Some(n) if range.contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(Error::bad(self.said(key), format!("{} to {}", range.start(), range.end()), n)),
            None => Ok(None),
        }
    }

    /// The same, when it must be there.
    pub fn needed(&self, key: &str, range: std::ops::RangeInclusive<u32>) -> Result<usize> {
        let missing = || Error::MissingKey { key: self.said(key), expected: "a count" };
        self.count(key, range)?.ok_or_else(missing)
    }

    /// What the architecture says where a file says nothing.
    fn implied(&self, key: &str) -> Option<f32> {
        let of_hub = self.config.iter().flat_map(|_| self.arch.hub_implied);
        self.arch.implied.iter().chain(of_hub).find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    /// Something that is true or false.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        Ok(self.metadata.bool(&self.name(key))?.or(self.implied(key).map(|value| value != 0.0)))
    }

    /// Makes sure that no key asks for arithmetic that the decoder does not do.
    pub fn check_neutral(&self) -> Result<()> {
        for (key, neutral) in NEUTRAL.iter().filter(|(key, _)| !self.arch.heeds.contains(key)) {
            let key = self.name(key);
            let found = match self.metadata.get(&key) {
                None => continue,
                Some(_) => self.metadata.f32(&key).or_else(|_| self.metadata.u32(&key).map(|n| n.map(|n| n as f32)))?,
            };
            if let Some(found) = found.filter(|found| !neutral.contains(found)) {
                let neutral = neutral.iter().map(|x| x.to_string()).collect::<Vec<_>>().join(" or ");
                return Err(Error::bad(key, format!("{neutral}, or none, in this architecture"), found));
            }
        }
        match self.metadata.bool(&self.name("attention.causal"))? {
            Some(false) if !self.arch.heeds.contains(&"attention.causal") => {
                Err(Error::bad(self.name("attention.causal"), "true, or none", false))
            }
            _ => Ok(()),
        }
    }

    /// A finite number that is at least `least`.
    pub fn float(&self, key: &str, least: f32) -> Result<Option<f32>> {
        match self.metadata.f32(&self.name(key))?.or(self.implied(key)) {
            Some(x) if x.is_finite() && x >= least => Ok(Some(x)),
            Some(x) => Err(Error::bad(self.said(key), format!("a finite number of at least {least}"), x)),
            None => Ok(None),
        }
    }
}

fn unknown(found: &str) -> Error {
    Error::UnknownArch { found: found.into(), known: Arch::names() }
}

fn number(config: &Value, key: &'static str) -> Result<Option<f64>> {
    match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_f64().map(Some).ok_or_else(|| Error::bad(key, "a number", value)),
    }
}
