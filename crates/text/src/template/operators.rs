//! Python's operators, subscripts and loops, as [`super::rewrite`] calls them, each within the budget.

use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::cmp::Ordering;

use super::budget::{spend, spend_all, spend_flat};
use super::iterators::{is_hashable, is_iterator, is_list, is_tuple};
use super::strings::escape;
use super::values::{escaped, floats, integers, order, refused, wrong};
use super::{filters, format, repr};

/// Filters that take time or memory by the number of entries at most, not by what is in them.
const SHALLOW: &[&str] = &["length", "count", "first", "last", "list", "default", "d", "items", "reverse", "safe"];

pub(super) fn install(environment: &mut Environment) {
    environment.add_filter("|", filter);
    environment.add_test("is", test);
    environment.add_filter("iter", iter);
    environment.add_filter("weighed", weighed);
    environment.add_filter("+", add);
    environment.add_filter("*", multiply);
    environment.add_filter("%", remainder);
    environment.add_filter("~", concat);
    environment.add_filter("in", contains);
    environment.add_filter("==", |state: &mut State, a: Value, b: Value| equal(state, &a, &b));
    environment.add_filter("!=", |state: &mut State, a: Value, b: Value| equal(state, &a, &b).map(|equal| !equal));
    environment.add_filter("<", |state: &mut State, a: Value, b: Value| order(state, &a, &b).map(Ordering::is_lt));
    environment.add_filter("<=", |state: &mut State, a: Value, b: Value| order(state, &a, &b).map(Ordering::is_le));
    environment.add_filter(">", |state: &mut State, a: Value, b: Value| order(state, &a, &b).map(Ordering::is_gt));
    environment.add_filter(">=", |state: &mut State, a: Value, b: Value| order(state, &a, &b).map(Ordering::is_ge));
    environment.add_filter("[]", item);
    environment.add_filter("[:]", slice);
    environment.set_formatter(|out, state, value| {
        spend_all(state, value)?;
        let escape = !matches!(state.auto_escape(), minijinja::AutoEscape::None) && !value.is_safe();
        let text = if escape { self::escape(&repr::str(value)) } else { repr::str(value) };
        spend(state, text.len())?;
        Ok(out.write_str(&text)?)
    });
}

/// Applies a filter: its value, its name, its arguments.
fn filter(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args: Vec<Value> = args.iter().map(|arg| arg.clone().into_value()).collect();
    let name = args.remove(1);
    let name = name.as_str().unwrap_or_default();
    for arg in &args {
        if SHALLOW.contains(&name) { spend_flat(state, arg)? } else { spend_all(state, arg)? }
    }
    let result = filters::apply(state, name, &args)?;
    spend_flat(state, &result)?;
    Ok(result)
}

/// Performs a test: its value, its name, its arguments.
fn test(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<bool, Error> {
    let mut args: Vec<Value> = args.iter().map(|arg| arg.clone().into_value()).collect();
    let name = args.remove(1);
    spend_flat(state, &args[0])?;
    if args.len() > 1 {
        args.iter().try_for_each(|arg| spend_all(state, arg))?;
    }
    let name = name.as_str().unwrap_or_default();
    state.perform_test(name, &args).map_err(|error| match (error.kind(), error.detail()) {
        (ErrorKind::UnknownTest, None) => Error::new(ErrorKind::UnknownTest, format!("there is no test `{name}`")),
        _ => error,
    })
}

/// What a loop goes through.
fn iter(state: &mut State, value: Value) -> Result<Value, Error> {
    spend_flat(state, &value)?;
    match value.kind() {
        ValueKind::None => Err(wrong("none is not iterable")),
        // A loop knows how long a list is.
        ValueKind::Iterable if is_iterator(&value) => Ok(value.try_iter()?.collect()),
        _ => Ok(value),
    }
}

/// What something reads that has no budget of its own: a chain of comparisons, a dictionary for its keys, a method.
fn weighed(state: &mut State, value: Value) -> Result<Value, Error> {
    spend_all(state, &value)?;
    Ok(value)
}

fn number(value: Option<i128>) -> Result<Value, Error> {
    let value = value.ok_or_else(|| wrong("an integer of more than 128 bits"))?;
    Ok(i64::try_from(value).map_or_else(|_| Value::from(value), Value::from))
}

/// A text as Python's `Markup` keeps it: safe if one of its parts was, with the others escaped.
fn markup(parts: [&Value; 2]) -> Value {
    if !parts.iter().any(|part| part.is_safe()) {
        return Value::from(parts.map(|part| part.as_str().unwrap_or_default()).concat());
    }
    Value::from_safe_string(parts.map(escaped).concat())
}

fn add(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if a.as_str().is_some() && b.as_str().is_some() {
        spend_flat(state, &a)?;
        spend_flat(state, &b)?;
        return Ok(markup([&a, &b]));
    }
    if is_list(&a) && is_list(&b) && is_tuple(&a) == is_tuple(&b) {
        spend_flat(state, &a)?;
        spend_flat(state, &b)?;
        let items: Vec<Value> = a.try_iter()?.chain(b.try_iter()?).collect();
        return Ok(list_like(&a, items));
    }
    match (integers(&a, &b), floats(&a, &b)) {
        (Some((a, b)), _) => number(a.checked_add(b)),
        (_, Some((a, b))) => Ok((a + b).into()),
        _ => Err(refused("+", &a, &b)),
    }
}

fn multiply(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if let Some((a, b)) = integers(&a, &b) {
        return number(a.checked_mul(b));
    }
    if let Some((a, b)) = floats(&a, &b) {
        return Ok((a * b).into());
    }
    let (many, count) = if a.is_integer() || a.kind() == ValueKind::Bool { (&b, &a) } else { (&a, &b) };
    let Some((count, _)) = integers(count, count) else { return Err(refused("*", &a, &b)) };
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    let text = many.as_str();
    if text.is_none() && !is_list(many) {
        return Err(refused("*", &a, &b));
    }
    let len = text.map_or_else(|| (many.len().unwrap_or(0) + 1) * 32, str::len);
    spend(state, len.saturating_mul(count))?;
    if let Some(text) = text {
        let text = text.repeat(count);
        return Ok(if many.is_safe() { Value::from_safe_string(text) } else { text.into() });
    }
    let items: Vec<Value> = many.try_iter()?.collect();
    Ok(list_like(many, items.iter().cycle().take(items.len() * count).cloned().collect()))
}

fn list_like(list: &Value, items: Vec<Value>) -> Value {
    if is_tuple(list) { Value::from(Tuple::from(items)) } else { Value::from(items) }
}

/// The remainder of a division, or a text with its `%` directives filled in.
fn remainder(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if a.as_str().is_some() {
        spend_all(state, &b)?;
        let args: Vec<Value> = if is_tuple(&b) { b.try_iter()?.collect() } else { vec![b] };
        return format::percent(state, &a, &args);
    }
    match (integers(&a, &b), floats(&a, &b)) {
        (Some((_, 0)), _) => Err(wrong("division by zero")),
        (Some((a, b)), _) => number(
            a.checked_rem(b)
                .and_then(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest.checked_add(b) } else { Some(rest) }),
        ),
        (_, Some((_, 0.0))) => Err(wrong("division by zero")),
        (_, Some((a, b))) => {
            let rest = a % b;
            let rest = if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest };
            Ok((if rest == 0.0 { rest.copysign(b) } else { rest }).into())
        }
        _ => Err(refused("%", &a, &b)),
    }
}

fn concat(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    spend_all(state, &a)?;
    spend_all(state, &b)?;
    Ok(Value::from(repr::str(&a) + &repr::str(&b)))
}

/// `item in container`.
fn contains(state: &mut State, item: Value, container: Value) -> Result<bool, Error> {
    spend_all(state, &item)?;
    if let Some(text) = container.as_str() {
        spend_flat(state, &container)?;
        return match item.as_str() {
            Some(part) => Ok(text.contains(part)),
            None => Err(refused("in", &item, &container)),
        };
    }
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::Map if !is_hashable(&item) => Err(refused("in", &item, &container)),
        ValueKind::Map => Ok(container.as_object().is_some_and(|map| map.get_value(&item).is_some())),
        ValueKind::Seq | ValueKind::Iterable => {
            for other in container.try_iter()? {
                if equal(state, &item, &other)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(refused("in", &item, &container)),
    }
}

fn equal(state: &mut State, a: &Value, b: &Value) -> Result<bool, Error> {
    spend_all(state, a)?;
    spend_all(state, b)?;
    Ok(a == b && !is_iterator(a) && !is_iterator(b))
}

/// `value[key]`, undefined where there is none.
fn item(state: &mut State, value: Value, key: Value) -> Result<Value, Error> {
    if is_iterator(&value) {
        return Ok(Value::UNDEFINED);
    }
    spend_all(state, &key)?;
    if value.kind() == ValueKind::Iterable || value.as_str().is_some() {
        spend_flat(state, &value)?;
    }
    let key = match (key.kind(), value.kind()) {
        (ValueKind::Bool, ValueKind::Seq | ValueKind::Iterable | ValueKind::String) => {
            Value::from(u8::from(key.is_true()))
        }
        (ValueKind::Number, ValueKind::Seq | ValueKind::Iterable | ValueKind::String) if !key.is_integer() => {
            return Ok(Value::UNDEFINED);
        }
        _ => key,
    };
    value.get_item(&key)
}

/// `value[start:stop:step]` of a text, a list or a tuple.
fn slice(state: &mut State, value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    spend(state, value.as_str().map_or(0, |text| text.len() * size_of::<char>()))?;
    spend_flat(state, &value)?;
    let chars: Vec<char>;
    let items: Vec<Value>;
    let len = match value.as_str() {
        Some(text) => {
            (chars, items) = (text.chars().collect(), Vec::new());
            chars.len()
        }
        None if is_list(&value) || is_range(&value) => {
            (chars, items) = (Vec::new(), value.try_iter()?.collect());
            items.len()
        }
        None => return Err(wrong(format!("{} cannot be sliced", value.kind()))),
    };
    let picked = picks(len, bound(&start)?, bound(&stop)?, bound(&step)?)?;
    if value.as_str().is_some() {
        let text: String = picked.into_iter().map(|i| chars[i]).collect();
        return Ok(if value.is_safe() { Value::from_safe_string(text) } else { text.into() });
    }
    Ok(list_like(&value, picked.into_iter().map(|i| items[i].clone()).collect()))
}

/// A range, which the engine counts out and Python can slice.
fn is_range(value: &Value) -> bool {
    value.kind() == ValueKind::Iterable && !is_iterator(value)
}

fn bound(value: &Value) -> Result<Option<i64>, Error> {
    match integers(value, value) {
        Some((n, _)) => Ok(Some(n.clamp(i64::MIN.into(), i64::MAX.into()) as i64)),
        None if value.is_none() => Ok(None),
        None => Err(wrong(format!("slices go by integers, found {}", value.kind()))),
    }
}

/// The places that `[start:stop:step]` takes of `len`.
fn picks(len: usize, start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Result<Vec<usize>, Error> {
    let step = step.unwrap_or(1);
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: i64| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high);
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    let (start, stop) = (start.map_or(first, place), stop.map_or(last, place));
    let count = match step {
        0 => return Err(wrong("a slice cannot have step 0")),
        1.. => (stop - start).max(0).unsigned_abs().div_ceil(step.unsigned_abs()),
        _ => (start - stop).max(0).unsigned_abs().div_ceil(step.unsigned_abs()),
    };
    Ok((0..count as i64).filter_map(|i| usize::try_from(start + i * step).ok()).collect())
}
