//! JSON Schemas in the words of the parser's schema compiler, which knows fewer.
//!
//! All drafts become one. References lead to definitions with plain names; `not`, `if`, `oneOf`, dependencies and `unevaluated...` become
//! alternatives ([`negate`], [`evaluated`]) where these can be written. What cannot be is refused by its path, as are keywords that nobody
//! knows: a misspelled one would be ignored otherwise. `format` is asserted.

mod document;
mod evaluated;
mod lower;
mod names;
mod negate;
mod numbers;
mod objects;
mod values;

use crate::grammar::invalid;
use crate::{Error, Limits};
use document::{At, Document};
use llguidance::panic_utils::catch_unwind;
use llguidance::{GrammarBuilder, JsonCompileOptions};
use lower::Lowering;
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;

/// Whitespace between the tokens of JSON: so little that it does not keep an answer from its end.
const WHITESPACE: &str = r" |\r?\n[ \t]{0,20}";
/// Escapes in strings. With `u`, a further property could have the name of one that the schema has, such as `\u0061` beside `a`.
const ESCAPES: &str = "nrbtf\\\"";

pub fn parse(text: &str) -> Result<Value, Error> {
    let why = |error: serde_json::Error| error.to_string().replace("number out of range", "a number is beyond float64");
    serde_json::from_str(text).map_err(|error| invalid("JSON Schema", why(error)))
}

/// The schema for the compiler.
pub fn lower(source: &Value, limits: &Limits) -> Result<Value, Error> {
    let document = Document::new(source, limits.depth)?;
    let mut lowering = Lowering::new(&document, limits);
    let schema = lowering.lower(document.root())?;
    let definitions = lowering.definitions()?;
    let mut schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => serde_json::Map::new(),
        _ => return Err(unsatisfiable()),
    };
    schema.insert("$defs".to_owned(), definitions);
    let mut schema = Value::Object(schema);
    let constant = |key: &str, value: &Value| matches!(key, "const" | "enum") && numbers::is_beyond_int64(value);
    let integer = |key: &str, value: &Value| key == "type" && value.to_string().contains("integer");
    if contains(&schema, &constant) && contains(&schema, &integer) {
        return Err(refused("#", "a constant beyond 2^63 is not supported beside the type `integer`"));
    }
    let options = json!({ "whitespace_pattern": WHITESPACE, "json_allowed_escapes": ESCAPES });
    schema["x-guidance"] = options;
    Ok(schema)
}

/// Whether an object in a value has such an entry.
fn contains(value: &Value, is: &dyn Fn(&str, &Value) -> bool) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|value| contains(value, is)),
        Value::Object(map) => map.iter().any(|(key, value)| is(key, value) || contains(value, is)),
        _ => false,
    }
}

/// The error of a schema that excludes everything.
pub fn unsatisfiable() -> Error {
    refused("#", "no value satisfies it")
}

/// Whether the compiler takes a schema that is lowered.
pub fn compiles(schema: &Value, limits: &Limits) -> bool {
    let builder = || GrammarBuilder::new(None, limits.of_parser());
    let compile = || JsonCompileOptions::default().json_to_llg(builder(), schema.clone()).is_ok();
    catch_unwind(AssertUnwindSafe(|| Ok(compile()))).unwrap_or(false)
}

/// The path of the smallest schema that the compiler refuses.
pub fn locate(text: &str, limits: &Limits) -> String {
    /// Schemas to try.
    const MOST: usize = 1000;
    let whole = || "#".to_owned();
    let Ok(source) = serde_json::from_str(text) else { return whole() };
    let Ok(document) = Document::new(&source, limits.depth) else { return whole() };
    let is_refused = |at: &&At| {
        let compile = || {
            let mut lowering = Lowering::new(&document, limits);
            let schema = lowering.lower(at).ok()?;
            let schema = json!({ "allOf": [schema], "$defs": lowering.definitions().ok()? });
            let builder = GrammarBuilder::new(None, limits.of_parser());
            JsonCompileOptions::default().json_to_llg(builder, schema).err()
        };
        let compiled = catch_unwind(AssertUnwindSafe(|| Ok(compile())));
        compiled.map_or(true, |error| error.is_some_and(|error| !error.to_string().contains("Unsatisfiable")))
    };
    let goes_on = |_: &&At| !limits.stop.is_told();
    document.innermost().take(MOST).take_while(goes_on).find(is_refused).map_or_else(whole, |at| at.path.clone())
}

/// An error at a path.
fn refused(path: &str, problem: impl Into<String>) -> Error {
    Error::Schema { path: path.to_owned(), problem: problem.into() }
}

/// All of these schemas.
fn all(schemas: impl IntoIterator<Item = Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for schema in schemas {
        match schema {
            Value::Bool(true) => {}
            Value::Bool(false) => return Value::Bool(false),
            schema => kept.push(schema),
        }
    }
    match kept.len() {
        0 => Value::Bool(true),
        1 => kept.remove(0),
        _ => json!({ "allOf": kept }),
    }
}

/// Any of these schemas.
fn any(schemas: impl IntoIterator<Item = Value>) -> Value {
    let mut kept: Vec<Value> = Vec::new();
    for schema in schemas {
        match schema {
            Value::Bool(true) => return Value::Bool(true),
            Value::Bool(false) => {}
            schema => kept.push(schema),
        }
    }
    match kept.len() {
        0 => Value::Bool(false),
        1 => kept.remove(0),
        _ => json!({ "anyOf": kept }),
    }
}
