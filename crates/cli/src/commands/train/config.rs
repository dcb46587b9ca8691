//! From `config.toml` and `--set` to a configuration that has been checked.

use super::place::{Node, Place, Problem};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fmt::{self, Display};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use trine::EMBEDDED;
use trine::train::Config;

/// What `--example` prints: every key, with its usual value where it has one.
pub const EXAMPLE: &str = include_str!("example.toml");

/// Bytes of a configuration that are read.
const MOST: u64 = 1 << 20;

/// Keys that a model that is there has answered.
const SIZES: [&str; 10] = [
    "model.architecture",
    "model.layers",
    "model.width",
    "model.heads",
    "model.kv_heads",
    "model.head_dim",
    "model.feed_forward",
    "model.tied",
    "model.rope_base",
    "model.eps",
];

/// A value of a configuration that cannot be.
#[derive(Debug)]
pub struct ConfigError {
    /// File and line, or flag.
    place: String,
    /// As `train.batch`; empty where the text as a whole is wrong.
    key: String,
    expected: String,
    found: String,
    /// The known name that is most like the one that was found.
    nearest: Option<String>,
}

impl std::error::Error for ConfigError {}

/// Where the values of a configuration come from.
pub struct Source {
    file: String,
    root: Node,
}

/// Reads and checks a configuration; `set` are texts such as `train.steps=100`, which take the place of what the file says. Its paths
/// are relative to the file, those of `set` to the current folder.
///
/// # Errors
/// [`ConfigError`], and when the file cannot be read.
pub fn read(path: &Path, set: &[String]) -> Result<(Config, Source)> {
    let mut text = String::new();
    let mut read = || File::open(path)?.take(MOST).read_to_string(&mut text);
    read().with_context(|| path.display().to_string())?;
    let file = path.display().to_string();
    let mut root = Node::parse(&text, &Place::Line).map_err(|problem| ConfigError::of(problem, &file))?;
    for set in set {
        root.merge(parse_set(set).map_err(|problem| ConfigError::of(problem, &file))?);
    }
    let mut config = Config::deserialize(root.clone()).map_err(|problem| ConfigError::of(problem, &file))?;
    let source = Source { file, root };
    config.check().map_err(|error| source.explain(error))?;
    if config.model.from.is_some()
        && let Some(key) = SIZES.iter().find(|key| source.root.at(key).is_some())
    {
        let (expected, found) = ("no size: those of `model.from` hold".into(), "one".into());
        let place = told(source.root.at(key).map(|node| &node.place), &source.file);
        return Err(ConfigError { place, key: (*key).into(), expected, found, nearest: None }.into());
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    for (key, file) in paths(&mut config) {
        let in_file = matches!(source.root.at(key), Some(Node { place: Place::Line(_), .. }));
        if in_file && *file != Path::new(EMBEDDED) {
            *file = folder.join(&file);
        }
    }
    Ok((config, source))
}

impl Source {
    /// Adds the place to an error about a value.
    pub fn explain(&self, error: trine::train::Error) -> anyhow::Error {
        match error {
            trine::train::Error::Config { key, expected, found } => {
                let place = told(self.root.at(&key).map(|node| &node.place), &self.file);
                ConfigError { place, key, expected, found, nearest: None }.into()
            }
            error => error.into(),
        }
    }
}

/// `train.steps=100` is TOML; the quotes of a text may be left out.
fn parse_set(set: &str) -> std::result::Result<Node, Problem> {
    let place = |_| Place::Set(set.to_owned());
    Node::parse(set, &place).or_else(|problem| match set.split_once('=') {
        Some((key, text)) => Node::parse(&format!("{key} = {}", serde_json::Value::from(text.trim())), &place),
        None => Err(Problem { expected: "KEY=VALUE".into(), found: format!("`{set}`"), ..problem }),
    })
}

/// A place as people read it.
fn told(place: Option<&Place>, file: &str) -> String {
    match place {
        None => file.to_owned(),
        Some(Place::Line(line)) => format!("{file}:{line}"),
        Some(Place::Set(set)) => format!("--set {set}"),
    }
}

/// Every path of a configuration, with its key.
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

impl ConfigError {
    fn of(problem: Problem, file: &str) -> ConfigError {
        let (place, key) = (told(problem.place.as_ref(), file), problem.key());
        let table = key.rfind('.').map_or("", |dot| &key[..=dot]);
        let nearest =
            problem.nearest.map(|name| if problem.is_key { format!("{table}{name}") } else { name.to_owned() });
        ConfigError { place, key, expected: problem.expected, found: problem.found, nearest }
    }
}

impl Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "`{}`: ", self.key)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)?;
        self.nearest.iter().try_for_each(|name| write!(f, "; did you mean `{name}`?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_has_every_key_and_its_usual_value() {
        let folder = tempfile::tempdir().unwrap();
        let config = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            read(&path, &[]).unwrap().0
        };
        let example = config("example.toml", EXAMPLE);
        let least = "model.tokenizer = 'tokenizer.gguf'\ndata.files = ['text.txt']\noutput.folder = 'run'\n[train]";
        assert_eq!(example, config("least.toml", least));

        // With what it only mentions, it says everything there is, also what excludes each other.
        let says = |line: &str| line.contains(" = ") || line.starts_with('[');
        let shown = EXAMPLE.lines().map(|line| line.strip_prefix("# ").filter(|line| says(line)).unwrap_or(line));
        let all: Vec<&str> = shown.collect();
        let all = Node::parse(&all.join("\n"), &Place::Line).map(Config::deserialize).unwrap().unwrap();
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
