//! The arguments of a function, in each way to write them.

use super::values::{Language, Values};
use super::writer::{Atom, Writer, pattern};
use crate::Error;
use serde_json::{Map, Value, json};
use trine_text::{Arguments, Kinds, Tags, Tool};

/// Maximum number of references and alternatives in each other.
const DEPTH: usize = 32;

/// The arguments of a tool.
pub fn arguments(writer: &mut Writer, style: Arguments, tool: &Tool) -> Result<Vec<Atom>, Error> {
    let root = object(&tool.parameters);
    let arguments = match style {
        Arguments::Json => json(writer, &root, tool.strict),
        Arguments::Tagged(tags) => Tagged { tags, root: &root, strict: tool.strict }.arguments(writer),
        Arguments::Python => Values::new(Language::Python, &root, tool.strict).arguments(writer),
        Arguments::Gemma => Values::new(Language::Gemma, &root, tool.strict).arguments(writer),
    };
    arguments.map_err(|error| match error {
        Error::Schema { path, problem } => Error::Schema { path: format!("{path} of the tool {}", tool.name), problem },
        error => error,
    })
}

/// The schema of an object: without one, any object.
fn object(parameters: &Value) -> Value {
    let mut map = parameters.as_object().cloned().unwrap_or_default();
    if !map.contains_key("$ref") {
        map.entry("type").or_insert_with(|| "object".into());
    }
    Value::Object(map)
}

/// JSON of a schema; of one that is not strict, some JSON of the same type if it is not supported.
fn json(writer: &mut Writer, schema: &Value, strict: bool) -> Result<Vec<Atom>, Error> {
    let lowered = match writer.json(schema) {
        Err(Error::Schema { .. }) if !strict => match schema.get("type") {
            Some(kind) => writer.json(&json!({ "type": kind })),
            None => writer.json(&json!(true)),
        },
        lowered => lowered,
    };
    lowered.map(|rule| vec![Atom::Rule(rule)])
}

/// An error about a part of a schema.
pub fn refused(path: &str, problem: &str) -> Error {
    Error::Schema { path: path.to_owned(), problem: problem.to_owned() }
}

/// The properties of an object: names, schemas, and whether each must be there.
pub fn properties(schema: &Value) -> Vec<(&str, &Value, bool)> {
    let required = |name: &str| {
        let names = schema.get("required").and_then(Value::as_array);
        names.is_some_and(|names| names.iter().any(|other| other == name))
    };
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.map(|(name, schema)| (name.as_str(), schema, required(name))).collect()
}

/// Arguments between tags.
struct Tagged<'a> {
    tags: Tags,
    root: &'a Value,
    strict: bool,
}

/// A value between tags.
enum Raw {
    /// Any text.
    Any,
    Text(String),
    Json(Value),
}

impl Tagged<'_> {
    fn arguments(&self, writer: &mut Writer) -> Result<Vec<Atom>, Error> {
        let mut parts = Vec::new();
        for (name, schema, required) in properties(self.root) {
            let path = format!("#/properties/{}", name.replace('~', "~0").replace('/', "~1"));
            let mut values = Vec::new();
            self.raw(schema, &path, DEPTH, &mut values)?;
            let argument = self.argument(writer, &[Atom::Regex(pattern(name))], &values)?;
            parts.push(if required { argument } else { format!("{argument}?") });
        }
        let free = self.root.get("additionalProperties") != Some(&Value::Bool(false));
        if parts.is_empty() && free {
            let name = Atom::Regex(r"[^ \t\r\n\x22<>=]{1,64}".to_owned());
            let argument = self.argument(writer, &[name], &[Raw::Any])?;
            parts.push(format!("{argument}*"));
        }
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Atom::Rule(writer.rule("arguments", &parts.join(" ")))])
    }

    /// A rule for an argument.
    fn argument(&self, writer: &mut Writer, name: &[Atom], values: &[Raw]) -> Result<String, Error> {
        let Tags { open, named: [string, other], close, lines } = self.tags;
        let space = writer.atoms(" ", true);
        let begin = [&space[..], &writer.atoms(open, true), name].concat();
        let line = Atom::Regex(if lines { "\\n?".to_owned() } else { String::new() });
        let mut ways = Vec::new();
        for value in values {
            let named = if let Raw::Json(_) = value { other } else { string };
            let begin = [&begin[..], &writer.atoms(named, true)].concat();
            let close_atoms = writer.atoms(close, false);
            match value {
                Raw::Any => ways.push(format!("{} {}", writer.sequence(&begin), writer.until(close))),
                Raw::Text(text) => {
                    let text = [line.clone(), Atom::Regex(pattern(text)), line.clone()];
                    ways.push(writer.sequence(&[&begin[..], &text, &close_atoms].concat()));
                }
                Raw::Json(schema) => {
                    let words = match schema.get("type").and_then(Value::as_str) {
                        // As Python writes it, which is what templates show.
                        Some("boolean") => Some("(true|false|True|False)"),
                        Some("null") => Some("(null|None)"),
                        _ => None,
                    };
                    let value = match words {
                        Some(words) => vec![Atom::Regex(words.to_owned())],
                        None => json(writer, schema, self.strict)?,
                    };
                    ways.push(writer.sequence(&[&begin[..], &space, &value, &space, &close_atoms].concat()));
                }
            }
        }
        if string != other && values.iter().any(|value| matches!(value, Raw::Any)) {
            let begin = [&begin[..], &writer.atoms(other, true), &json(writer, &Value::Bool(true), false)?].concat();
            ways.push(writer.sequence(&[&begin[..], &writer.atoms(close, false)].concat()));
        }
        Ok(writer.rule("argument", &ways.join(" | ")))
    }

    /// What a value may be.
    fn raw(&self, schema: &Value, path: &str, depth: usize, values: &mut Vec<Raw>) -> Result<(), Error> {
        let any = |values: &mut Vec<Raw>| {
            values.clear();
            values.push(Raw::Any);
            Ok(())
        };
        let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return any(values) };
        if matches!(values.first(), Some(Raw::Any)) {
            return Ok(());
        }
        if !Kinds::of(schema, self.root).string {
            values.push(Raw::Json(self.with_definitions(map)));
            return Ok(());
        }
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            let found = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            let found = found.ok_or_else(|| refused(&format!("{path}/$ref"), "expected a path to a schema"))?;
            return self.raw(found, target, depth, values);
        }
        if let Some(list) =
            map.get("enum").and_then(Value::as_array).cloned().or_else(|| Some(vec![map.get("const")?.clone()]))
        {
            for value in list {
                values.push(match value {
                    Value::String(text) => Raw::Text(text),
                    value => Raw::Json(json!({ "const": value })),
                });
            }
            return Ok(());
        }
        for keyword in ["anyOf", "oneOf"] {
            if let Some(list) = map.get(keyword).and_then(Value::as_array) {
                for (i, schema) in list.iter().enumerate() {
                    self.raw(schema, &format!("{path}/{keyword}/{i}"), depth, values)?;
                }
                return Ok(());
            }
        }
        let unsupported = ["pattern", "format", "minLength", "maxLength", "allOf", "not", "if"];
        match unsupported.iter().find(|keyword| self.strict && map.contains_key(**keyword)) {
            None => any(values),
            Some(keyword) => {
                let problem = "not supported for a string in this model's format of calls";
                Err(refused(&format!("{path}/{keyword}"), problem))
            }
        }
    }

    /// A schema with the definitions that it may refer to.
    fn with_definitions(&self, schema: &Map<String, Value>) -> Value {
        let mut schema = schema.clone();
        for name in ["$schema", "$defs", "definitions"] {
            if let Some(value) = self.root.get(name) {
                schema.entry(name).or_insert_with(|| value.clone());
            }
        }
        Value::Object(schema)
    }
}
