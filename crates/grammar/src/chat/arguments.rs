//! The arguments of a function, in each way to write them.

use super::values::{KNOWN, Language, Values};
use super::writer::{Atom, Writer, pattern};
use crate::Error;
use serde_json::{Map, Value, json};
use trine_text::{Arguments, Kinds, Tags, Tool};

/// Maximum number of references and alternatives in each other.
const DEPTH: usize = 32;

/// The arguments of a tool; of one that is not strict, some object if its schema is not supported.
pub fn arguments(writer: &mut Writer, style: Arguments, tool: &Tool) -> Result<Vec<Atom>, Error> {
    let (path, root) = object(&tool.parameters);
    match of_schema(writer, style, &root, tool.strict).map_err(|error| beneath(&path, error)) {
        Err(Error::Schema { .. }) if !tool.strict => of_schema(writer, style, &json!({ "type": "object" }), false),
        Err(Error::Schema { path, problem }) => {
            Err(Error::Schema { path: format!("{path} of the tool {}", tool.name), problem })
        }
        arguments => arguments,
    }
}

fn of_schema(writer: &mut Writer, style: Arguments, root: &Value, strict: bool) -> Result<Vec<Atom>, Error> {
    match style {
        Arguments::Json => json(writer, root, strict),
        Arguments::Tagged(tags) => Tagged { tags, root, strict }.arguments(writer),
        Arguments::Python => Values::new(Language::Python, root, strict).arguments(writer),
        Arguments::Gemma => Values::new(Language::Gemma, root, strict).arguments(writer),
    }
}

/// What may stand beside a reference and says nothing of values.
const ANNOTATIONS: [&str; 7] = ["$ref", "$defs", "definitions", "$schema", "$id", "title", "description"];

/// The path and the schema that `schema`, a part of `root`, is a reference to, if it is nothing else.
fn referred<'a>(schema: &'a Value, root: &'a Value) -> Option<(&'a str, &'a Value)> {
    let map = schema.as_object().filter(|map| map.keys().all(|key| ANNOTATIONS.contains(&&**key)))?;
    let target = map.get("$ref")?.as_str()?;
    let schema = root.pointer(target.strip_prefix('#')?).filter(|schema| schema.is_object() || schema.is_boolean())?;
    Some((target, schema))
}

/// The schema of an object, and where it stands: without one, any object. If the whole is a reference within itself, what that is to.
fn object(parameters: &Value) -> (String, Value) {
    let (mut path, mut schema, mut steps) = ("#".to_owned(), parameters, 0);
    while let Some((target, next)) = referred(schema, parameters).filter(|_| steps < DEPTH) {
        (path, schema, steps) = (target.to_owned(), next, steps + 1);
    }
    let mut map = schema.as_object().cloned().unwrap_or_default();
    if path != "#" {
        for name in ["$defs", "definitions", "$schema"] {
            parameters.get(name).into_iter().for_each(|value| drop(map.insert(name.to_owned(), value.clone())));
        }
    }
    map.insert("type".to_owned(), "object".into());
    (path, Value::Object(map))
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

/// An error about a part of the schema at `path`, which has the definitions of the whole.
fn beneath(path: &str, error: Error) -> Error {
    match error {
        Error::Schema { path: inner, problem }
            if !["#/$defs/", "#/definitions/"].iter().any(|defs| inner.starts_with(defs)) =>
        {
            refused(&format!("{path}{}", inner.trim_start_matches('#')), &problem)
        }
        error => error,
    }
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
    /// Any text, or in a format that tells them apart, JSON of a schema.
    Any(Option<Value>),
    Text(String),
    /// JSON of a schema, and the path of that.
    Json(Value, String),
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
            let argument = self.argument(writer, &[name], &[Raw::Any(Some(Value::Bool(true)))])?;
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
        let start = [&space[..], &writer.atoms(open, true), name].concat();
        let line = Atom::Regex(if lines { "\\n?".to_owned() } else { String::new() });
        let mut ways = Vec::new();
        for value in values {
            let named = if let Raw::Json(..) = value { other } else { string };
            let begin = [&start[..], &writer.atoms(named, true)].concat();
            let close_atoms = writer.atoms(close, false);
            match value {
                Raw::Any(json) => {
                    ways.push(format!("{} {}", writer.sequence(&begin), writer.until(close)));
                    if let Some(schema) = json.as_ref().filter(|_| string != other) {
                        let named = writer.atoms(other, true);
                        let value = self::json(writer, schema, self.strict)?;
                        ways.push(writer.sequence(&[&start[..], &named, &value, &close_atoms].concat()));
                    }
                }
                Raw::Text(text) => {
                    let text = [line.clone(), Atom::Regex(pattern(text)), line.clone()];
                    ways.push(writer.sequence(&[&begin[..], &text, &close_atoms].concat()));
                }
                Raw::Json(schema, path) => {
                    let words = match schema.get("type").and_then(Value::as_str) {
                        // As Python writes it, which is what templates show.
                        Some("boolean") => Some("(true|false|True|False)"),
                        Some("null") => Some("(null|None)"),
                        _ => None,
                    };
                    let value = match words {
                        Some(words) => vec![Atom::Regex(words.to_owned())],
                        None => json(writer, schema, self.strict).map_err(|error| beneath(path, error))?,
                    };
                    ways.push(writer.sequence(&[&begin[..], &space, &value, &space, &close_atoms].concat()));
                }
            }
        }
        Ok(writer.rule("argument", &ways.join(" | ")))
    }

    /// What a value may be.
    fn raw(&self, schema: &Value, path: &str, depth: usize, values: &mut Vec<Raw>) -> Result<(), Error> {
        let any = |values: &mut Vec<Raw>, schema: Option<Value>| {
            values.clear();
            values.push(Raw::Any(schema));
            Ok(())
        };
        let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else {
            return any(values, Some(Value::Bool(true)));
        };
        if matches!(values.first(), Some(Raw::Any(_))) {
            return Ok(());
        }
        let kinds = Kinds::of(schema, self.root);
        if !kinds.string() {
            values.push(Raw::Json(self.with_definitions(map), path.to_owned()));
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
                    value => Raw::Json(json!({ "const": value }), path.to_owned()),
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
        // Of what is not a string, the parser knows the type.
        let unsupported = map.keys().find(|keyword| match keyword.as_str() {
            "items" | "properties" | "required" | "additionalProperties" => kinds.nested(),
            keyword => !KNOWN.contains(&keyword) && !keyword.starts_with("x-"),
        });
        match unsupported.filter(|_| self.strict) {
            None => any(values, kinds.other().then(|| self.with_definitions(map))),
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
