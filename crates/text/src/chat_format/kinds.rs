//! Which kinds of values a schema allows, where a format writes strings without quotes.

use super::Tool;
use serde_json::Value;

/// Maximum number of references and alternatives in each other.
const DEPTH: usize = 32;

/// Whether a value may be a string, or something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kinds {
    pub string: bool,
    pub other: bool,
}

impl Kinds {
    const ANY: Kinds = Kinds { string: true, other: true };

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

    fn of_value(value: &Value) -> Kinds {
        Kinds { string: value.is_string(), other: !value.is_string() }
    }

    fn or(self, with: Kinds) -> Kinds {
        Kinds { string: self.string || with.string, other: self.other || with.other }
    }

    fn and(self, with: Kinds) -> Kinds {
        Kinds { string: self.string && with.string, other: self.other && with.other }
    }
}

fn kinds(schema: &Value, root: &Value, depth: usize) -> Kinds {
    const NONE: Kinds = Kinds { string: false, other: false };
    let (Some(map), Some(depth)) = (schema.as_object(), depth.checked_sub(1)) else { return Kinds::ANY };
    let any = |list: &Value, of: &dyn Fn(&Value) -> Kinds| match list.as_array() {
        Some(list) => list.iter().map(of).fold(NONE, Kinds::or),
        None => of(list),
    };
    let named = |name: &Value| Kinds { string: name == "string", other: name != "string" };
    let part = |schema: &Value| kinds(schema, root, depth);
    let parts = map.iter().map(|(keyword, value)| match keyword.as_str() {
        "type" => any(value, &named),
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
    fn a_schema_says_whether_a_value_may_be_a_string() {
        let root = json!({ "$defs": { "unit": { "enum": ["C", "F"] }, "loop": { "$ref": "#/$defs/loop" } } });
        let cases = [
            (json!({ "type": "string" }), (true, false)),
            (json!({ "type": ["string", "null"] }), (true, true)),
            (json!({ "type": "integer" }), (false, true)),
            (json!({ "anyOf": [{ "type": "integer" }, { "type": "null" }] }), (false, true)),
            (json!({ "enum": ["a", 1] }), (true, true)),
            (json!({ "$ref": "#/$defs/unit" }), (true, false)),
            (json!({ "allOf": [{ "$ref": "#/$defs/unit" }, true] }), (true, false)),
            (json!({ "$ref": "#/$defs/loop" }), (true, true)),
            (json!({}), (true, true)),
        ];
        for (schema, (string, other)) in cases {
            assert_eq!(Kinds::of(&schema, &root), Kinds { string, other }, "{schema}");
        }
    }
}
