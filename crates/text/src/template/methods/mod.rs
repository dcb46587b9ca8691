//! The methods and attributes of Python's values. Those that change a value do not exist, as in Jinja's sandbox.

mod numbers;
mod strings;

pub(super) use numbers::number_attribute;
pub(super) use strings::stripped;

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::args::{Args, optional_positional, positional};
use super::attributes::{as_range, entry, is_dict};
use super::budget::{spend, spend_flat};
use super::iterators::{DictView, is_hashable, is_list};
use super::operators::equal;
use super::values::wrong;

const BYTES: &[&str] = &["decode"];
const DICT: &[&str] = &["copy", "get", "items", "keys", "values"];
const LIST: &[&str] = &["copy", "count", "index"];
const RANGE: &[&str] = &["count", "index"];

/// Whether a name may be an attribute that comes before an entry of this name.
pub(super) fn is_attribute(name: &str) -> bool {
    let names = [strings::NAMES, BYTES, DICT, LIST, numbers::INTEGER, numbers::FLOAT, numbers::FIELDS];
    names.iter().any(|names| names.contains(&name))
}

/// The names of a value's methods.
pub(super) fn names(value: &Value) -> &'static [&'static str] {
    match value.kind() {
        ValueKind::String => strings::NAMES,
        ValueKind::Bytes => BYTES,
        ValueKind::Bool => numbers::INTEGER,
        ValueKind::Number => {
            if value.is_integer() {
                numbers::INTEGER
            } else {
                numbers::FLOAT
            }
        }
        ValueKind::Map if is_dict(value) => DICT,
        ValueKind::Seq if value.is_tuple() => RANGE,
        ValueKind::Seq if is_list(value) => LIST,
        ValueKind::Iterable if as_range(value).is_some() => RANGE,
        _ => &[],
    }
}

/// Calls one of [`names`].
pub(super) fn call(state: &mut State, value: &Value, args: &Args) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            spend(state, text.len())?;
            strings::call(state, value, text, args)
        }
        ValueKind::Bytes => {
            let [encoding] = args.bind([super::args::optional("encoding", "utf-8")])?;
            let text = std::str::from_utf8(value.as_bytes().unwrap_or_default()).ok();
            match (text, args.text(&encoding)?.to_ascii_lowercase().as_str()) {
                (Some(text), "utf-8" | "utf8") => Ok(text.into()),
                _ => Err(args.fail("expected UTF-8")),
            }
        }
        ValueKind::Bool | ValueKind::Number => numbers::call(value, args),
        ValueKind::Map => dict(state, value, args),
        _ => list(state, value, args),
    }
}

fn dict(state: &mut State, value: &Value, args: &Args) -> Result<Value, Error> {
    spend_flat(state, value)?;
    let view = |name, pick: fn((Value, Value)) -> Value| -> Result<Value, Error> {
        args.none()?;
        let pairs = value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?)));
        let values = pairs.map(|pair| pair.map(pick)).collect::<Result<_, Error>>()?;
        Ok(Value::from_object(DictView { name, values }))
    };
    match args.of {
        "keys" => view("keys", |(key, _)| key),
        "values" => view("values", |(_, value)| value),
        "items" => view("items", |(key, value)| Tuple::from([key, value]).into()),
        "copy" => args.none().map(|()| value.clone()),
        "get" => {
            let [key, default] = args.bind([positional("key"), optional_positional("default", ())])?;
            if !is_hashable(&key) {
                return Err(args.fail(format!("{} is no key of a dictionary", key.kind())));
            }
            Ok(entry(value, &key).unwrap_or(default))
        }
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}

fn list(state: &mut State, value: &Value, args: &Args) -> Result<Value, Error> {
    spend_flat(state, value)?;
    if as_range(value).is_some() {
        args.bind([positional("value")])?;
    }
    match args.of {
        "index" => {
            let signature =
                [positional("value"), optional_positional("start", 0), optional_positional("stop", i64::MAX)];
            let [item, start, stop] = args.bind(signature)?;
            let len = value.len().unwrap_or(0) as i64;
            let place = |place: i64| if place < 0 { (place + len).max(0) } else { place };
            let (start, stop) = (place(args.integer(&start)?), place(args.integer(&stop)?));
            for (at, other) in (0..).zip(value.try_iter()?) {
                if (start..stop).contains(&at) && equal(state, &item, &other)? {
                    return Ok(at.into());
                }
            }
            Err(wrong("index: it is not in the list"))
        }
        "count" => {
            let [item] = args.bind([positional("value")])?;
            let mut count = 0;
            for other in value.try_iter()? {
                count += i64::from(equal(state, &item, &other)?);
            }
            Ok(count.into())
        }
        "copy" => args.none().map(|()| value.clone()),
        _ => Err(ErrorKind::UnknownMethod.into()),
    }
}
