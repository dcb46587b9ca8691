//! Which keys may differ between a run and its continuation.

use super::Config;
use crate::{Error, Result};
use serde_json::Value;

/// Tables and keys on which all weights so far depend. The others may change: they say how long, how fast, and how often a result is written.
static FIXED: &[(&str, &[&str])] = &[
    (
        "model",
        &[
            "architecture",
            "n_layers",
            "hidden_size",
            "n_heads",
            "n_kv_heads",
            "head_dim",
            "intermediate_size",
            "tied",
            "rope_base",
            "eps",
        ],
    ),
    ("data", &["separator", "field", "validation"]),
    ("train", &["batch", "sequence", "seed", "precision"]),
    ("quantization", &["weights", "warm_in"]),
    ("optimizer", &["name"]),
];

/// Tables whose other keys influence the weights from then on.
const TABLES: [&str; 7] = ["model", "data", "train", "quantization", "optimizer", "schedule", "distill"];
/// Keys of these tables that do not.
const NO_INFLUENCE: [&str; 6] =
    ["data.files", "data.cache", "train.threads", "train.grad_checkpoint", "model.context_length", "distill.teacher"];
/// Keys that name files. [`Config::recipe`] leaves them out.
const PATHS: [&str; 5] = ["model.from", "model.tokenizer", "data.files", "data.cache", "distill.teacher"];

impl Config {
    /// All on which the weights depend, without the names of files: the same for equal weights, wherever the run was.
    pub(crate) fn recipe(&self) -> Value {
        let mut recipe = serde_json::to_value(self).expect("configurations are plain");
        recipe.as_object_mut().expect("a table").retain(|table, _| TABLES.contains(&&table[..]));
        for key in NO_INFLUENCE.iter().chain(&PATHS) {
            let (table, key) = key.split_once('.').expect("a key of a table");
            recipe.get_mut(table).and_then(Value::as_object_mut).map(|table| table.remove(key));
        }
        recipe
    }

    /// Checks that a run that began with `before`, a configuration as JSON, can continue with this one; returns the other keys that differ and
    /// influence the weights.
    ///
    /// # Errors
    /// When a key differs on which the weights so far depend.
    pub fn check_resumes(&self, before: &Value) -> Result<Vec<String>> {
        let now = serde_json::to_value(self).expect("configurations are plain");
        for (table, keys) in FIXED {
            for key in *keys {
                // A checkpoint of another version may lack a key. The sizes of its tensors are checked all the same.
                if let Some(before) = before[table].get(key)
                    && *before != now[table][key]
                {
                    return Err(Error::Config {
                        key: format!("{table}.{key}"),
                        expected: format!("{before}, with which this run began"),
                        found: now[table][key].to_string(),
                    });
                }
            }
        }
        let changed = TABLES.iter().flat_map(|table| {
            let keys: Vec<&String> = match (now[table].as_object(), before[table].as_object()) {
                (Some(now), Some(before)) => {
                    let differs = |key: &&String| before.get(*key).is_some_and(|value| *value != now[*key]);
                    now.keys().filter(differs).collect()
                }
                (Some(keys), None) | (None, Some(keys)) => keys.keys().collect(),
                (None, None) => Vec::new(),
            };
            keys.into_iter().map(move |key| format!("{table}.{key}"))
        });
        Ok(changed.filter(|key| !NO_INFLUENCE.contains(&&key[..])).collect())
    }
}
