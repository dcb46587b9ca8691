//! The keys of an architecture, from GGUF or from Hugging Face's `config.json`, by their GGUF names.

use crate::{Arch, Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use trine_tensor::{File, Kind, Metadata};

/// What a model says of itself.
pub struct Keys<'a> {
    /// Its architecture.
    pub arch: &'static Arch,
    /// GGUF keys, those of the architecture under `prefix`.
    pub metadata: Cow<'a, Metadata>,
    prefix: String,
}

/// `config.json` says this where GGUF says that, as llama.cpp's converter writes it.
static NUMBERS: &[(&str, &str)] = &[
    ("num_hidden_layers", "block_count"),
    ("max_position_embeddings", "context_length"),
    ("hidden_size", "embedding_length"),
    ("intermediate_size", "feed_forward_length"),
    ("num_attention_heads", "attention.head_count"),
    ("num_key_value_heads", "attention.head_count_kv"),
    ("head_dim", "attention.key_length"),
    ("vocab_size", "vocab_size"),
];

/// Keys that other architectures compute with, and the values that change nothing.
static NEUTRAL: &[(&str, &[f32])] = &[
    ("expert_count", &[0.0]),
    ("attention.clamp_kqv", &[0.0]),
    ("attention.scale", &[0.0]),
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
        match file.kind() {
            Kind::Gguf { .. } => {
                let missing = || Error::MissingKey { key: "general.architecture".into(), expected: "the name of one" };
                let name = file.metadata().str("general.architecture")?.ok_or_else(missing)?;
                let arch = Arch::of_gguf(name).ok_or_else(|| unknown(name))?;
                Ok(Keys { arch, metadata: Cow::Borrowed(file.metadata()), prefix: name.to_owned() })
            }
            Kind::Safetensors => {
                let missing = || Error::MissingKey { key: "config.json".into(), expected: "a file beside the tensors" };
                Keys::of_config(file.config().ok_or_else(missing)?)
            }
        }
    }

    fn of_config(config: &Value) -> Result<Keys<'a>> {
        let missing = || Error::MissingKey { key: "model_type".into(), expected: "the name of an architecture" };
        let name = config["model_type"].as_str().ok_or_else(missing)?;
        let activation = config["hidden_act"].as_str().unwrap_or("silu");
        let arch = Arch::of_hub(name, activation).ok_or_else(|| unknown(&format!("{name} with {activation}")))?;
        let prefix = arch.gguf[0].to_owned();
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", prefix.as_str());
        for (hub, gguf) in NUMBERS {
            if let Some(value) = config.get(hub).filter(|value| !value.is_null()) {
                let number = value.as_u64().and_then(|n| u32::try_from(n).ok());
                let number = number.ok_or_else(|| Error::bad(*hub, "a count below 2^32", value))?;
                metadata.insert(format!("{prefix}.{gguf}"), number);
            }
        }
        if let Some(eps) = number(config, "rms_norm_eps")? {
            metadata.insert(format!("{prefix}.attention.layer_norm_rms_epsilon"), eps as f32);
        }
        if config["use_sliding_window"] == true
            && let Some(window) = config["sliding_window"].as_u64().and_then(|n| u32::try_from(n).ok())
        {
            metadata.insert(format!("{prefix}.attention.sliding_window"), window);
        }
        let mut keys = Keys { arch, metadata: Cow::Owned(metadata), prefix };
        keys.rope_of_config(config)?;
        Ok(keys)
    }

    /// Rotary positions, which transformers writes in two ways: flat with `rope_scaling`, or all in `rope_parameters`.
    fn rope_of_config(&mut self, config: &Value) -> Result<()> {
        let empty = Value::Null;
        let section = |name: &str| config.get(name).filter(|section| section.is_object());
        let scaling = section("rope_parameters").or_else(|| section("rope_scaling")).unwrap_or(&empty);
        let metadata = self.metadata.to_mut();
        let mut set = |key: &str, value: f64| metadata.insert(format!("{}.rope.{key}", self.prefix), value as f32);
        if let Some(base) =
            number(scaling, "rope_theta")?.map_or_else(|| number(config, "rope_theta"), |base| Ok(Some(base)))?
        {
            set("freq_base", base);
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
        if let Some(fraction) = number(config, "partial_rotary_factor")?.filter(|&fraction| fraction != 1.0) {
            return Err(Error::bad("partial_rotary_factor", "1, or none", fraction));
        }
        let original = scaling.get("original_max_position_embeddings").and_then(Value::as_u64);
        if let Some(original) = original.and_then(|n| u32::try_from(n).ok()) {
            self.metadata.to_mut().insert(format!("{}.rope.scaling.original_context_length", self.prefix), original);
        }
        let kind =
            scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str).unwrap_or("default");
        let kind = if kind == "default" { "none" } else { kind };
        self.metadata.to_mut().insert(format!("{}.rope.scaling.type", self.prefix), kind);
        Ok(())
    }

    /// The full name of a key of the architecture.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// A whole number in `range`, or an error that says so.
    pub fn count(&self, key: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<usize>> {
        let key = self.name(key);
        match self.metadata.u32(&key)? {
            Some(n) if range.contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(Error::bad(key, format!("{} to {}", range.start(), range.end()), n)),
            None => Ok(None),
        }
    }

    /// The same, when it must be there.
    pub fn needed(&self, key: &str, range: std::ops::RangeInclusive<u32>) -> Result<usize> {
        let missing = || Error::MissingKey { key: self.name(key), expected: "a count" };
        self.count(key, range)?.ok_or_else(missing)
    }

    /// Positions that the model was trained for; with a sliding window, those that all tokens see, within which the window changes nothing.
    pub fn context(&self) -> Result<usize> {
        let context = self.needed("context_length", 1..=1 << 30)?;
        let window = self.count("attention.sliding_window", 0..=u32::MAX)?.filter(|&window| window > 0);
        Ok(window.map_or(context, |window| window.min(context)))
    }

    /// Makes sure that no key asks for arithmetic that the decoder does not do.
    pub fn check_neutral(&self) -> Result<()> {
        for (key, neutral) in NEUTRAL {
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
            Some(false) => Err(Error::bad(self.name("attention.causal"), "true, or none", false)),
            _ => Ok(()),
        }
    }

    /// A finite number that is at least `least`.
    pub fn float(&self, key: &str, least: f32) -> Result<Option<f32>> {
        let key = self.name(key);
        match self.metadata.f32(&key)? {
            Some(x) if x.is_finite() && x >= least => Ok(Some(x)),
            Some(x) => Err(Error::bad(key, format!("a finite number of at least {least}"), x)),
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
