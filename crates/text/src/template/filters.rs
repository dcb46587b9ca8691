//! Filters as Jinja in Python has them, where the engine's differ or build more than they are given.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::budget::{ENTRY, spend, spend_all};
use super::iterators::{Generator, GroupTuple, is_hashable};
use super::strings::{escape, splitlines};
use super::values::{escaped, given, iterate, number, order, plain, wrong};
use super::{format, json, pprint, repr, texts, wrap};

/// Filters that give a generator in Python.
const GENERATORS: &[&str] =
    &["map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items"];

/// Filters that go through their value.
const ITERATING: &[&str] =
    &["list", "first", "last", "length", "count", "sort", "sum", "min", "max", "reverse", "groupby"];

/// Filters of the engine that Jinja does not have.
const FOREIGN: &[&str] = &["split", "lines", "bool", "chain", "zip"];

/// Filters over texts; other values are written as texts first.
const TEXTUAL: &[&str] = &["upper", "lower", "capitalize", "title", "trim", "safe"];

/// The largest number that a filter takes for a length.
const LONGEST: i64 = 100_000;

pub(super) fn install(environment: &mut Environment) {
    FOREIGN.iter().for_each(|name| environment.remove_filter(name));
    environment.add_filter("tojson", json::tojson);
    for name in ["e", "escape"] {
        environment.add_filter(name, |value: Value| Value::from_safe_string(escaped(&value)));
    }
    environment.add_filter("forceescape", |value: Value| Value::from_safe_string(escape(&repr::str(&value))));
    environment
        .add_filter("string", |value: Value| if value.as_str().is_some() { value } else { repr::str(&value).into() });
    environment.add_filter("int", int);
    environment.add_filter("float", |value: Value, default: Option<Value>| match number(&value)? {
        Some(number) => Ok::<Value, Error>(number.into()),
        None => Ok(default.unwrap_or(Value::from(0.0))),
    });
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter("indent", indent);
    environment.add_filter("format", |state: &mut State, value: Value, args: Rest<Value>| {
        format::percent(state, &Value::from(repr::str(&value)), &args)
    });
    environment.add_filter("pprint", pprint::pprint);
    environment.add_filter("wordwrap", wrap::wordwrap);
    texts::install(environment);
}

/// Applies the filter `name` to the first of `args`.
pub(super) fn apply(state: &mut State, name: &str, args: &[Value]) -> Result<Value, Error> {
    let mut args = args.to_vec();
    let value = args.first().cloned().unwrap_or_default();
    let generator = GENERATORS.contains(&name);
    if generator || ITERATING.contains(&name) {
        spend(state, value.as_str().map_or(0, |text| text.len() * ENTRY))?;
    }
    let empty = if name == "items" { value.is_undefined() } else { !value.is_true() };
    if generator && empty && !matches!(name, "batch" | "slice" | "unique") {
        return Ok(Generator::of([]));
    }
    match (name, value.kind()) {
        ("length" | "count", ValueKind::Undefined) => return Ok(0.into()),
        ("first" | "last", ValueKind::Undefined) => return Ok(Value::UNDEFINED),
        ("last" | "reverse", ValueKind::Map) => args[0] = value.try_iter()?.collect(),
        (_, ValueKind::None) if generator || ITERATING.contains(&name) => {
            return Err(wrong(format!("{name}: none is not iterable")));
        }
        (_, kind) if TEXTUAL.contains(&name) && kind != ValueKind::String => args[0] = repr::str(&value).into(),
        ("sort" | "min" | "max", _) if args.len() == 1 => {
            let items: Vec<Value> = value.try_iter()?.collect();
            items.windows(2).try_for_each(|pair| order(state, &pair[0], &pair[1]).map(drop))?;
            args[0] = Value::from(items);
        }
        ("unique", _) => {
            let items: Vec<Value> = value.try_iter()?.collect();
            if !items.iter().all(is_hashable) {
                return Err(wrong("unique: lists and dictionaries have no hash"));
            }
            args[0] = Value::from(items);
        }
        ("groupby", _) if args.get(1).is_some_and(Value::is_integer) => args[1] = repr::str(&args[1]).into(),
        _ => {}
    }
    if matches!(name, "last" | "reverse") && value.downcast_object_ref::<Generator>().is_some() {
        return Err(wrong(format!("{name}: a generator has no end")));
    }
    if matches!(name, "batch" | "slice") && args.iter().any(|arg| arg.as_i64().is_some_and(|n| n > LONGEST)) {
        return Err(wrong(format!("{name}: expected at most {LONGEST}")));
    }
    let result = state.apply_filter(name, &args).map_err(|error| match (error.kind(), error.detail()) {
        (ErrorKind::UnknownFilter, None) => {
            Error::new(ErrorKind::UnknownFilter, format!("there is no filter `{name}`"))
        }
        _ => error,
    })?;
    match result.kind() {
        _ if name == "groupby" => {
            let by = args.get(1).cloned().unwrap_or_default();
            let path = if by.as_str().is_some() { by } else { by.get_attr("attribute")? };
            groups(state, &result, path.as_str().unwrap_or_default())
        }
        ValueKind::Seq | ValueKind::Iterable if generator || name == "reverse" => Ok(Generator::of(result.try_iter()?)),
        _ => Ok(result),
    }
}

/// Groups of the engine by what `path` leads to, as tuples, where Python could have sorted their keys.
fn groups(state: &mut State, found: &Value, path: &str) -> Result<Value, Error> {
    let (mut groups, mut last) = (Vec::new(), None);
    for group in found.try_iter()? {
        let key = group.get_item_by_index(0)?;
        let items: Vec<Value> = group.get_item_by_index(1)?.try_iter()?.collect();
        let next = (items.len() > 1).then(|| key.clone());
        for other in last.iter().chain(&next) {
            order(state, other, &key)?;
        }
        last = Some(key.clone());
        // Where upper and lower case are one, the first has its own.
        let own = items.first().map_or(Ok(Value::UNDEFINED), |item| attribute(item, path))?;
        let key = if own.is_undefined() { key } else { own };
        spend(state, (items.len() + 1) * ENTRY)?;
        groups.push(Value::from_object(GroupTuple { key, items: items.into() }));
    }
    Ok(groups.into())
}

fn int(value: Value, args: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [default, base] = given(["default", "base"], &args, &options)?;
    let base = base.map_or(Ok(10), u32::try_from)?;
    let whole = value.as_str().and_then(|text| integer(text, base));
    if whole.is_some() || value.is_integer() {
        return Ok(whole.map_or(value, Value::from));
    }
    let number = number(&value)?.filter(|number| number.is_finite());
    Ok(number.map_or(default.unwrap_or(Value::from(0)), |number| Value::from(number as i128)))
}

/// Python's `int(text, base)`, where it gives one of 128 bits.
fn integer(text: &str, base: u32) -> Option<i128> {
    let text = text.trim().to_lowercase();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    let sign = if text.starts_with('-') { "-" } else { "" };
    let prefixed = [("0x", 16), ("0o", 8), ("0b", 2)].into_iter().find_map(|(prefix, of)| {
        let digits = digits.strip_prefix(prefix).filter(|_| base == 0 || base == of)?;
        Some((digits.strip_prefix('_').unwrap_or(digits), of))
    });
    let zeros = digits.trim_start_matches(['0', '_']).is_empty();
    let (digits, base) = match prefixed {
        Some(found) => found,
        None if base == 0 && digits.starts_with('0') && !zeros => return None,
        None if base == 0 => (digits, 10),
        None => (digits, base),
    };
    if digits.starts_with(['+', '-']) || !(2..=36).contains(&base) {
        return None;
    }
    i128::from_str_radix(&format!("{sign}{}", plain(digits)?), base).ok()
}

fn replace(state: &mut State, text: Value, old: Value, new: Value, count: Option<i64>) -> Result<String, Error> {
    let [text, old, new] = [text, old, new].map(|value| repr::str(&value));
    replaced(state, &text, &old, &new, count)
}

/// Python's `text.replace(old, new, count)`.
pub(super) fn replaced(
    state: &mut State,
    text: &str,
    old: &str,
    new: &str,
    count: Option<i64>,
) -> Result<String, Error> {
    let count = count.and_then(|count| usize::try_from(count).ok()).unwrap_or(usize::MAX);
    spend(state, text.matches(old).count().min(count).saturating_mul(new.len()))?;
    Ok(text.replacen(old, new, count))
}

fn join(
    state: &mut State,
    value: Value,
    by: Option<Value>,
    attribute: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let by = by.or(options.get("d")?).map_or(String::new(), |by| repr::str(&by));
    let attribute: Option<Value> = attribute.or(options.get("attribute")?);
    options.assert_all_used()?;
    let mut items = Vec::new();
    for item in iterate(state, &value)? {
        items.push(self::attribute(&item, &attribute.as_ref().map(repr::str).unwrap_or_default())?);
    }
    joined(state, &by, &items)
}

/// What a path such as `a.0.b` leads to.
fn attribute(item: &Value, path: &str) -> Result<Value, Error> {
    let mut item = item.clone();
    for key in path.split('.').filter(|key| !key.is_empty()) {
        item = item.get_item(&key.parse::<usize>().map_or_else(|_| Value::from(key), Value::from))?;
    }
    Ok(item)
}

/// Python's `by.join(map(str, items))`.
pub(super) fn joined(state: &mut State, by: &str, items: &[Value]) -> Result<String, Error> {
    items.iter().try_for_each(|item| spend_all(state, item))?;
    spend(state, by.len().saturating_mul(items.len()))?;
    let items: Vec<String> = items.iter().map(repr::str).collect();
    Ok(items.join(by))
}

fn indent(state: &mut State, value: Value, args: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [width, first, blank] = given(["width", "first", "blank"], &args, &options)?;
    let [first, blank] = [first, blank].map(|flag| flag.is_some_and(|flag| flag.is_true()));
    let width = width.unwrap_or(Value::from(4));
    let by = match width.as_str() {
        Some(by) => by.to_owned(),
        None => " ".repeat(i64::try_from(width)?.clamp(0, LONGEST) as usize),
    };
    let text = value.as_str().ok_or_else(|| wrong("indent: expected a text"))?.to_owned() + "\n";
    let lines = splitlines(&text, false);
    spend(state, lines.len().saturating_mul(by.len()))?;
    let mut indented = String::new();
    for (i, line) in lines.iter().enumerate() {
        indented.push_str(if i > 0 { "\n" } else { "" });
        if if i > 0 { blank || !line.is_empty() } else { first } {
            indented.push_str(&by);
        }
        indented.push_str(line);
    }
    Ok(indented)
}
