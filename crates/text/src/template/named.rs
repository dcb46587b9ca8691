//! The chat templates of a model by name.

use serde_json::Value;
use std::collections::BTreeMap;

/// The template for all chats but those for which there is another.
pub(super) const DEFAULT: &str = "default";
/// The template for chats with tools.
pub(super) const TOOL_USE: &str = "tool_use";

/// The Jinja sources of a model's chat templates, by name. Most models have only `default`; some have `tool_use` for chats with tools, and
/// others that a caller chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Templates(BTreeMap<String, Sourced>);

/// A source, or why it cannot be read.
type Sourced = Result<String, String>;

impl Templates {
    /// Reads `chat_template` of `tokenizer_config.json`: one template, or several, as transformers saves them (a list of `name` and
    /// `template`) or holds them (an object).
    ///
    /// # Errors
    /// When it is anything else. The error tells what was expected, and found.
    pub fn from_json(value: &Value) -> Result<Templates, String> {
        let source = |place: String, value: &Value| {
            let source = value.as_str().map(str::to_owned);
            source.ok_or_else(|| format!("{place}: expected a template, found {value}"))
        };
        let sources: Result<BTreeMap<_, _>, _> = match value {
            Value::Null => return Ok(Templates::default()),
            Value::String(source) => return Ok(Templates::from(&**source)),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .map(|(i, one)| {
                    let place = |key: &str| format!("chat_template[{i}].{key}");
                    let name = source(place("name"), &one["name"])?;
                    Ok((name, Ok(source(place("template"), &one["template"])?)))
                })
                .collect(),
            Value::Object(map) => map
                .iter()
                .map(|(name, one)| Ok((name.clone(), Ok(source(format!("chat_template.{name}"), one)?))))
                .collect(),
            other => return Err(format!("chat_template: expected a template, or templates by name, found {other}")),
        };
        sources.map(Templates)
    }

    pub fn insert(&mut self, name: impl Into<String>, source: impl Into<String>) {
        self.0.insert(name.into(), Ok(source.into()));
    }

    /// Adds a template whose source cannot be read, for this reason. Compiling it is an error.
    pub fn insert_unreadable(&mut self, name: impl Into<String>, problem: impl Into<String>) {
        self.0.insert(name.into(), Err(problem.into()));
    }

    /// The source of a template that can be read.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.source(name).ok()
    }

    /// The source of a template.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot be read. The error tells why.
    pub fn source(&self, name: &str) -> Result<&str, String> {
        let names = || if self.is_empty() { "none".to_owned() } else { self.names().collect::<Vec<_>>().join(", ") };
        let none = || format!("expected one named `{name}`, found {}", names());
        self.0.get(name).ok_or_else(none)?.as_deref().map_err(String::clone)
    }

    pub fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The template of this name as the one for all chats.
    pub fn only(&self, name: &str) -> Option<Templates> {
        Some(Templates(BTreeMap::from([(DEFAULT.to_owned(), self.0.get(name)?.clone())])))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names and sources of those that can be read.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, source)| Some((&**name, source.as_deref().ok()?)))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// These, with those of an older place beside them if none of these is the default.
    #[must_use]
    pub fn or(self, older: &Templates) -> Templates {
        if self.0.contains_key(DEFAULT) {
            return self;
        }
        let mut all = older.clone();
        all.0.extend(self.0);
        all
    }
}

/// A single template, which is for all chats.
impl From<&str> for Templates {
    fn from(source: &str) -> Templates {
        Templates(BTreeMap::from([(DEFAULT.to_owned(), Ok(source.to_owned()))]))
    }
}
