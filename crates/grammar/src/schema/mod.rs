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
mod objects;
mod values;

use crate::grammar::invalid;
use crate::{Error, Limits};
use document::Document;
use lower::Lowering;
use serde_json::{Value, json};

/// Whitespace between the tokens of JSON: enough for any indentation, and not so much that an answer never ends.
const WHITESPACE: &str = r"[ \t\n\r]{1,64}";

/// The schema for the compiler.
pub fn lower(text: &str, limits: &Limits) -> Result<Value, Error> {
    let source: Value = serde_json::from_str(text).map_err(|error| invalid("JSON Schema", error.to_string()))?;
    let document = Document::new(&source, limits.depth)?;
    let mut lowering = Lowering::new(&document, limits);
    let schema = lowering.lower(document.root())?;
    let definitions = lowering.definitions()?;
    let mut schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => serde_json::Map::new(),
        _ => return Err(refused("#", NOTHING)),
    };
    schema.insert("$defs".to_owned(), definitions);
    schema.insert("x-guidance".to_owned(), json!({ "whitespace_pattern": WHITESPACE }));
    Ok(Value::Object(schema))
}

pub const NOTHING: &str = "no value satisfies it";

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
