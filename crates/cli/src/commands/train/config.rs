//! Reads and checks `config.toml` and `--set`.

use super::value::{ConfigValue, Location, ValueError};
use crate::exit::UsageError;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use trine::EMBEDDED;
use trine_train::Config;
use trine_train::config::LossScaleKind;

/// The output of `--example`: every key, with its default value if it has one.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Maximum bytes of a configuration.
const MAX_BYTES: u64 = 1 << 20;

/// Keys that exclude `model.from`.
const SIZES: [&str; 10] = [
    "model.architecture",
    "model.n_layers",
    "model.hidden_size",
    "model.n_heads",
    "model.n_kv_heads",
    "model.head_dim",
    "model.intermediate_size",
    "model.tied",
    "model.rope_base",
    "model.eps",
];

/// The text of a configuration, which errors refer to.
pub struct ConfigSource {
    file: String,
    root: ConfigValue,
}

/// Reads and checks a configuration. Values of `set`, such as `train.steps=100`, override those of the file. Paths in the file are relative to it, those
/// of `set` to the current folder.
///
/// # Errors
/// [`UsageError`] for an invalid value, or when the file cannot be read.
pub fn read(path: &Path, set: &[String]) -> Result<(Config, ConfigSource)> {
    let mut text = String::new();
    let mut read = || File::open(path)?.take(MAX_BYTES).read_to_string(&mut text);
    read().with_context(|| path.display().to_string())?;
    let file = path.display().to_string();
    let mut root = ConfigValue::parse(&text, &Location::Line).map_err(|error| usage(&error, &file))?;
    for set in set {
        root.merge(parse_set(set).map_err(|error| usage(&error, &file))?);
    }
    let mut config = Config::deserialize(root.clone()).map_err(|error| usage(&error, &file))?;
    let source = ConfigSource { file, root };
    config.check().map_err(|error| source.explain(error))?;
    if config.model.from.is_some()
        && let Some(key) = SIZES.iter().find(|key| source.root.at(key).is_some())
    {
        return Err(source.error(key, "no sizes with `model.from`", "one").into());
    }
    let scale = &config.train.loss_scale;
    let idle: &[&str] = match scale.kind {
        LossScaleKind::Dynamic => &[],
        LossScaleKind::Static => &["growth", "growth_interval", "backoff"],
        LossScaleKind::None => &["initial", "growth", "growth_interval", "backoff"],
    };
    let keys = idle.iter().map(|key| format!("train.loss_scale.{key}"));
    if let Some(key) = keys.into_iter().find(|key| source.root.at(key).is_some()) {
        return Err(source.error(&key, "no value with a loss scale of this kind", "one").into());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for (key, file) in paths(&mut config) {
        let in_file = matches!(source.root.at(key), Some(ConfigValue { location: Location::Line(_), .. }));
        if in_file && *file != Path::new(EMBEDDED) {
            *file = folder.join(&file);
        }
    }
    Ok((config, source))
}

impl ConfigSource {
    /// Adds the location to an error about a value.
    pub fn explain(&self, error: trine_train::Error) -> anyhow::Error {
        match error {
            trine_train::Error::Config { key, expected, found } => self.error(&key, &expected, &found).into(),
            error => error.into(),
        }
    }

    /// The same of a run that continues, where a value differs from that of its beginning.
    pub fn explain_resume(&self, error: trine_train::Error) -> anyhow::Error {
        let hint = "pass the configuration and each --set with which the run began";
        match error {
            trine_train::Error::Config { key, expected, found } => {
                UsageError { hint, ..self.error(&key, &expected, &found) }.into()
            }
            error => error.into(),
        }
    }

    fn error(&self, key: &str, expected: &str, found: &str) -> UsageError {
        let error = ValueError {
            location: self.root.at(key).map(|value| value.location.clone()),
            keys: vec![key.to_owned()],
            expected: expected.to_owned(),
            found: found.to_owned(),
            ..ValueError::default()
        };
        usage(&error, &self.file)
    }
}

/// An error about a configuration, with file and line or flag.
fn usage(error: &ValueError, file: &str) -> UsageError {
    let location = match &error.location {
        None => file.to_owned(),
        Some(Location::Line(line)) => format!("{file}:{line}"),
        Some(Location::Set(set)) => format!("--set {set}"),
    };
    UsageError { message: format!("{location}: {error}"), hint: "`trine train --example` shows every key" }
}

/// Parses a text such as `train.steps=100`: TOML in which strings need no quotes.
fn parse_set(set: &str) -> std::result::Result<ConfigValue, ValueError> {
    let location = |_| Location::Set(set.to_owned());
    ConfigValue::parse(set, &location).or_else(|error| match set.split_once('=') {
        Some((key, text)) => {
            ConfigValue::parse(&format!("{key} = {}", serde_json::Value::from(text.trim())), &location)
        }
        None => Err(ValueError { expected: "KEY=VALUE".into(), found: format!("`{set}`"), ..error }),
    })
}

/// All paths of a configuration, with their keys.
fn paths(config: &mut Config) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
    let Config { model, data, distill, output, .. } = config;
    let maybe = [
        ("model.from", model.from.as_mut()),
        ("model.tokenizer", model.tokenizer.as_mut()),
        ("data.cache", data.cache.as_mut()),
        ("distill.teacher", distill.as_mut().map(|distill| &mut distill.teacher)),
        ("output.folder", Some(&mut output.folder)),
        ("output.model", output.model.as_mut()),
    ];
    let files = data.files.iter_mut().map(|file| ("data.files", file));
    maybe.into_iter().filter_map(|(key, path)| Some((key, path?))).chain(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_every_key_and_its_default() {
        let folder = tempfile::tempdir().unwrap();
        let config = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            read(&path, &[]).unwrap().0
        };
        let example = config("example.toml", EXAMPLE);
        let least = "model.tokenizer = 'tokenizer.gguf'\ndata.files = ['text.txt']\noutput.folder = 'run'\n[train]";
        assert_eq!(example, config("least.toml", least));

        // With the lines in comments it has all keys, also those that exclude each other.
        let is_line = |line: &str| line.contains(" = ") || line.starts_with('[');
        let shown = EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|line| is_line(line)).unwrap_or(line));
        let all: Vec<&str> = shown.collect();
        let all = ConfigValue::parse(&all.join("\n"), &Location::Line).map(Config::deserialize).unwrap().unwrap();
        let all = serde_json::to_value(all).unwrap();
        assert!(!all.to_string().contains("null"), "{all}");
        for key in keys(&all) {
            assert!(EXAMPLE.contains(&format!("{key} = ")) || EXAMPLE.contains(&format!("{key}]")), "{key}");
        }
    }

    /// The names of all values in a table.
    fn keys(value: &serde_json::Value) -> Vec<String> {
        let Some(table) = value.as_object() else { return Vec::new() };
        table.iter().flat_map(|(key, value)| [vec![key.clone()], keys(value)].concat()).collect()
    }
}
