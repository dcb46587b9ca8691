//! The keys of a model by their GGUF names, from GGUF or translated from `config.json`.

pub(crate) mod files;
pub(crate) mod ignored;
pub(crate) mod names;
mod strict;

use crate::{Arch, Error, Result};
use serde_json::Value;
use std::borrow::Cow;
use std::ops::RangeInclusive;
use trine_backend::Activation;
use trine_tensor::{File, Metadata};

pub(crate) struct Keys<'a> {
    pub arch: &'static Arch,
    /// GGUF keys; those of the architecture begin with `prefix`.
    pub metadata: Cow<'a, Metadata>,
    /// The configuration of a Hugging Face folder, as [`crate::config::config`] returns it.
    pub config: Option<Cow<'a, Value>>,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
    pub prefix: String,
}

/// Keys that change what is computed, with the values that change nothing.
static NEUTRAL_VALUES: &[(&str, &[f32])] = &[
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
    /// The keys of a GGUF file.
    ///
    /// # Errors
    /// When the architecture is missing or unknown.
    pub fn of_gguf(file: &'a File) -> Result<Keys<'a>> {
        let missing = || Error::MissingKey { key: "general.architecture".into(), expected: "the name of one" };
        if let Some(kind) = file.metadata().str("general.type")?.filter(|kind| *kind != "model") {
            return Err(Error::bad("general.type", "a model", kind));
        }
        let name = file.metadata().str("general.architecture")?.ok_or_else(missing)?;
        let unknown = || Error::UnknownArch { found: name.into(), known: Arch::gguf_list() };
        let arch = Arch::of_gguf(name).ok_or_else(unknown)?;
        let (metadata, activation) = (Cow::Borrowed(file.metadata()), arch.activation);
        Ok(Keys { arch, metadata, config: None, activation, prefix: name.to_owned() })
    }

    /// Inserts a key of the architecture.
    pub fn insert(&mut self, key: &str, value: impl Into<trine_tensor::Value>) {
        let key = self.name(key);
        self.metadata.to_mut().insert(key, value);
    }

    /// What the file calls a key, for messages.
    pub fn file_key(&self, key: &str) -> String {
        self.config.as_deref().map_or_else(|| self.name(key), |config| names::hf_name(config, key))
    }

    /// The full GGUF name of a key of the architecture.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// An integer in `range`.
    ///
    /// # Errors
    /// When it is out of range or of another type.
    pub fn count(&self, key: &str, range: RangeInclusive<u32>) -> Result<Option<usize>> {
        let default = self.default(key).map(|n| n as u32);
        match self.same(key)?.or(default) {
            Some(n) if range.contains(&n) => Ok(Some(n as usize)),
            Some(n) => Err(Error::bad(self.file_key(key), format!("{} to {}", range.start(), range.end()), n)),
            None => Ok(None),
        }
    }

    /// An integer, or that of every layer if there is one for each.
    fn same(&self, key: &str) -> Result<Option<u32>> {
        let name = self.name(key);
        if !matches!(self.metadata.get(&name), Some(trine_tensor::Value::Array(_))) {
            return Ok(self.metadata.u32(&name)?);
        }
        let layers = self.metadata.i32s(&name)?.unwrap_or_default();
        let Some(other) = layers.iter().position(|n| *n != layers[0]) else {
            let number = |&n: &i32| u32::try_from(n).map_err(|_| Error::bad(self.file_key(key), "counts", n));
            return layers.first().map(number).transpose();
        };
        let found = format!("{} in layer 0 and {} in layer {other}", layers[0], layers[other]);
        Err(Error::bad(self.file_key(key), "the same number in every layer", found))
    }

    /// An integer in `range` that must be there.
    ///
    /// # Errors
    /// As [`Keys::count`], and when it is missing.
    pub fn required(&self, key: &str, range: RangeInclusive<u32>) -> Result<usize> {
        let missing = || Error::MissingKey { key: self.file_key(key), expected: "a count" };
        self.count(key, range)?.ok_or_else(missing)
    }

    /// The value of a key that the file may omit.
    fn default(&self, key: &str) -> Option<f32> {
        let of_hf = self.config.iter().flat_map(|_| self.arch.hf_default_keys);
        self.arch.default_keys.iter().chain(of_hf).find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    /// A boolean.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        Ok(self.metadata.bool(&self.name(key))?.or(self.default(key).map(|value| value != 0.0)))
    }

    /// Checks that every key that the architecture does not support is missing or neutral.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_neutral(&self) -> Result<()> {
        for (key, neutral) in NEUTRAL_VALUES.iter().filter(|(key, _)| !self.arch.supported_keys.contains(key)) {
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
            Some(false) if !self.arch.supported_keys.contains(&"attention.causal") => {
                Err(Error::bad(self.name("attention.causal"), "true, or none", false))
            }
            _ => Ok(()),
        }
    }

    /// A finite number of at least `least`.
    ///
    /// # Errors
    /// When it is not, or of another type.
    pub fn float(&self, key: &str, least: f32) -> Result<Option<f32>> {
        match self.metadata.f32(&self.name(key))?.or(self.default(key)) {
            Some(x) if x.is_finite() && x >= least => Ok(Some(x)),
            Some(x) => Err(Error::bad(self.file_key(key), format!("a finite number of at least {least}"), x)),
            None => Ok(None),
        }
    }
}
