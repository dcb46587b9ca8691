//! The keys of small files: which are read, which change nothing, and which nothing here follows.

use super::generation::{GENERATION_CONFIG, GGUF_SAMPLING};
use super::ignored::IgnoredKeys;
use super::tokenizer::{GGUF_TOKENIZER, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG};
use crate::quant::METHODS;
use crate::sentence_transformers::{DENSE, MODEL, MODULES, NORMALIZE, POOLING, TRANSFORMER};
use serde_json::Value;

/// A key, and whether a value of it changes nothing.
pub type NeutralKey = (&'static str, fn(&Value) -> bool);

/// The keys of a file.
#[derive(Debug)]
pub struct FileKeys {
    /// The name of the file.
    pub file: &'static str,
    /// `*_token` is every name that ends like this, `name.*` one that begins so.
    pub read: &'static [&'static str],
    pub ignored: &'static [IgnoredKeys],
    /// Keys that would change what is computed; missing ones and null do not.
    pub neutral: &'static [NeutralKey],
}

/// The tables of all files, with what each is of, for documentation.
pub fn file_keys() -> Vec<(String, &'static FileKeys)> {
    let gguf = [&GGUF_TOKENIZER, &GGUF_SAMPLING].map(|keys| (keys.file.to_owned(), keys));
    let beside = [&GENERATION_CONFIG, &TOKENIZER_CONFIG, &SPECIAL_TOKENS_MAP];
    let sentences = [&MODULES, &MODEL, &TRANSFORMER, &POOLING, &DENSE, &NORMALIZE];
    let named = beside.into_iter().chain(sentences).map(|keys| (keys.file.to_owned(), keys));
    let methods = METHODS.iter().map(|(method, keys)| (format!("{} of {method}", keys.file), keys));
    gguf.into_iter().chain(named).chain(methods).collect()
}
