//! `generation_config.json`: the tokens that end an answer, and how to sample.

use crate::keys::tokenizer::GENERATION_CONFIG;
use crate::vocab::read_beside;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;

/// What a folder of Hugging Face says about generating text. Options are `None` where it says nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// Tokens that end an answer: `eos_token_id`, a number or a list, of `generation_config.json`, or else of `config.json`.
    pub eos: Vec<u32>,
    /// Whether to sample; otherwise the most likely token is taken.
    pub do_sample: Option<bool>,
    pub temperature: Option<f64>,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub typical_p: Option<f64>,
    pub repetition_penalty: Option<f64>,
    /// Maximum number of tokens of an answer.
    pub max_new_tokens: Option<usize>,
    /// Texts that end an answer.
    pub stop_strings: Vec<String>,
    /// Keys that change what transformers generates, and nothing here.
    pub warnings: Vec<String>,
}

impl GenerationConfig {
    /// Reads the files in the folder of `path`, of which none has to be there.
    ///
    /// # Errors
    /// When one is malformed.
    pub(crate) fn beside(path: &Path) -> Result<GenerationConfig> {
        let read = |name: &str, parse: fn(&Map<String, Value>) -> Result<GenerationConfig>| {
            let at = |error: Error| error.at(&path.with_file_name(name));
            let Some(bytes) = read_beside(path, name)? else { return Ok(GenerationConfig::default()) };
            let parsed =
                serde_json::from_slice(&bytes).map_err(|error| at(Error::bad(name, "a JSON object", error)))?;
            parse(&parsed).map_err(at)
        };
        let mut generation = read("generation_config.json", GenerationConfig::parse)?;
        if generation.eos.is_empty() {
            // That of the whole model precedes that of its text part.
            generation.eos = read("config.json", |config| {
                let text = config.get("text_config").and_then(Value::as_object);
                let found = [Some(config), text].into_iter().flatten().map(eos).find(|ids| *ids != Ok(Vec::new()));
                let eos = found.unwrap_or(Ok(Vec::new())).map_err(wrong_eos)?;
                Ok(GenerationConfig { eos, ..GenerationConfig::default() })
            })?
            .eos;
        }
        Ok(generation)
    }

    /// Reads a `generation_config.json`.
    fn parse(config: &Map<String, Value>) -> Result<GenerationConfig> {
        let value = |key: &str| config.get(key).filter(|value| !value.is_null());
        fn typed<'a, T>(
            value: Option<&'a Value>,
            key: &str,
            expected: &str,
            convert: fn(&'a Value) -> Option<T>,
        ) -> Result<Option<T>> {
            value.map(|value| convert(value).ok_or_else(|| Error::bad(key, expected, value))).transpose()
        }
        let number = |key: &str| typed(value(key), key, "a number", Value::as_f64);
        let count = |key: &str| {
            typed(value(key), key, "a count", |value| value.as_u64().and_then(|count| usize::try_from(count).ok()))
        };
        let texts = |value: &Value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            list => list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
        };
        Ok(GenerationConfig {
            eos: eos(config).map_err(wrong_eos)?,
            do_sample: typed(value("do_sample"), "do_sample", "true or false", Value::as_bool)?,
            temperature: number("temperature")?,
            top_k: count("top_k")?,
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            typical_p: number("typical_p")?,
            repetition_penalty: number("repetition_penalty")?,
            max_new_tokens: count("max_new_tokens")?,
            stop_strings: typed(value("stop_strings"), "stop_strings", "a string or a list of strings", texts)?
                .unwrap_or_default(),
            warnings: GENERATION_CONFIG.check(config),
        })
    }
}

fn wrong_eos(found: Value) -> Error {
    Error::bad("eos_token_id", "a token id or a list of them", found)
}

/// `eos_token_id`: one token, a list of them, or none. Negative ids are no tokens.
fn eos(config: &Map<String, Value>) -> std::result::Result<Vec<u32>, Value> {
    let ids = match config.get("eos_token_id") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(ids)) => ids.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let id = |id: &Value| match id.as_i64() {
        Some(..0) => Ok(None),
        Some(number) => u32::try_from(number).map(Some).map_err(|_| id.clone()),
        None => Err(id.clone()),
    };
    ids.iter().filter_map(|value| id(value).transpose()).collect()
}
