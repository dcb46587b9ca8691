//! What the values of bodies are: the one place where fields and types of nested objects are checked.

use crate::Problem;
use crate::fields::{kind, shown};
use serde_json::{Map, Value};

/// What a value is. A null counts as no value.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Anything: whoever reads it checks it.
    Any,
    Flag,
    Text,
    /// A whole number of at least this.
    Whole(i64),
    /// One of these texts.
    Word(&'static [&'static str]),
    /// An object with any fields.
    Map,
    /// Texts by their names, as many and as long as OpenAI's metadata may be.
    Metadata,
    /// A list whose entries are all this.
    ListOf(&'static Form),
    /// An object with no other fields than these.
    Object(Fields),
    /// Nothing but one of these, as JSON, and why.
    Only(&'static [&'static str], &'static str),
}

/// The fields of an object, and what each is.
pub type Fields = &'static [(&'static str, Form)];

impl Form {
    /// Checks a value at a place of a body.
    ///
    /// # Errors
    /// With the place of what is wrong or not known.
    pub fn check(&self, value: &Value, place: &str) -> Result<(), Problem> {
        let wrong =
            |expected: &str| Err(Problem::field(place, format_args!("expected {expected}, found {}", kind(value))));
        match (self, value) {
            (_, Value::Null)
            | (Form::Any, _)
            | (Form::Flag, Value::Bool(_))
            | (Form::Text, Value::String(_))
            | (Form::Map, Value::Object(_)) => Ok(()),
            (Form::Flag, _) => wrong("true or false"),
            (Form::Text, _) => wrong("a string"),
            (Form::Whole(least), _) => match value.as_i64() {
                Some(number) if number >= *least => Ok(()),
                _ => wrong(&format!("a whole number of at least {least}")),
            },
            (Form::Word(known), _) if value.as_str().is_some_and(|word| known.contains(&word)) => Ok(()),
            (Form::Word(known), _) => {
                let expected = known.join(", ");
                Err(Problem::field(place, format_args!("expected one of {expected}, found {}", shown(value))))
            }
            (Form::Only(known, _), _) if known.contains(&&*value.to_string()) => Ok(()),
            (Form::Only(known, why), _) => {
                let expected = known.join(" or ");
                Err(Problem::field(place, format_args!("expected {expected}, found {}: {why}", shown(value))))
            }
            (Form::ListOf(entry), Value::Array(list)) => {
                list.iter().enumerate().try_for_each(|(i, value)| entry.check(value, &format!("{place}[{i}]")))
            }
            (Form::ListOf(_), _) => wrong("a list"),
            (Form::Metadata, Value::Object(fields)) => metadata(fields, place),
            (Form::Object(known), Value::Object(fields)) => fields.iter().try_for_each(|(name, value)| {
                let place = format!("{place}.{name}");
                match known.iter().find(|(known, _)| known == name) {
                    Some((_, form)) => form.check(value, &place),
                    None if value.is_null() => Ok(()),
                    None => {
                        let known: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                        let expected = known.join(", ");
                        Err(Problem::field(&place, format_args!("there is no such field; expected {expected}")))
                    }
                }
            }),
            (Form::Map | Form::Metadata | Form::Object(_), _) => wrong("an object"),
        }
    }
}

/// A mark of what is to be cached, which changes no answer.
pub const CACHE_CONTROL: (&str, Form) = (
    "cache_control",
    Form::Object(&[("type", Form::Word(&["ephemeral"])), ("ttl", Form::Word(&["5m", "1h"])), ("scope", Form::Text)]),
);

/// Checks texts by their names, within OpenAI's limits.
fn metadata(fields: &Map<String, Value>, place: &str) -> Result<(), Problem> {
    if fields.len() > 16 {
        return Err(Problem::field(place, format_args!("expected at most 16 entries, found {}", fields.len())));
    }
    fields.iter().try_for_each(|(name, value)| {
        let place = format!("{place}.{name}");
        let wrong = |problem: String| Err(Problem::field(&place, problem));
        match value.as_str() {
            None => wrong(format!("expected a string, found {}", kind(value))),
            Some(text) if text.chars().count() > 512 => wrong("expected at most 512 characters".to_owned()),
            Some(_) if name.chars().count() > 64 => wrong("expected a name of at most 64 characters".to_owned()),
            Some(_) => Ok(()),
        }
    })
}
