//! Values as Python or Gemma write them.

use super::arguments::{properties, refused};
use super::writer::{Atom, Writer, pattern};
use crate::Error;
use serde_json::Value;
use std::collections::HashMap;

/// How values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Gemma,
}

/// Maximum number of schemas in each other.
const DEPTH: usize = 32;

const NUMBER: &str = r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+\-]?[0-9]{1,3})?";
const INTEGER: &str = "-?(0|[1-9][0-9]{0,18})";
const ESCAPE: &str = r"\\([\x5c\x27\x22nrtbf]|x[0-7][0-9a-fA-F]|u[0-9a-fA-F]{4})";

/// Keywords that say what a value is in this language too, and those that say nothing.
const KNOWN: &[&str] = &[
    "$comment",
    "$defs",
    "$id",
    "$schema",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "definitions",
    "deprecated",
    "description",
    "enum",
    "examples",
    "items",
    "properties",
    "required",
    "title",
    "type",
];

/// Rules for the values of one tool.
pub struct Values<'a> {
    language: Language,
    root: &'a Value,
    strict: bool,
    /// The rules of references, by their targets.
    named: HashMap<&'a str, String>,
    any: Option<String>,
}

impl<'a> Values<'a> {
    pub fn new(language: Language, root: &'a Value, strict: bool) -> Values<'a> {
        Values { language, root, strict, named: HashMap::new(), any: None }
    }

    pub fn arguments(mut self, writer: &mut Writer) -> Result<Vec<Atom>, Error> {
        let arguments = self.object(writer, self.root, "#", DEPTH)?;
        Ok(vec![Atom::Rule(arguments)])
    }

    /// `{name: value}`, or the arguments of a call in Python.
    fn object(&mut self, writer: &mut Writer, schema: &'a Value, path: &str, depth: usize) -> Result<String, Error> {
        let top = path == "#" && self.language == Language::Python;
        let mut fields = Vec::new();
        for (name, schema, required) in properties(schema) {
            let value = self.value(writer, schema, &format!("{path}/properties/{name}"), depth)?;
            let key = match self.language {
                Language::Gemma => format!("/{}:/", pattern(name)),
                Language::Python if top => format!("/{}=/", pattern(name)),
                Language::Python => format!("/({}): ?/", quoted(name)),
            };
            fields.push((writer.rule("field", &format!("{key} {value}")), required));
        }
        if self.language == Language::Gemma {
            // Its template sorts them.
            let names: Vec<&str> = properties(schema).iter().map(|(name, ..)| *name).collect();
            let mut sorted: Vec<_> = names.into_iter().zip(fields).collect();
            sorted.sort_by_key(|(name, _)| name.to_lowercase());
            fields = sorted.into_iter().map(|(_, field)| field).collect();
        }
        let separator = if self.language == Language::Gemma { "\",\"" } else { "/, ?/" };
        let all = if fields.is_empty() && schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            let any = self.any(writer);
            let key = match self.language {
                Language::Gemma => r"/[^{}\[\]:,<>\x22\n]{1,64}:/".to_owned(),
                Language::Python if top => "/[A-Za-z_][A-Za-z0-9_]{0,63}=/".to_owned(),
                Language::Python => format!("/({}): ?/", strings()),
            };
            let field = writer.rule("field", &format!("{key} {any}"));
            format!("({field} ({separator} {field})*)?")
        } else {
            list(writer, separator, &fields)
        };
        let body = if top { all } else { format!("\"{{\" {all} \"}}\"") };
        Ok(writer.rule("object", if body.is_empty() { "\"\"" } else { &body }))
    }

    /// A rule for a value.
    fn value(&mut self, writer: &mut Writer, schema: &'a Value, path: &str, depth: usize) -> Result<String, Error> {
        let Some(depth) = depth.checked_sub(1) else {
            return Err(refused(path, "the limit `depth` is reached"));
        };
        let Some(map) = schema.as_object() else { return Ok(self.any(writer)) };
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            if let Some(rule) = self.named.get(target) {
                return Ok(rule.clone());
            }
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let found = found.ok_or_else(|| refused(&format!("{path}/$ref"), "expected a path to a schema"))?;
            let name = writer.reserve("value");
            self.named.insert(target, name.clone());
            let rule = self.value(writer, found, target, depth)?;
            writer.define(&name, &rule);
            return Ok(name);
        }
        let unknown = map.keys().find(|key| self.strict && !KNOWN.contains(&key.as_str()) && !key.starts_with("x-"));
        if let Some(keyword) = unknown {
            return Err(refused(&format!("{path}/{keyword}"), "not supported in this model's format of calls"));
        }
        let constants = map.get("enum").and_then(Value::as_array).cloned();
        if let Some(constants) = constants.or_else(|| Some(vec![map.get("const")?.clone()])) {
            let ways: Vec<String> = constants.iter().map(|value| self.constant(writer, value)).collect();
            return Ok(writer.rule("value", &ways.join(" | ")));
        }
        if let Some(options) = map.get("anyOf").or_else(|| map.get("oneOf")).and_then(Value::as_array) {
            let mut ways = Vec::new();
            for (i, option) in options.iter().enumerate() {
                ways.push(self.value(writer, option, &format!("{path}/anyOf/{i}"), depth)?);
            }
            return Ok(writer.rule("value", &ways.join(" | ")));
        }
        let kinds: Vec<&str> = match map.get("type") {
            Some(Value::String(kind)) => vec![kind],
            Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
            _ => return Ok(self.any(writer)),
        };
        let mut ways = Vec::new();
        for kind in kinds {
            ways.push(match kind {
                "string" => self.string(writer),
                "integer" => format!("/{INTEGER}/"),
                "number" => format!("/{NUMBER}/"),
                "boolean" => format!("/{}/", self.word(&["true", "false"])),
                "null" => format!("/{}/", self.word(&["null"])),
                "array" => {
                    let item = match map.get("items") {
                        Some(items) => self.value(writer, items, &format!("{path}/items"), depth)?,
                        None => self.any(writer),
                    };
                    let separator = if self.language == Language::Gemma { "\",\"" } else { "/, ?/" };
                    format!("\"[\" ({item} ({separator} {item})*)? \"]\"")
                }
                "object" => self.object(writer, schema, path, depth)?,
                _ => return Err(refused(&format!("{path}/type"), "expected the name of a type")),
            });
        }
        Ok(writer.rule("value", &ways.join(" | ")))
    }

    /// Any value.
    fn any(&mut self, writer: &mut Writer) -> String {
        if let Some(name) = &self.any {
            return name.clone();
        }
        let name = writer.reserve("any");
        self.any = Some(name.clone());
        let string = self.string(writer);
        let words = self.word(&["true", "false", "null"]);
        let (key, separator) = match self.language {
            Language::Gemma => (r"/[^{}\[\]:,<>\x22\n]{1,64}:/".to_owned(), "\",\""),
            Language::Python => (format!("/({}): ?/", strings()), "/, ?/"),
        };
        let list = format!("\"[\" ({name} ({separator} {name})*)? \"]\"");
        let object = format!("\"{{\" ({key} {name} ({separator} {key} {name})*)? \"}}\"");
        writer.define(&name, &format!("{string} | /{NUMBER}/ | /{words}/ | {list} | {object}"));
        name
    }

    fn string(&mut self, writer: &mut Writer) -> String {
        match self.language {
            Language::Python => writer.rule("string", &format!("/{}/", strings())),
            Language::Gemma => {
                let open = writer.text(QUOTE, false);
                let close = writer.until(QUOTE);
                writer.rule("string", &format!("{open} {close}"))
            }
        }
    }

    /// The names of constants.
    fn word(&self, words: &[&str]) -> String {
        let python = |word: &&str| match *word {
            "true" => "True",
            "false" => "False",
            _ => "None",
        };
        let words: Vec<&str> = match self.language {
            // Its template writes the latter.
            Language::Gemma if words.contains(&"null") => [words, &["None"]].concat(),
            Language::Gemma => words.to_vec(),
            Language::Python => words.iter().map(python).collect(),
        };
        format!("({})", words.join("|"))
    }

    fn constant(&mut self, writer: &mut Writer, value: &Value) -> String {
        match value {
            Value::String(text) if self.language == Language::Python => format!("/{}/", quoted(text)),
            Value::String(text) => {
                let [open, close] = [QUOTE, QUOTE].map(|text| writer.text(text, false));
                format!("{open} /{}/ {close}", pattern(text))
            }
            Value::Null => format!("/{}/", self.word(&["null"])),
            Value::Bool(true) => format!("/{}/", self.word(&["true"])),
            Value::Bool(false) => format!("/{}/", self.word(&["false"])),
            value => format!("/{}/", pattern(&value.to_string())),
        }
    }
}

/// Gemma's quotes.
const QUOTE: &str = "<|\"|>";

/// Fields in order, those that are not required or not.
fn list(writer: &mut Writer, separator: &str, fields: &[(String, bool)]) -> String {
    // What may follow, where there was a field before and where there was none.
    let (mut after, mut first) = (String::new(), String::new());
    for (field, required) in fields.iter().rev() {
        let or = |rest: &str| match (required, rest) {
            (true, _) => String::new(),
            (false, "") => " | \"\"".to_owned(),
            (false, rest) => format!(" | {rest}"),
        };
        let next_first = writer.rule("fields", &format!("{field} {after}{}", or(&first)));
        let next_after = writer.rule("fields", &format!("{separator} {field} {after}{}", or(&after)));
        (first, after) = (next_first, next_after);
    }
    first
}

/// Strings of Python.
fn strings() -> String {
    format!(r"\x27([^\x27\x5c\n]|{ESCAPE})*\x27|\x22([^\x22\x5c\n]|{ESCAPE})*\x22")
}

/// One string of Python, in either quotes.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n").replace('\'', "\\'").replace('"', "\\\"");
    let text = pattern(&text);
    format!(r"(\x27{text}\x27|\x22{text}\x22)")
}
