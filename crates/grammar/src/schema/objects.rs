//! Names, dependencies and `contains`.

use super::document::{At, Draft};
use super::lower::{Lowering, UNSUPPORTED};
use super::values::{self, allows_all, only_if};
use super::{all, any, refused};
use crate::Error;
use serde_json::{Value, json};

/// The schema of objects without a property.
pub fn without(name: &str) -> Value {
    json!({ "properties": { name: false } })
}

/// The schema of objects with some properties.
pub fn with(names: &[&str]) -> Value {
    json!({ "type": "object", "required": names })
}

impl<'a> Lowering<'a, '_> {
    /// `dependentRequired` and `dependentSchemas`, or both as one. They say nothing about what is no object.
    pub fn dependencies(&mut self, at: &At<'a>) -> Result<Value, Error> {
        let mut rules = Vec::new();
        for (name, rule) in at.map()? {
            let then = if rule.value.is_array() {
                values::required(&rule)?;
                json!({ "type": "object", "required": rule.value })
            } else {
                self.lower(&rule)?
            };
            rules.push(any([without(name), all([with(&[name]), then])]));
        }
        Ok(all(rules))
    }

    /// `propertyNames`, as patterns that the names match.
    pub fn property_names(&mut self, at: &At<'a>) -> Result<Value, Error> {
        let schema = match self.part(at)? {
            Value::Bool(true) => return Ok(Value::Bool(true)),
            Value::Bool(false) => return Ok(json!({ "maxProperties": 0 })),
            schema => schema,
        };
        let map = schema.as_object().ok_or_else(|| refused(&at.path, UNSUPPORTED))?;
        let mut patterns = Vec::new();
        let size = |key: &str| map.get(key).and_then(Value::as_u64);
        if size("minLength").is_some() || size("maxLength").is_some() {
            let most = size("maxLength").map_or(String::new(), |most| most.to_string());
            patterns.push(format!("^(?s:.){{{},{most}}}$", size("minLength").unwrap_or(0)));
        }
        for (key, value) in map {
            match key.as_str() {
                "pattern" => patterns.push(value.as_str().unwrap_or_default().to_owned()),
                "const" => patterns.push(one_of(std::slice::from_ref(value))),
                "enum" => patterns.push(one_of(value.as_array().map_or(&[], Vec::as_slice))),
                "minLength" | "maxLength" => {}
                "type" if value == "string" => {}
                _ => return Err(refused(&at.path, UNSUPPORTED)),
            }
        }
        let closed = |pattern: String| json!({ "patternProperties": { pattern: true }, "additionalProperties": false });
        match patterns.len() {
            0 => Ok(Value::Bool(true)),
            1 => Ok(closed(patterns.remove(0))),
            _ => Err(refused(&at.path, UNSUPPORTED)),
        }
    }

    /// `contains` where it is a matter of counts.
    pub fn contains(&mut self, schema: &At<'a>, at: &At<'a>) -> Result<Value, Error> {
        let counted = schema.draft >= Draft::D2019;
        let count = |key, default| if counted { values::count(schema, key, default) } else { Ok(default) };
        let (least, most) = (count("minContains", Some(1))?.unwrap_or(1), count("maxContains", None)?);
        let lowered = self.part(at)?;
        let items = |least: u64, most: Option<u64>| match most {
            Some(most) => json!({ "minItems": least, "maxItems": most }),
            None => json!({ "minItems": least }),
        };
        let each = schema.key("items").map(|items| self.part(&items)).transpose()?;
        match lowered {
            Value::Bool(false) if least > 0 => Ok(only_if("array", Value::Bool(false))),
            Value::Bool(false) => Ok(Value::Bool(true)),
            Value::Bool(true) => Ok(items(least, most)),
            // Every item is one that it asks for.
            lowered if each.as_ref() == Some(&lowered) && schema.value.get("prefixItems").is_none() => {
                Ok(items(least, most))
            }
            _ if least == 0 && most.is_none() => Ok(Value::Bool(true)),
            // None is one.
            _ if least == 0 && most == Some(0) => Ok(json!({ "items": self.part_not(at)? })),
            lowered => {
                // A short array is written out.
                let longest = values::count(schema, "maxItems", None)?.filter(|&n| n <= 4);
                let Some(longest) = longest else { return Err(refused(&at.path, UNSUPPORTED)) };
                let not = self.part_not(at)?;
                let mut options = Vec::new();
                for len in 0..=longest {
                    for set in 0u32..1 << len {
                        let n = u64::from(set.count_ones());
                        if n >= least && most.is_none_or(|most| n <= most) {
                            let item = |i: u64| if set >> i & 1 == 1 { lowered.clone() } else { not.clone() };
                            let items: Vec<Value> = (0..len).map(item).collect();
                            options.push(
                                json!({ "type": "array", "prefixItems": items, "minItems": len, "maxItems": len }),
                            );
                        }
                    }
                }
                Ok(only_if("array", any(options)))
            }
        }
    }

    /// `additionalProperties: false`, or `unevaluatedProperties`, beside `names` and `patterns`.
    pub fn closed(names: &[String], patterns: &[String], rest: Value) -> Value {
        let names: serde_json::Map<String, Value> = names.iter().map(|name| (name.clone(), true.into())).collect();
        let patterns: serde_json::Map<String, Value> =
            patterns.iter().map(|pattern| (pattern.clone(), true.into())).collect();
        json!({ "properties": names, "patternProperties": patterns, "additionalProperties": rest })
    }
}

/// A pattern for one of these strings; other values are no names.
fn one_of(values: &[Value]) -> String {
    let names: Vec<String> = values.iter().filter_map(Value::as_str).map(crate::regex::literal).collect();
    let pattern = format!("^(?:{})$", names.join("|"));
    if names.is_empty() { "[^\\s\\S]".to_owned() } else { pattern }
}

/// Whether a schema says nothing.
pub fn says_nothing(at: Option<At>) -> bool {
    at.is_none_or(|at| allows_all(&at))
}
