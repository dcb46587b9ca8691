//! The values of keywords, checked.

use super::document::At;
use super::lower::is_true;
use super::{numbers, refused};
use crate::Error;
use crate::regex::search_pattern;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The types of JSON; `integer` is a number.
pub const TYPES: [&str; 6] = ["null", "boolean", "number", "string", "array", "object"];

/// The type of a value.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// `type`: one, or a list of them.
pub fn types(at: &At) -> Result<Value, Error> {
    let known = |value: &Value| value.as_str().is_some_and(|name| name == "integer" || TYPES.contains(&name));
    let valid = at.value.as_array().map_or_else(|| known(at.value), |list| !list.is_empty() && list.iter().all(known));
    if valid { Ok(at.value.clone()) } else { Err(at.expected(&format!("integer, or one of {}", TYPES.join(", ")))) }
}

/// A value of `const` or `enum`.
pub fn constant(at: &At) -> Result<Value, Error> {
    fn plain(at: &At, value: &Value) -> Result<Value, Error> {
        Ok(match value {
            Value::Number(number) => numbers::constant(at, number)?,
            Value::String(text) => text_without_controls(at, text)?.into(),
            Value::Array(list) => list.iter().map(|value| plain(at, value)).collect::<Result<_, _>>()?,
            Value::Object(map) => Value::Object(
                map.iter().map(|(name, value)| Ok((name.clone(), plain(at, value)?))).collect::<Result<_, Error>>()?,
            ),
            value => value.clone(),
        })
    }
    plain(at, at.value)
}

/// A text that an answer can have: see [`crate::regex::CONTROLS`].
pub fn text_without_controls<'a>(at: &At, text: &'a str) -> Result<&'a str, Error> {
    match text.chars().find(|&c| crate::regex::is_control(c)) {
        None => Ok(text),
        Some(c) => Err(refused(&at.path, format!("the control character U+{:04X} is not supported", u32::from(c)))),
    }
}

/// A length or count. Those beyond this are beyond any context.
pub fn size(at: &At) -> Result<u64, Error> {
    const MOST: f64 = 1e9;
    let float = at.value.as_f64().filter(|size| size.fract() == 0.0 && (0.0..=MOST).contains(size));
    float.map(|size| size as u64).ok_or_else(|| at.expected("a count of at most 1e9"))
}

/// The size of a keyword. A name may come twice, and then counts twice, so `minProperties` is at most one beyond those that must be there.
pub fn size_of(schema: &At, name: &str, at: &At) -> Result<u64, Error> {
    let size = size(at)?;
    let required = schema.value.get("required").and_then(Value::as_array);
    let names = required.into_iter().flatten().collect::<std::collections::HashSet<_>>().len() as u64;
    match name {
        "minProperties" if size > names + 1 => {
            Err(refused(&at.path, format!("above {} is not supported, as the same name may come twice", names + 1)))
        }
        _ => Ok(size),
    }
}

/// `required`, or a list of `dependentRequired`.
pub fn required(at: &At) -> Result<Value, Error> {
    let names = at.value.as_array().and_then(|list| list.iter().map(Value::as_str).collect::<Option<Vec<_>>>());
    for name in names.ok_or_else(|| at.expected("an array of strings"))? {
        text_without_controls(at, name)?;
    }
    Ok(at.value.clone())
}

pub fn check_pattern(at: &At) -> Result<String, Error> {
    let text = at.value.as_str().ok_or_else(|| at.expected("a string"))?;
    search_pattern(text).map_err(|problem| refused(&at.path, problem))
}

/// `format`: those for which the compiler has a regular expression.
pub fn format<'a>(at: &At<'a>) -> Result<&'a str, Error> {
    const FORMATS: &[&str] =
        &["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
    let name = at.value.as_str().filter(|name| FORMATS.contains(name));
    name.ok_or_else(|| at.expected(&format!("one of {}", FORMATS.join(", "))))
}

/// Whether two lowered schemas have no value in common, as far as types and constants of required properties tell.
pub fn disjoint(a: &Value, b: &Value) -> bool {
    if *a == false || *b == false {
        return true;
    }
    let (Some(left), Some(right)) = (a.as_object(), b.as_object()) else { return false };
    fn list<'v>(value: &'v Value, key: &str) -> Option<&'v Vec<Value>> {
        value.get(key).and_then(Value::as_array)
    }
    for (one, other) in [(a, b), (b, a)] {
        // All alternatives of one, or any of the schemas that are all required.
        if list(one, "anyOf").is_some_and(|options| options.iter().all(|option| disjoint(option, other)))
            || list(one, "allOf").is_some_and(|parts| parts.iter().any(|part| disjoint(part, other)))
        {
            return true;
        }
    }
    fn types(value: &Value) -> Option<Vec<&str>> {
        let name = |name| if name == "integer" { "number" } else { name };
        match value.get("type") {
            Some(Value::String(one)) => Some(vec![name(one.as_str())]),
            Some(Value::Array(list)) => Some(list.iter().filter_map(Value::as_str).map(name).collect()),
            _ => constants(value).map(|values| values.iter().map(type_of).collect()),
        }
    }
    if let (Some(a), Some(b)) = (types(a), types(b))
        && !a.iter().any(|name| b.contains(name))
    {
        return true;
    }
    if let (Some(a), Some(b)) = (constants(a), constants(b))
        && !a.iter().any(|value| b.contains(value))
    {
        return true;
    }
    let only_objects = |value: &Value| types(value).is_some_and(|types| types == ["object"]);
    let required = |value: &Value, name: &str| {
        list(value, "required").is_some_and(|names| names.iter().any(|required| required == name))
    };
    fn properties(map: &Map<String, Value>) -> Option<&Map<String, Value>> {
        map.get("properties").and_then(Value::as_object)
    }
    only_objects(a)
        && only_objects(b)
        && properties(left).zip(properties(right)).is_some_and(|(left, right)| {
            left.iter().any(|(name, schema)| {
                (required(a, name) || required(b, name)) && right.get(name).is_some_and(|other| disjoint(schema, other))
            })
        })
}

/// Which schemas may have a value in common, by the values that they list: these are looked up, not compared.
pub struct Overlaps<'v> {
    listed: Vec<Option<&'v [Value]>>,
    /// Those that list no values.
    free: Vec<usize>,
    with: HashMap<&'v Value, Vec<usize>>,
}

impl<'v> Overlaps<'v> {
    pub fn of(schemas: &'v [Value]) -> Overlaps<'v> {
        let listed: Vec<Option<&[Value]>> = schemas.iter().map(constants).collect();
        let free = (0..schemas.len()).filter(|&i| listed[i].is_none()).collect();
        let mut with: HashMap<&Value, Vec<usize>> = HashMap::new();
        for (i, values) in listed.iter().enumerate() {
            for value in values.iter().copied().flatten() {
                with.entry(value).or_default().push(i);
            }
        }
        Overlaps { listed, free, with }
    }

    /// The others that may have a value in common with a schema.
    pub fn with(&self, i: usize) -> Vec<usize> {
        let mut others: Vec<usize> = match self.listed[i] {
            None => (0..self.listed.len()).collect(),
            Some(values) => values.iter().flat_map(|value| &self.with[value]).chain(&self.free).copied().collect(),
        };
        others.sort_unstable();
        others.dedup();
        others.retain(|&other| other != i);
        others
    }
}

/// The values that a lowered schema lists.
fn constants(schema: &Value) -> Option<&[Value]> {
    let one = schema.get("const").map(std::slice::from_ref);
    one.or_else(|| schema.get("enum").and_then(Value::as_array).map(Vec::as_slice))
}

/// The count of a keyword beside another, or what it is without.
pub fn count(schema: &At, key: &str, default: Option<u64>) -> Result<Option<u64>, Error> {
    schema.key(key).map_or(Ok(default), |at| size(&at).map(Some))
}

/// The schema of values that are of another type, or satisfy `schema`.
pub fn only_if(type_name: &str, schema: Value) -> Value {
    let mut options = vec![schema];
    options.push(json!({ "type": TYPES.iter().filter(|name| **name != type_name).collect::<Vec<_>>() }));
    super::any(options)
}

/// Whether a schema allows every value, for all that its own text says.
pub fn allows_all(at: &At) -> bool {
    is_true(at) || at.value.as_object().is_some_and(|map| map.is_empty())
}
