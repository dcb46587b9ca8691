//! `generation_config.json`, and its counterpart in GGUF: the tokens that end an answer, and how to sample.

use crate::keys::generation::{GENERATION_CONFIG, SAMPLING, check_sampling};
use crate::vocab::read_beside;
use crate::{Error, Result};
use serde_json::{Map, Value};
use std::path::Path;
use trine_tensor::{File, FileFormat, Metadata};

const CONFIG: &str = "config.json";
/// Keys of `config.json` for the length of the context.
const CONTEXT: [&str; 2] = ["max_position_embeddings", "n_positions"];

/// What a model's files say about generating text. Options are `None` where they say nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GenerationConfig {
    /// What says it, for messages: `generation_config.json` or `general.sampling`.
    pub source: &'static str,
    /// Tokens that end an answer: `eos_token_id`, a number or a list, of `generation_config.json`, or of `config.json` where the former has
    /// no such key; null there is no token.
    pub eos: Vec<u32>,
    /// Whether to sample; otherwise the most likely token is taken.
    pub do_sample: Option<bool>,
    pub temperature: Option<f64>,
    pub top_k: Option<usize>,
    pub top_p: Option<f64>,
    pub min_p: Option<f64>,
    pub typical_p: Option<f64>,
    pub xtc_probability: Option<f64>,
    pub xtc_threshold: Option<f64>,
    /// 2 for Mirostat 2.0; the first version is not there.
    pub mirostat: Option<usize>,
    pub mirostat_tau: Option<f64>,
    pub mirostat_eta: Option<f64>,
    pub repetition_penalty: Option<f64>,
    /// Tokens that the repetition penalty considers; otherwise all.
    pub repeat_last_n: Option<usize>,
    /// Maximum number of tokens of an answer.
    pub max_new_tokens: Option<usize>,
    /// Minimum number of tokens of an answer.
    pub min_new_tokens: Option<usize>,
    /// Sequences of tokens that are never completed: `bad_words_ids`, of which transformers ignores those of an end token alone, and
    /// `suppress_tokens`.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Texts that end an answer.
    pub stop_strings: Vec<String>,
    /// Keys that change what transformers generates, and nothing here.
    pub warnings: Vec<String>,
}

impl GenerationConfig {
    /// What the files of a model say: the keys of GGUF, or the files beside safetensors.
    ///
    /// # Errors
    /// When one is malformed.
    pub fn of(file: &File) -> Result<GenerationConfig> {
        match file.format() {
            FileFormat::Gguf { .. } => GenerationConfig::of_metadata(file.metadata()).map_err(|e| e.at(file.path())),
            FileFormat::Safetensors => GenerationConfig::beside(&file.files()[0]),
        }
    }

    /// Reads the keys `general.sampling.*` of GGUF.
    pub(crate) fn of_metadata(metadata: &Metadata) -> Result<GenerationConfig> {
        let name = |key: &str| format!("{SAMPLING}{key}");
        // As the decimal number that was meant.
        let decimal = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
        let number = |key: &str| Ok::<_, Error>(metadata.f32(&name(key))?.map(decimal));
        let count = |key: &str| Ok::<_, Error>(metadata.i32(&name(key))?.and_then(|count| usize::try_from(count).ok()));
        Ok(GenerationConfig {
            source: "general.sampling",
            temperature: number("temp")?,
            top_k: count("top_k")?,
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            xtc_probability: number("xtc_probability")?,
            xtc_threshold: number("xtc_threshold")?,
            mirostat: count("mirostat")?.filter(|&version| version == 2),
            mirostat_tau: number("mirostat_tau")?,
            mirostat_eta: number("mirostat_eta")?,
            repetition_penalty: number("penalty_repeat")?,
            repeat_last_n: count("penalty_last_n")?,
            warnings: check_sampling(metadata),
            ..GenerationConfig::default()
        })
    }

    /// Drops what is said of single tokens that a model of this vocabulary does not have, and which it therefore cannot generate.
    pub fn keep_below(&mut self, vocab_size: usize) {
        self.bad_words_ids.retain(|ids| !matches!(ids[..], [id] if id as usize >= vocab_size));
    }

    /// Whether anything is said.
    pub(crate) fn says_something(&self) -> bool {
        *self != GenerationConfig { source: self.source, ..GenerationConfig::default() }
    }

    /// The same as `generation_config.json`, as far as transformers knows it.
    pub(crate) fn json(&self, bos: Option<u32>) -> Value {
        let mut config = Map::new();
        let mut put = |key: &str, value: Option<Value>| value.map(|value| config.insert(key.to_owned(), value));
        put("bos_token_id", bos.map(Value::from));
        put("eos_token_id", (!self.eos.is_empty()).then(|| self.eos.clone().into()));
        let greedy = self.temperature == Some(0.0);
        put("do_sample", self.temperature.map(|_| (!greedy).into()));
        put("temperature", self.temperature.filter(|_| !greedy).map(Value::from));
        put("top_k", self.top_k.map(Value::from));
        put("top_p", self.top_p.map(Value::from));
        put("min_p", self.min_p.map(Value::from));
        put("repetition_penalty", self.repetition_penalty.map(Value::from));
        config.into()
    }

    /// The same as keys of GGUF, as far as it has some.
    pub(crate) fn metadata(&self) -> Metadata {
        let mut metadata = Metadata::new();
        let temperature = match self.do_sample {
            Some(false) => Some(0.0),
            Some(true) => self.temperature.or(Some(1.0)),
            None => self.temperature,
        };
        let numbers = [
            ("temp", temperature),
            ("top_p", self.top_p),
            ("min_p", self.min_p),
            ("penalty_repeat", self.repetition_penalty),
        ];
        for (key, value) in numbers {
            value.map(|value| metadata.insert(format!("{SAMPLING}{key}"), value as f32));
        }
        for (key, value) in [("top_k", self.top_k), ("penalty_last_n", self.repeat_last_n)] {
            let value = value.and_then(|value| i32::try_from(value).ok());
            value.map(|value| metadata.insert(format!("{SAMPLING}{key}"), value));
        }
        metadata
    }

    /// Reads the files in the folder of `path`, of which none has to be there.
    ///
    /// # Errors
    /// When one is malformed.
    pub(crate) fn beside(path: &Path) -> Result<GenerationConfig> {
        let at = |name: &str, error: Error| error.at(&path.with_file_name(name));
        let object = |name: &str| -> Result<Option<Map<String, Value>>> {
            let Some(bytes) = read_beside(path, name)? else { return Ok(None) };
            let parsed = serde_json::from_slice(&bytes);
            parsed.map(Some).map_err(|error| Error::content(&path.with_file_name(name), "a JSON object", error))
        };
        let own = object(GENERATION_CONFIG.file)?;
        let parsed = own.as_ref().map_or(Ok(GenerationConfig::default()), GenerationConfig::parse);
        let mut generation = parsed.map_err(|error| at(GENERATION_CONFIG.file, error))?;
        let max_length = own.as_ref().and_then(|config| config.get("max_length")?.as_u64());
        let max_length = max_length.filter(|_| generation.max_new_tokens.is_none());
        let says_eos = own.as_ref().is_some_and(|config| config.contains_key("eos_token_id"));
        let config = object(CONFIG)?.unwrap_or_default();
        // What the whole model says precedes what its text part does.
        let parts = || [Some(&config), config.get("text_config").and_then(Value::as_object)].into_iter().flatten();
        for part in parts() {
            check_ids(part).map_err(|error| at(CONFIG, error))?;
        }
        if !says_eos {
            let found = parts().map(eos).find(|ids| *ids != Ok(Vec::new())).unwrap_or(Ok(Vec::new()));
            generation.eos = found.map_err(|found| at(CONFIG, wrong_eos(found)))?;
        }
        let length = |part: &Map<String, Value>| CONTEXT.iter().find_map(|key| part.get(*key)?.as_u64());
        let context = parts().find_map(length).unwrap_or(u64::MAX);
        // Many files have it at the context, where it limits nothing.
        if let Some(length) = max_length.filter(|&length| length < context) {
            generation.warnings.push(format!(
                "{}: `max_length` = {length} is not applied, since it counts the prompt, too: --max-tokens limits an answer",
                GENERATION_CONFIG.file
            ));
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
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let eos = eos(config).map_err(wrong_eos)?;
        check_ids(config)?;
        let bad_words =
            typed(value("bad_words_ids"), "bad_words_ids", "a list of lists of token ids", Value::as_array)?;
        let mut bad_words_ids = Vec::new();
        for word in bad_words.into_iter().flatten() {
            let ids: Option<Vec<u32>> = word.as_array().and_then(|ids| ids.iter().map(id).collect());
            let ids = ids.filter(|ids| !ids.is_empty());
            let ids = ids.ok_or_else(|| Error::bad("bad_words_ids", "lists of token ids, none of them empty", word))?;
            if !matches!(ids[..], [one] if eos.contains(&one)) {
                bad_words_ids.push(ids);
            }
        }
        let suppressed = typed(value("suppress_tokens"), "suppress_tokens", "a list of token ids", Value::as_array)?;
        // Negative ids are no tokens.
        for token in suppressed.into_iter().flatten().filter(|token| token.as_i64().is_none_or(|id| id >= 0)) {
            let id = id(token).ok_or_else(|| Error::bad("suppress_tokens", "token ids", token))?;
            bad_words_ids.push(vec![id]);
        }
        Ok(GenerationConfig {
            source: GENERATION_CONFIG.file,
            eos,
            do_sample: typed(value("do_sample"), "do_sample", "true or false", Value::as_bool)?,
            temperature: number("temperature")?,
            top_k: count("top_k")?,
            top_p: number("top_p")?,
            min_p: number("min_p")?,
            typical_p: number("typical_p")?,
            repetition_penalty: number("repetition_penalty")?,
            max_new_tokens: count("max_new_tokens")?,
            min_new_tokens: count("min_new_tokens")?,
            bad_words_ids,
            stop_strings: typed(value("stop_strings"), "stop_strings", "a string or a list of strings", texts)?
                .unwrap_or_default(),
            warnings: GENERATION_CONFIG.check(config),
            ..GenerationConfig::default()
        })
    }
}

/// Refuses what names one token and is no id of one, although nothing here depends on it. Negative ids are no tokens.
fn check_ids(config: &Map<String, Value>) -> Result<()> {
    for key in ["bos_token_id", "pad_token_id"] {
        if let Some(found) = config.get(key).filter(|value| !value.is_null() && !value.is_i64()) {
            return Err(Error::bad(key, "a token id", found));
        }
    }
    Ok(())
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
