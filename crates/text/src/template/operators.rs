//! Python's operators, subscripts and loops, as [`super::parser`] calls them, each within the budget.

use minijinja::value::{Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use std::cmp::Ordering;

use super::args::Args;
use super::attributes::{self, as_range, dotted, is_dict, item};
use super::budget::{spend, spend_all, spend_flat};
use super::iterators::{is_hashable, is_iterator, is_list, is_tuple};
use super::strings::{escape, text_like};
use super::values::{escaped, floats, integers, iterate, order, refused, wrong};
use super::{filters, format, numbers, repr, tests};

/// Filters that take time or memory by the number of entries at most, not by what is in them.
const SHALLOW: &[&str] = &["length", "count", "first", "last", "list", "default", "d", "items", "reverse", "safe"];

pub(super) fn install(environment: &mut Environment) {
    environment.add_filter("|", filter);
    environment.add_test("is", test);
    environment.add_filter("iter", iter);
    environment.add_filter("weighed", weighed);
    environment.add_filter("key", key);
    environment.add_filter("unpack", |state: &mut State, value: Value| iterate(state, &value));
    environment.add_filter("bool", |value: Value| value.is_true());
    environment.add_filter("+", add);
    environment.add_filter("*", multiply);
    environment.add_filter("%", remainder);
    environment.add_filter("-", |a: Value, b: Value| numbers::subtract(&a, &b));
    environment.add_filter("/", |a: Value, b: Value| numbers::divide(&a, &b));
    environment.add_filter("//", |a: Value, b: Value| numbers::floor_divide(&a, &b));
    environment.add_filter("**", |a: Value, b: Value| numbers::power(&a, &b));
    environment.add_filter("-x", |a: Value| numbers::negate(&a));
    environment.add_filter("+x", |a: Value| numbers::plus(&a));
    environment.add_filter("~", concat);
    environment.add_filter("in", |state: &mut State, a: Value, b: Value| contains(state, &a, &b));
    environment.add_filter("==", |state: &mut State, a: Value, b: Value| equal(state, &a, &b));
    environment.add_filter("!=", |state: &mut State, a: Value, b: Value| equal(state, &a, &b).map(|equal| !equal));
    for name in ["<", "<=", ">", ">="] {
        environment.add_filter(name, |state: &mut State, a: Value, b: Value| compare(state, name, &a, &b));
    }
    environment.add_filter("[]", |state: &mut State, value: Value, key: Value| item(state, &value, &key));
    environment.add_filter("[:]", slice);
    environment.add_filter(".", |value: Value, name: &str| dotted(&value, name));
    environment.add_filter("()", |state: &mut State, args: Rest<ValueOrKwargs>| {
        let mut args = args.into_values();
        let (value, name) = (args.remove(0), args.remove(0));
        attributes::call(state, &value, name.as_str().unwrap_or_default(), &args)
    });
    environment.set_formatter(|out, state, value| {
        spend_all(state, value)?;
        let escape = !matches!(state.auto_escape(), AutoEscape::None) && !value.is_safe();
        let text = if escape { self::escape(&repr::str(value)) } else { repr::str(value) };
        spend(state, text.len())?;
        Ok(out.write_str(&text)?)
    });
}

/// Applies a filter: its value, its name, its arguments.
fn filter(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut args = args.into_values();
    let name = args.remove(1);
    apply(state, name.as_str().unwrap_or_default(), &args)
}

/// Applies the filter `name` to the first of `args`.
pub(super) fn apply(state: &mut State, name: &str, args: &[Value]) -> Result<Value, Error> {
    for arg in args {
        if SHALLOW.contains(&name) { spend_flat(state, arg)? } else { spend_all(state, arg)? }
    }
    let filter = filters::find(name)
        .ok_or_else(|| Error::new(ErrorKind::UnknownFilter, format!("there is no filter `{name}`")))?;
    let result = filter(state, &Args::new(name, args)?)?;
    spend_flat(state, &result)?;
    Ok(result)
}

/// Performs a test: its value, its name, its arguments.
fn test(state: &mut State, args: Rest<ValueOrKwargs>) -> Result<bool, Error> {
    let mut args = args.into_values();
    let name = args.remove(1);
    perform(state, name.as_str().unwrap_or_default(), &args)
}

/// Performs the test `name` of the first of `args`.
pub(super) fn perform(state: &mut State, name: &str, args: &[Value]) -> Result<bool, Error> {
    let test =
        tests::find(name).ok_or_else(|| Error::new(ErrorKind::UnknownTest, format!("there is no test `{name}`")))?;
    if let Some(value) = args.first() {
        spend_flat(state, value)?;
    }
    if args.len() > 1 {
        args.iter().try_for_each(|arg| spend_all(state, arg))?;
    }
    test(state, &Args::new(name, args)?)
}

/// What a loop goes through.
fn iter(state: &mut State, value: Value) -> Result<Value, Error> {
    spend_flat(state, &value)?;
    match value.kind() {
        ValueKind::None => Err(wrong("none is not iterable")),
        ValueKind::String => iterate(state, &value).map(Value::from),
        ValueKind::Map if !is_dict(&value) => Err(wrong("a namespace is not iterable")),
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

/// A key of a dictionary.
fn key(state: &mut State, value: Value) -> Result<Value, Error> {
    spend_all(state, &value)?;
    if is_hashable(&value) { Ok(value) } else { Err(wrong(format!("{} is no key of a dictionary", value.kind()))) }
}

/// A text as Python's `Markup` keeps it: safe if one of its parts was, with the others escaped.
fn markup(parts: [&Value; 2]) -> Value {
    if !parts.iter().any(|part| part.is_safe()) {
        return Value::from(parts.map(|part| part.as_str().unwrap_or_default()).concat());
    }
    Value::from_safe_string(parts.map(escaped).concat())
}

pub(super) fn add(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
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
    numbers::add(&a, &b)
}

fn multiply(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if floats(&a, &b).is_some() {
        return numbers::multiply(&a, &b);
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

pub(super) fn list_like(list: &Value, items: Vec<Value>) -> Value {
    if is_tuple(list) { Value::from(Tuple::from(items)) } else { Value::from(items) }
}

/// The remainder of a division, or a text with its `%` directives filled in.
pub(super) fn remainder(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    if a.as_str().is_some() {
        spend_all(state, &b)?;
        if is_tuple(&b) {
            let args: Vec<Value> = b.try_iter()?.collect();
            return format::percent(state, &a, &args, None);
        }
        let of_keys = is_list(&b) || is_dict(&b) || b.is_undefined();
        return format::percent(state, &a, std::slice::from_ref(&b), Some(&b).filter(|_| of_keys));
    }
    numbers::remainder(&a, &b)
}

fn concat(state: &mut State, a: Value, b: Value) -> Result<Value, Error> {
    spend_all(state, &a)?;
    spend_all(state, &b)?;
    if matches!(state.auto_escape(), AutoEscape::None) || !a.is_safe() && !b.is_safe() {
        return Ok(Value::from(repr::str(&a) + &repr::str(&b)));
    }
    Ok(Value::from_safe_string(escaped(&a) + &escaped(&b)))
}

/// `item in container`.
pub(super) fn contains(state: &mut State, item: &Value, container: &Value) -> Result<bool, Error> {
    spend_all(state, item)?;
    if let Some(text) = container.as_str() {
        spend_flat(state, container)?;
        return match item.as_str() {
            Some(part) => Ok(text.contains(part)),
            None => Err(refused("in", item, container)),
        };
    }
    match container.kind() {
        ValueKind::Undefined => Ok(false),
        ValueKind::Map if !is_dict(container) || !is_hashable(item) => Err(refused("in", item, container)),
        ValueKind::Map => Ok(attributes::entry(container, item).is_some()),
        ValueKind::Seq | ValueKind::Iterable => {
            for other in container.try_iter()? {
                if equal(state, item, &other)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        _ => Err(refused("in", item, container)),
    }
}

pub(super) fn equal(state: &mut State, a: &Value, b: &Value) -> Result<bool, Error> {
    spend_all(state, a)?;
    spend_all(state, b)?;
    let ranges = as_range(a).is_some() as u8 + as_range(b).is_some() as u8;
    Ok(a == b && ranges != 1 && !is_iterator(a) && !is_iterator(b))
}

/// One of the operators `<`, `<=`, `>`, `>=`.
pub(super) fn compare(state: &mut State, operator: &str, a: &Value, b: &Value) -> Result<bool, Error> {
    let order = order(state, a, b)?;
    Ok(order.is_some_and(match operator {
        "<" => Ordering::is_lt,
        "<=" => Ordering::is_le,
        ">" => Ordering::is_gt,
        _ => Ordering::is_ge,
    }))
}

/// `value[start:stop:step]` of a text, a list, a tuple or a range.
fn slice(state: &mut State, value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    spend(state, value.as_str().map_or(0, |text| text.len() * size_of::<char>()))?;
    spend_flat(state, &value)?;
    let bounds = |len| bounds(len, bound(&start)?, bound(&stop)?, bound(&step)?);
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        return Ok(text_like(&value, places(bounds(chars.len())?).map(|i| chars[i]).collect()));
    }
    if let Some(range) = as_range(&value) {
        return Ok(Value::from_object(range.slice(bounds(range.len)?)?));
    }
    if !is_list(&value) {
        return Err(wrong(format!("{} cannot be sliced", value.kind())));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    Ok(list_like(&value, places(bounds(items.len())?).map(|i| items[i].clone()).collect()))
}

fn bound(value: &Value) -> Result<Option<i64>, Error> {
    match integers(value, value) {
        Some((n, _)) => Ok(Some(n.clamp(i64::MIN.into(), i64::MAX.into()) as i64)),
        None if value.is_none() => Ok(None),
        None => Err(wrong(format!("slices go by integers, found {}", value.kind()))),
    }
}

/// The first place, the end and the step of `[start:stop:step]`, within `len`.
fn bounds(len: usize, start: Option<i64>, stop: Option<i64>, step: Option<i64>) -> Result<[i64; 3], Error> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(wrong("a slice cannot have step 0"));
    }
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let (low, high) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let place = |bound: i64| (if bound < 0 { bound.saturating_add(len) } else { bound }).clamp(low, high);
    let (first, last) = if step > 0 { (low, high) } else { (high, low) };
    Ok([start.map_or(first, place), stop.map_or(last, place), step])
}

fn places([start, stop, step]: [i64; 3]) -> impl Iterator<Item = usize> {
    let distance = if step > 0 { stop - start } else { start - stop };
    let count = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs());
    (0..count as i64).filter_map(move |i| usize::try_from(start + i * step).ok())
}
