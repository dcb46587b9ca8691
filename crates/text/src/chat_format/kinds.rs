//! Which kinds of values a schema allows, where a format writes strings without quotes.

use super::Tool;
use serde_json::Value;

/// Maximum number of references and alternatives in each other.
const DEPTH: usize = 32;

/// The types of values that a schema allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds(u8);

impl Kinds {
    const NAMES: [&str; 7] = ["string", "null", "boolean", "integer", "number", "array", "object"];
    const ANY: Kinds = Kinds(0x7f);
    const NONE: Kinds = Kinds(0);
    const STRING: Kinds = Kinds(1);

    /// Those of an argument.
    pub fn of_argument(tool: Option<&Tool>, name: &str) -> Kinds {
        let Some(root) = tool.map(|tool| &tool.parameters) else { return Kinds::ANY };
        let property = root.get("properties").and_then(|properties| properties.get(name));
        property.or_else(|| root.get("additionalProperties")).map_or(Kinds::ANY, |schema| Kinds::of(schema, root))
    }

    /// Those of a schema that is part of `root`.
    pub fn of(schema: &Value, root: &Value) -> Kinds {
        kinds(schema, root, DEPTH)
    }

    /// A string, or anything but one.
    pub(super) fn quoted(is_string: bool) -> Kinds {
        if is_string { Kinds::STRING } else { Kinds(Kinds::ANY.0 & !Kinds::STRING.0) }
    }

    /// Whether a value may be a string.
    pub fn string(self) -> bool {
        self.0 & Kinds::STRING.0 != 0
    }

    /// Whether it may be something else.
    pub fn other(self) -> bool {
        self.0 & !Kinds::STRING.0 != 0
    }

    /// Whether it may be a list or an object.
    pub fn nested(self) -> bool {
        self.0 & (Kinds::named("array").0 | Kinds::named("object").0) != 0
    }

    /// Whether it may be this value.
    pub fn allow(self, value: &Value) -> bool {
        self.0 & Kinds::of_value(value).0 != 0
    }

    fn named(name: &str) -> Kinds {
        let at = |name| Kinds::NAMES.iter().position(|other| *other == name).map_or(0, |at| 1 << at);
        // Every integer is a number.
        Kinds(if name == "number" { at("number") | at("integer") } else { at(name) })
    }

    fn of_value(value: &Value) -> Kinds {
        match value {
            Value::String(_) => Kinds::STRING,
            Value::Null => Kinds::named("null"),
            Value::Bool(_) => Kinds::named("boolean"),
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => {
                Kinds::named("integer")
            }
            Value::Number(_) => Kinds(Kinds::named("number").0 & !Kinds::named("integer").0),
            Value::Array(_) => Kinds::named("array"),
            Value::Object(_) => Kinds::named("object"),
        }
    }

    fn or(self, with: Kinds) -> Kinds {
        Kinds(self.0 | with.0)
    }

    fn and(self, with: Kinds) -> Kinds {
        Kinds(self.0 & with.0)
    }
}

fn kinds(schema: &Value, root: &Value, depth: usize) -> Kinds {
    let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return Kinds::ANY };
    let any = |list: &Value, of: &dyn Fn(&Value) -> Kinds| match list.as_array() {
        Some(list) => list.iter().map(of).fold(Kinds::NONE, Kinds::or),
        None => of(list),
    };
    let part = |schema: &Value| kinds(schema, root, depth);
    let parts = map.iter().map(|(keyword, value)| match keyword.as_str() {
        "type" => any(value, &|name| name.as_str().map_or(Kinds::ANY, Kinds::named)),
        "enum" => any(value, &Kinds::of_value),
        "const" => Kinds::of_value(value),
        "anyOf" | "oneOf" => any(value, &part),
        "allOf" => value.as_array().into_iter().flatten().map(part).fold(Kinds::ANY, Kinds::and),
        "$ref" => {
            let target = value.as_str().and_then(|path| root.pointer(path.strip_prefix('#')?));
            target.map_or(Kinds::ANY, part)
        }
        _ => Kinds::ANY,
    });
    parts.fold(Kinds::ANY, Kinds::and)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_says_which_values_there_may_be() {
        let root = json!({ "$defs": { "unit": { "enum": ["C", "F"] }, "loop": { "$ref": "#/$defs/loop" } } });
        let values = [json!("a"), json!(null), json!(true), json!(1), json!(1.5), json!([]), json!({})];
        let cases = [
            (json!({ "type": "string" }), "1000000"),
            (json!({ "type": ["string", "null"] }), "1100000"),
            (json!({ "type": "integer" }), "0001000"),
            (json!({ "type": "number" }), "0001100"),
            (json!({ "anyOf": [{ "type": "integer" }, { "type": "array" }] }), "0001010"),
            (json!({ "enum": ["a", 1] }), "1001000"),
            (json!({ "const": {} }), "0000001"),
            (json!({ "$ref": "#/$defs/unit" }), "1000000"),
            (json!({ "allOf": [{ "$ref": "#/$defs/unit" }, true] }), "1000000"),
            (json!({ "$ref": "#/$defs/loop" }), "1111111"),
            (json!({}), "1111111"),
        ];
        for (schema, expected) in cases {
            let kinds = Kinds::of(&schema, &root);
            let found: String = values.iter().map(|value| if kinds.allow(value) { '1' } else { '0' }).collect();
            assert_eq!(found, expected, "{schema}");
        }
    }
}
