//! Attributes, subscripts and calls of methods, as Jinja's sandbox in Python finds them.

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, State, Value};
use std::fmt;
use std::sync::Arc;

use super::args::Args;
use super::budget::{spend_all, spend_flat};
use super::functions::Range;
use super::iterators::is_iterator;
use super::methods;

/// Whether a value is a dictionary. Namespaces, loops and macros of the engine look like them.
pub(super) fn is_dict(value: &Value) -> bool {
    let others = ["Namespace", "Loop", "Macro", "Module"];
    let of_engine = |name: &str| others.iter().any(|other| name.rsplit("::").next() == Some(other));
    value.kind() == ValueKind::Map && value.as_object().is_some_and(|object| !of_engine(object.type_name()))
}

/// Whether a value is a namespace.
pub(super) fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// A method with the value that it belongs to.
#[derive(Debug)]
pub(super) struct Method {
    of: Value,
    name: String,
}

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn call(self: &Arc<Self>, state: &mut State, args: &[Value]) -> Result<Value, Error> {
        call(state, &self.of, &self.name, args)
    }

    fn render(self: &Arc<Self>, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "<built-in method {}>", self.name)
    }
}

/// Python's `getattr(value, name)`, if there is such an attribute.
pub(super) fn attribute(value: &Value, name: &str) -> Option<Value> {
    if let Some(number) = methods::number_attribute(value, name) {
        return Some(number);
    }
    if methods::names(value).contains(&name) {
        return Some(Value::from_object(Method { of: value.clone(), name: name.to_owned() }));
    }
    // Fields of our own objects and those of the engine.
    let has_fields = !is_dict(value) && value.as_str().is_none() && !value.is_undefined();
    if has_fields { value.get_attr(name).ok().filter(|field| !field.is_undefined()) } else { None }
}

/// `value.name`: an attribute, or else an entry.
pub(super) fn dotted(value: &Value, name: &str) -> Result<Value, Error> {
    if name.starts_with('_') && !is_dict(value) {
        return Ok(Value::UNDEFINED);
    }
    match attribute(value, name) {
        Some(attribute) => Ok(attribute),
        None => value.get_attr(name),
    }
}

/// The entry of a dictionary. Booleans are the numbers 0 and 1.
pub(super) fn entry(dict: &Value, key: &Value) -> Option<Value> {
    let dict = dict.as_object()?;
    let other = || match key.kind() {
        ValueKind::Bool => Some(Value::from(u8::from(key.is_true()))),
        ValueKind::Number => key.as_i64().filter(|n| (0..=1).contains(n)).map(|n| Value::from(n == 1)),
        _ => None,
    };
    dict.get_value(key).or_else(|| dict.get_value(&other()?))
}

/// `value[key]`: an entry, or else an attribute; undefined where there is neither.
pub(super) fn item(state: &mut State, value: &Value, key: &Value) -> Result<Value, Error> {
    spend_all(state, key)?;
    if value.kind() == ValueKind::Iterable || value.as_str().is_some() {
        spend_flat(state, value)?;
    }
    let listed = matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::String);
    let found = match key.kind() {
        _ if is_iterator(value) => Value::UNDEFINED,
        ValueKind::Bool if listed => value.get_item(&Value::from(u8::from(key.is_true())))?,
        ValueKind::Number if listed && !key.is_integer() => Value::UNDEFINED,
        _ if is_dict(value) => entry(value, key).unwrap_or_default(),
        _ => value.get_item(key)?,
    };
    Ok(match key.as_str() {
        Some(name) if found.is_undefined() => attribute(value, name).unwrap_or(found),
        _ => found,
    })
}

/// `value.name(...)`.
pub(super) fn call(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    args.iter().try_for_each(|arg| spend_all(state, arg))?;
    let result = match methods::names(value).contains(&name) {
        true => methods::call(state, value, &Args::new(name, args)?)?,
        false => value.call_method(state, name, args)?,
    };
    spend_flat(state, &result)?;
    Ok(result)
}

/// The range that a value is.
pub(super) fn as_range(value: &Value) -> Option<&Range> {
    value.downcast_object_ref()
}
