//! What may change between two parts of one run.

use crate::config::Config;
use crate::{Error, Result};
use serde_json::Value;

/// Tables and keys on which every weight depends. The rest may change: it says how long, how fast, and how often a result is written.
static FIXED: &[(&str, &[&str])] = &[
    (
        "model",
        &[
            "architecture",
            "layers",
            "width",
            "heads",
            "kv_heads",
            "head_dim",
            "feed_forward",
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

/// Tables whose other keys change what is learned from then on.
const FREE: [&str; 7] = ["model", "data", "train", "quantization", "optimizer", "schedule", "distill"];
/// Keys among them that do not.
const UNSEEN: [&str; 4] = ["data.cache", "train.threads", "train.grad_checkpoint", "model.context"];

impl Config {
    /// Makes sure that a run that began with `before` can go on with this; returns the other keys by which what it learns differs.
    ///
    /// # Errors
    /// When a key differs on which the weights so far depend.
    pub fn check_resumes(&self, before: &Config) -> Result<Vec<String>> {
        let [now, before] =
            [self, before].map(|config| serde_json::to_value(config).expect("configurations are plain"));
        for (table, keys) in FIXED {
            for key in *keys {
                let value = |config: &Value| config[table][key].clone();
                if value(&now) != value(&before) {
                    return Err(Error::Config {
                        key: format!("{table}.{key}"),
                        expected: format!("{}, with which this run began", value(&before)),
                        found: value(&now).to_string(),
                    });
                }
            }
        }
        let mut changed = Vec::new();
        for table in FREE {
            for key in
                [&now, &before].iter().filter_map(|config| config[table].as_object()).flat_map(|keys| keys.keys())
            {
                let name = format!("{table}.{key}");
                if now[table][key] != before[table][key] && !UNSEEN.contains(&&name[..]) && !changed.contains(&name) {
                    changed.push(name);
                }
            }
        }
        Ok(changed)
    }
}
