//! Schemas of the values that do not satisfy a schema.

use super::document::{At, Draft};
use super::lower::{Keywords, Lowering, Sign, UNSUPPORTED, keywords};
use super::names::Keyword;
use super::objects::says_nothing;
use super::values::{self, TYPES, type_of};
use super::{all, any, numbers, refused};
use crate::Error;
use crate::regex::{CONTROLS, literal};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

impl<'a> Lowering<'a, '_> {
    /// The values that do not satisfy a schema: any of its keywords is violated.
    pub fn negate(&mut self, at: &At<'a>) -> Result<Value, Error> {
        let at = &self.document.known(at);
        self.deeper(at, |this| match keywords(at)? {
            Keywords::Any(allowed) => Ok(Value::Bool(!allowed)),
            Keywords::These(found) => {
                let violated: Result<Vec<Value>, Error> =
                    found.iter().map(|(keyword, value)| this.violated(*keyword, at, value)).collect();
                Ok(any(violated?))
            }
        })
    }

    fn violated(&mut self, keyword: Keyword, at: &At<'a>, value: &At<'a>) -> Result<Value, Error> {
        let unsupported =
            || Err(refused(&value.path, "not supported inside `not`, `if` or `oneOf`: no grammar says this"));
        let never = Ok(Value::Bool(false));
        match keyword {
            Keyword::Type => {
                values::types(value)?;
                let listed = |name: &str| {
                    value.value == name || value.value.as_array().is_some_and(|list| list.iter().any(|one| one == name))
                };
                if listed("integer") && !listed("number") && !self.integers {
                    // No grammar says that a number is no integer.
                    return unsupported();
                }
                let is_listed = |name: &str| listed(name) || name == "number" && listed("integer");
                let others: Vec<&str> = TYPES.into_iter().filter(|name| !is_listed(name)).collect();
                if others.is_empty() { never } else { Ok(json!({ "type": others })) }
            }
            Keyword::Const => self.other_than(value, &[values::constant(value)?]),
            Keyword::Enum => {
                let listed: Result<Vec<Value>, Error> = value.list()?.iter().map(values::constant).collect();
                self.other_than(value, &listed?)
            }
            Keyword::Bound(name) => match numbers::bound(at, name, value)? {
                None => never,
                Some((name, bound)) => {
                    let opposite = match name {
                        "minimum" => "exclusiveMaximum",
                        "maximum" => "exclusiveMinimum",
                        "exclusiveMinimum" => "maximum",
                        _ => "minimum",
                    };
                    Ok(json!({ "type": "number", opposite: numbers::drawn(value, opposite, &bound)? }))
                }
            },
            Keyword::Format if numbers::are_typed(at) => never,
            Keyword::Size(name) => {
                let size = values::size(value)?;
                let type_name = match name {
                    "minLength" | "maxLength" => "string",
                    "minItems" | "maxItems" => "array",
                    _ => "object",
                };
                match (name.strip_prefix("min"), name.strip_prefix("max")) {
                    (Some(_), _) if size == 0 => never,
                    (Some(what), _) => Ok(json!({ "type": type_name, format!("max{what}"): size - 1 })),
                    (_, Some("Properties")) if size > 0 => unsupported(),
                    (_, Some(what)) => Ok(json!({ "type": type_name, format!("min{what}"): size + 1 })),
                    _ => unsupported(),
                }
            }
            Keyword::Required => {
                values::required(value)?;
                let names = value.value.as_array().into_iter().flatten().filter_map(Value::as_str);
                Ok(any(names.map(|name| json!({ "type": "object", "properties": { name: false } }))))
            }
            Keyword::Properties => {
                let mut options = Vec::new();
                for (name, at) in value.map()? {
                    options.push(match self.part_not(&at)? {
                        Value::Bool(false) => Value::Bool(false),
                        not => json!({ "type": "object", "required": [name], "properties": { name: not } }),
                    });
                }
                Ok(any(options))
            }
            Keyword::AdditionalProperties => {
                let alone = says_nothing(at.key("patternProperties"))
                    && at.value.get("properties").and_then(Value::as_object).is_none_or(Map::is_empty);
                match self.part(value)? {
                    Value::Bool(true) => never,
                    Value::Bool(false) if alone => Ok(json!({ "type": "object", "minProperties": 1 })),
                    _ => unsupported(),
                }
            }
            Keyword::PrefixItems => self.violated_item(value),
            Keyword::Items if value.value.is_array() => self.violated_item(value),
            Keyword::Items | Keyword::AdditionalItems => {
                let before = at.key(if at.draft == Draft::D2020 { "prefixItems" } else { "items" });
                let before = before.and_then(|at| at.value.as_array()).map(Vec::len);
                if keyword == Keyword::AdditionalItems && before.is_none() {
                    return never;
                }
                match self.part(value)? {
                    Value::Bool(true) => never,
                    Value::Bool(false) => Ok(json!({ "type": "array", "minItems": before.unwrap_or(0) + 1 })),
                    _ => unsupported(),
                }
            }
            Keyword::Contains if at.value.get("minContains").is_none() && at.value.get("maxContains").is_none() => {
                Ok(json!({ "type": "array", "items": self.part_not(value)? }))
            }
            Keyword::UniqueItems if *value.value == false => never,
            Keyword::Ref => self.reference(value, Sign::IsNot),
            Keyword::AllOf => Ok(any(self.each(value, Sign::IsNot)?)),
            Keyword::AnyOf => Ok(all(self.each(value, Sign::IsNot)?)),
            Keyword::Not => self.lower(value),
            Keyword::OneOf => {
                let (is, not) = (self.each(value, Sign::Is)?, self.each(value, Sign::IsNot)?);
                let mut options = vec![all(not)];
                for (i, one) in is.iter().enumerate() {
                    options.extend(is[..i].iter().map(|other| all([one.clone(), other.clone()])));
                }
                Ok(any(options))
            }
            Keyword::If => {
                let mut branch = |key: &str| at.key(key).map_or(Ok(Value::Bool(false)), |at| self.negate(&at));
                let (then, otherwise) = (branch("then")?, branch("else")?);
                let yes = if then == false { Value::Bool(false) } else { all([self.lower(value)?, then]) };
                let no = if otherwise == false { Value::Bool(false) } else { all([self.negate(value)?, otherwise]) };
                Ok(any([yes, no]))
            }
            Keyword::DependentRequired | Keyword::DependentSchemas | Keyword::Dependencies => {
                let mut options = Vec::new();
                for (name, rule) in value.map()? {
                    let not = if rule.value.is_array() {
                        self.violated(Keyword::Required, value, &rule)?
                    } else {
                        self.negate(&rule)?
                    };
                    options.push(all([super::objects::with(&[name]), not]));
                }
                Ok(any(options))
            }
            Keyword::UnevaluatedItems | Keyword::UnevaluatedProperties if *value.value == true => never,
            _ => unsupported(),
        }
    }

    /// One of the first items is not what it should be.
    fn violated_item(&mut self, value: &At<'a>) -> Result<Value, Error> {
        let (mut options, mut before) = (Vec::new(), Vec::new());
        for at in value.list()? {
            let not = self.part_not(&at)?;
            if not != false {
                let items: Vec<Value> = before.iter().cloned().chain([not]).collect();
                options.push(json!({ "type": "array", "minItems": items.len(), "prefixItems": items }));
            }
            before.push(Value::Bool(true));
        }
        Ok(any(options))
    }

    /// Values other than those of `const` or `enum`.
    fn other_than(&mut self, at: &At, listed: &[Value]) -> Result<Value, Error> {
        let of = |name: &str| listed.iter().filter(|value| type_of(value) == name).collect::<Vec<_>>();
        let mut options = vec![];
        let untouched: Vec<&str> = TYPES.into_iter().filter(|name| of(name).is_empty()).collect();
        if !untouched.is_empty() {
            options.push(json!({ "type": untouched }));
        }
        for flag in [true, false] {
            if !of("boolean").is_empty() && !listed.contains(&Value::Bool(flag)) {
                options.push(json!({ "const": flag }));
            }
        }
        let mut listed_numbers: Vec<&Value> = of("number");
        listed_numbers.sort_by(|a, b| a.as_f64().unwrap_or(0.0).total_cmp(&b.as_f64().unwrap_or(0.0)));
        let above = |number: &Value| numbers::drawn(at, "exclusiveMinimum", number);
        let below = |number: &Value| numbers::drawn(at, "exclusiveMaximum", number);
        if let (Some(first), Some(last)) = (listed_numbers.first(), listed_numbers.last()) {
            options.push(json!({ "type": "number", "exclusiveMaximum": below(first)? }));
            options.push(json!({ "type": "number", "exclusiveMinimum": above(last)? }));
            for pair in listed_numbers.windows(2).filter(|pair| pair[0] != pair[1]) {
                let (least, most) = (above(pair[0])?, below(pair[1])?);
                options.push(json!({ "type": "number", "exclusiveMinimum": least, "exclusiveMaximum": most }));
            }
        }
        let strings: Vec<&str> = of("string").into_iter().filter_map(Value::as_str).collect();
        if !strings.is_empty() {
            options.push(json!({ "type": "string", "pattern": Trie::of(&strings).others() }));
        }
        if !of("array").is_empty() || !of("object").is_empty() {
            return Err(refused(&at.path, UNSUPPORTED));
        }
        Ok(any(options))
    }
}

/// Strings by their characters.
#[derive(Default)]
struct Trie {
    listed: bool,
    next: BTreeMap<char, Trie>,
}

impl Trie {
    fn of(strings: &[&str]) -> Trie {
        let mut trie = Trie::default();
        for string in strings {
            let mut node = &mut trie;
            for c in string.chars() {
                node = node.next.entry(c).or_default();
            }
            node.listed = true;
        }
        trie
    }

    /// A pattern for all other strings.
    fn others(&self) -> String {
        format!("^{}$", self.rest())
    }

    /// A group for what may follow here.
    fn rest(&self) -> String {
        let class = |c: &char| literal(&c.to_string());
        let mut options: Vec<String> =
            self.next.iter().map(|(c, node)| format!("{}{}", class(c), node.rest())).collect();
        let classes: String = self.next.keys().map(class).collect();
        options.push(if classes.is_empty() {
            "(?s:.)(?s:.)*".to_owned()
        } else {
            format!("[^{classes}{CONTROLS}](?s:.)*")
        });
        if !self.listed {
            options.push(String::new());
        }
        format!("(?:{})", options.join("|"))
    }
}
