//! The keys of a model by their GGUF names, from GGUF or translated from `config.json`, and which of them were read.

pub(crate) mod files;
pub(crate) mod generation;
pub(crate) mod gguf;
pub(crate) mod ignored;
pub(crate) mod names;
pub(crate) mod strict;
pub(crate) mod tokenizer;

use crate::config::Config;
use crate::{Arch, Error, Result};
use gguf::ARCHITECTURE_KEYS;
use ignored::IGNORED_HF_KEYS;
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use trine_backend::Activation;
use trine_tensor::{File, Metadata, Value};

pub(crate) struct Keys<'a> {
    pub arch: &'static Arch,
    /// The configuration of a Hugging Face folder.
    pub config: Option<Config<'a>>,
    /// Activation of the feed-forward layers.
    pub activation: Activation,
    /// GGUF keys; those of the architecture begin with `prefix`.
    pub metadata: Cow<'a, Metadata>,
    prefix: String,
    /// Keys of the architecture that were read, without their prefix.
    read: RefCell<BTreeSet<String>>,
    /// Keys of `config.json`, and the keys of the architecture that they became.
    translated: Vec<(String, &'static str)>,
    /// Warnings about keys that others overrule.
    pub remarks: Vec<String>,
}

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
        Ok(Keys::new(arch, name, arch.activation, Cow::Borrowed(file.metadata()), None))
    }

    /// The keys of a Hugging Face folder, to be translated.
    pub fn of_config(arch: &'static Arch, activation: Activation, config: Config<'a>) -> Keys<'a> {
        let mut metadata = Metadata::new();
        metadata.insert("general.architecture", arch.name());
        Keys::new(arch, arch.name(), activation, Cow::Owned(metadata), Some(config))
    }

    fn new(
        arch: &'static Arch,
        prefix: &str,
        activation: Activation,
        metadata: Cow<'a, Metadata>,
        config: Option<Config<'a>>,
    ) -> Keys<'a> {
        let (prefix, read, translated) = (prefix.to_owned(), RefCell::default(), Vec::new());
        Keys { arch, config, activation, metadata, prefix, read, translated, remarks: Vec::new() }
    }

    /// Inserts a key of the architecture, which the value at `path` of `config.json` becomes.
    ///
    /// # Errors
    /// When another value became this key.
    pub fn translate(&mut self, path: impl Into<String>, key: &'static str, value: impl Into<Value>) -> Result<()> {
        let (path, value, name) = (path.into(), value.into(), self.name(key));
        let earlier = self.translated.iter().rev().find(|(_, gguf)| *gguf == key);
        if let (Some((earlier, _)), Some(found)) = (earlier, self.metadata.get(&name))
            && *found != value
        {
            let expected = format!("the value of `{earlier}`, which means the same");
            return Err(Error::bad(path, expected, "another"));
        }
        self.translated.push((path, key));
        self.insert(key, value);
        Ok(())
    }

    /// Inserts a key of the architecture that no value of the file alone became.
    pub fn insert(&mut self, key: &str, value: impl Into<Value>) {
        let key = self.name(key);
        self.metadata.to_mut().insert(key, value);
    }

    /// Removes a key of the architecture.
    pub fn remove(&mut self, key: &str) {
        let key = self.name(key);
        self.metadata.to_mut().remove(&key);
    }

    /// What the file calls a key, for messages.
    pub fn file_key(&self, key: &str) -> String {
        let Some(config) = &self.config else { return self.name(key) };
        let translated = self.translated.iter().rev().find(|(_, gguf)| *gguf == key).map(|(path, _)| path.clone());
        translated.unwrap_or_else(|| names::hf_name(config, key))
    }

    /// The full GGUF name of a key of the architecture.
    pub fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    /// Records that a key is read, and gives its full name.
    fn reading(&self, key: &str) -> String {
        self.read.borrow_mut().insert(key.to_owned());
        self.name(key)
    }

    /// A value of any type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(&self.reading(key))
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
        let name = self.reading(key);
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
        self.arch.default_keys.iter().find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    /// Checks that keys which say a size once more, where other models have another, say the same.
    ///
    /// # Errors
    /// When one does not.
    pub fn check_same(&self, keys: &[&str], size: usize) -> Result<()> {
        for key in keys {
            if let Some(found) = self.count(key, 0..=u32::MAX)?.filter(|&found| found != size) {
                return Err(Error::bad(self.file_key(key), format!("{size}, or none, in this model"), found));
            }
        }
        Ok(())
    }

    /// A boolean.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        Ok(self.metadata.bool(&self.reading(key))?.or(self.default(key).map(|value| value != 0.0)))
    }

    /// A finite number of at least `least`.
    ///
    /// # Errors
    /// When it is not, or of another type.
    pub fn float(&self, key: &str, least: f32) -> Result<Option<f32>> {
        match self.metadata.f32(&self.reading(key))?.or(self.default(key)) {
            Some(x) if x.is_finite() && x >= least => Ok(Some(x)),
            Some(x) => Err(Error::bad(self.file_key(key), format!("a finite number of at least {least}"), x)),
            None => Ok(None),
        }
    }

    /// A string.
    ///
    /// # Errors
    /// When it is of another type.
    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        Ok(self.metadata.str(&self.reading(key))?)
    }

    /// Checks that every key that the architecture does not support is missing or neutral.
    ///
    /// # Errors
    /// When one is not.
    pub fn check_neutral(&self) -> Result<()> {
        self.reading("attention.causal");
        // llama.cpp leaves out the rotations then.
        if self.prefix.starts_with("granite") && self.flag("rope.scaling.finetuned")? == Some(false) {
            return Err(Error::bad(
                self.file_key("rope.scaling.finetuned"),
                "true, or none, in this architecture",
                false,
            ));
        }
        let neutral = ARCHITECTURE_KEYS.neutral.iter();
        for (key, neutral) in neutral.filter(|(key, _)| !self.arch.supported_keys.contains(key)) {
            let name = self.reading(key);
            let found = match self.metadata.get(&name) {
                None => continue,
                Some(Value::Bool(value)) => f32::from(u8::from(*value)),
                Some(_) => match self.metadata.f32(&name) {
                    Ok(value) => value.unwrap_or_default(),
                    Err(_) => self.metadata.u32(&name)?.unwrap_or_default() as f32,
                },
            };
            if !neutral.contains(&found) {
                let neutral = neutral.iter().map(|x| x.to_string()).collect::<Vec<_>>().join(" or ");
                return Err(Error::bad(self.file_key(key), format!("{neutral}, or none, in this architecture"), found));
            }
        }
        Ok(())
    }

    /// The names that were looked for, as the file has them: of GGUF without the name of the architecture in front.
    pub fn looked_for(&self) -> BTreeSet<String> {
        self.config.as_ref().map_or_else(|| self.read.borrow().clone(), Config::looked_for)
    }

    /// Warnings about keys that were not read and are not known to change nothing.
    pub fn warnings(&self) -> Vec<String> {
        let read = self.read.borrow();
        let (file, unknown): (_, Vec<String>) = match &self.config {
            None => {
                let own =
                    self.metadata.iter().filter_map(|(key, _)| key.strip_prefix(&*self.prefix)?.strip_prefix('.'));
                let unread = own.filter(|key| !read.contains(*key) && !ARCHITECTURE_KEYS.ignores(key));
                ("GGUF", unread.map(|key| self.name(key)).collect())
            }
            Some(config) => {
                // What was translated was read if its translation was.
                let (read, unread): (Vec<_>, Vec<_>) = self.translated.iter().partition(|(_, key)| read.contains(*key));
                let paths =
                    |list: Vec<&(String, _)>| list.into_iter().map(|(path, _)| path.clone()).collect::<BTreeSet<_>>();
                let mut unknown = &(&paths(unread) | &config.unread()) - &paths(read);
                unknown.retain(|path| config.has(path) && !ignored::is_ignored(IGNORED_HF_KEYS, path));
                ("config.json", unknown.into_iter().collect())
            }
        };
        let unknown = unknown.iter().map(|key| strict::unknown(file, key));
        self.remarks.iter().cloned().chain(unknown).collect()
    }
}
