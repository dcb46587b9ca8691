//! Keys that `config.json` may lack, with the values that transformers gives them then. `golden/defaults.py` writes the table.

use super::check::PARTS;
use crate::Error;
use crate::config::Config;
use crate::keys::names::COUNTS;
use serde_json::{Map, Value};
use std::sync::LazyLock;
use trine_tensor::File;

/// Per `model_type`: `defaults`, and `aliases`, further names of keys.
static TABLE: LazyLock<Map<String, Value>> =
    LazyLock::new(|| serde_json::from_str(include_str!("defaults.json")).expect("the table is an object"));

/// The keys of a configuration class.
pub(crate) struct Class {
    defaults: &'static Map<String, Value>,
    aliases: &'static Map<String, Value>,
}

impl Class {
    /// The class of a `model_type`, if transformers has it.
    pub fn of(model_type: &str) -> Option<Class> {
        let row = TABLE.get(model_type)?;
        let part = |name: &str| row[name].as_object().expect("the table has objects");
        Some(Class { defaults: part("defaults"), aliases: part("aliases") })
    }

    /// Whether it has a default for the key.
    pub fn has(&self, key: &str) -> bool {
        self.defaults.contains_key(key)
    }

    /// What the keys are that `config` lacks under every name.
    pub fn absent(&self, config: &Map<String, Value>) -> Map<String, Value> {
        fn name<'a>(aliases: &'a Map<String, Value>, key: &'a str) -> &'a str {
            aliases.get(key).and_then(Value::as_str).unwrap_or(key)
        }
        let is_there = |key: &str| config.keys().any(|own| name(self.aliases, own) == name(self.aliases, key));
        let absent = self.defaults.iter().filter(|(key, _)| !is_there(key) || is_none(key, config));
        absent.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

/// Whether a key that is null is as if it were not there: others are none.
fn is_none(key: &str, config: &Map<String, Value>) -> bool {
    key == "rope_parameters" && config.get(key).is_some_and(Value::is_null)
}

/// Names the keys that a folder lacks and whose defaults may be why it is refused.
pub(crate) fn explain(file: &File, error: Error) -> Error {
    let Some(config) = Config::of(file) else { return error };
    // Where a class has no such key, the size of heads follows from others.
    let default =
        |key: &str| config.default_of(key).or((key == "head_dim" && !config.has(key)).then_some(&Value::Null));
    let named = |key: &str| match default(key)? {
        Value::Null if !["head_dim", "num_key_value_heads"].contains(&key) => None,
        value => Some(format!("`{key}` ({value})")),
    };
    const OTHERS: [&str; 4] =
        ["qk_nope_head_dim", "partial_rotary_factor", "use_parallel_residual", "tie_word_embeddings"];
    let sizes = || COUNTS.iter().map(|(key, _)| *key).chain(OTHERS);
    let keys: Vec<String> = match &error {
        Error::BadKey { key, .. } if !sizes().any(|size| size == key) && named(key).is_some() => {
            named(key).into_iter().collect()
        }
        Error::BadKey { .. } => sizes().filter_map(named).collect(),
        Error::Shape { .. } | Error::Unused { .. } | Error::File(_) => {
            sizes().chain(PARTS.iter().map(|(key, _)| *key)).filter_map(named).collect()
        }
        _ => Vec::new(),
    };
    if keys.is_empty() { error } else { Error::Defaults { keys: keys.join(", "), source: Box::new(error) } }
}
