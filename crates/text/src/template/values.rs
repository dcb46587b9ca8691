//! Python's conversions and comparisons of values.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use std::cmp::Ordering;

use super::attributes::is_dict;
use super::budget::{ENTRY, spend, spend_all};
use super::iterators::{is_list, is_tuple};
use super::repr;
use super::strings::escape;

/// The counterpart of Python's `TypeError`.
pub(super) fn wrong(problem: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.to_string())
}

pub(super) fn refused(op: &str, a: &Value, b: &Value) -> Error {
    wrong(format!("{} {op} {}: not defined for these types", a.kind(), b.kind()))
}

/// Digits without the underscores that Python allows between them.
pub(super) fn plain(digits: &str) -> Option<String> {
    let wrong = digits.starts_with('_') || digits.ends_with('_') || digits.contains("__");
    (!wrong).then(|| digits.replace('_', ""))
}

/// Python's `float(value)`, where it gives one.
pub(super) fn number(value: &Value) -> Result<Option<f64>, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(wrong("an undefined value is not a number")),
        ValueKind::Bool => Ok(Some(value.is_true().into())),
        ValueKind::String => Ok(value.as_str().and_then(|text| plain(text.trim())?.parse().ok())),
        _ => Ok(f64::try_from(value.clone()).ok()),
    }
}

/// The text of a value, escaped unless it is marked as safe.
pub(super) fn escaped(value: &Value) -> String {
    let text = repr::str(value);
    if value.is_safe() { text } else { escape(&text) }
}

/// The items of `value`. Unlike in the engine, `none` is an error.
pub(super) fn iterate(state: &mut State, value: &Value) -> Result<Vec<Value>, Error> {
    spend(state, value.as_str().map_or(0, |text| text.len() * ENTRY))?;
    let known = is_dict(value) || !matches!(value.kind(), ValueKind::None | ValueKind::Map);
    if !known {
        return Err(wrong("expected something to iterate over, found none or a namespace"));
    }
    Ok(value.try_iter()?.collect())
}

pub(super) fn integers(a: &Value, b: &Value) -> Option<(i128, i128)> {
    let whole = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(value.is_true().into()),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    };
    Some((whole(a)?, whole(b)?))
}

pub(super) fn floats(a: &Value, b: &Value) -> Option<(f64, f64)> {
    let float = |value: &Value| match value.kind() {
        ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok().or(i128::try_from(value.clone()).ok().map(|n| n as f64)),
        _ => None,
    };
    Some((float(a)?, float(b)?))
}

/// Compares two values of types that have an order. NaN has none.
pub(super) fn order(state: &mut State, a: &Value, b: &Value) -> Result<Option<Ordering>, Error> {
    spend_all(state, a)?;
    spend_all(state, b)?;
    match (integers(a, b), floats(a, b), a.as_str(), b.as_str()) {
        (Some((a, b)), ..) => Ok(Some(a.cmp(&b))),
        (_, Some((a, b)), ..) => Ok(a.partial_cmp(&b)),
        (.., Some(a), Some(b)) => Ok(Some(a.cmp(b))),
        _ if is_list(a) && is_list(b) && is_tuple(a) == is_tuple(b) => {
            let differ = a.try_iter()?.zip(b.try_iter()?).find(|(a, b)| a != b);
            differ.map_or(Ok(Some(a.len().cmp(&b.len()))), |(a, b)| order(state, &a, &b))
        }
        _ => Err(refused("<", a, b)),
    }
}
