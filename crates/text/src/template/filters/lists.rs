//! Filters over lists.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{AutoEscape, Error, State, Value};

use super::super::args::{Args, optional, required};
use super::super::attributes::is_dict;
use super::super::budget::{ENTRY, spend, spend_all};
use super::super::iterators::Generator;
use super::super::operators::add;
use super::super::repr;
use super::super::strings::text_like;
use super::super::values::{escaped, iterate};
use super::LONGEST;
use super::map::{follow, path};

fn is_generator(value: &Value) -> bool {
    value.downcast_object_ref::<Generator>().is_some()
}

/// A length or a number of lists.
fn count(args: &Args, value: &Value) -> Result<i64, Error> {
    let count = args.integer(value)?;
    if count > LONGEST { Err(args.fail(format!("expected at most {LONGEST}, found {count}"))) } else { Ok(count) }
}

pub(super) fn batch(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, most, fill] = args.bind([required("value"), required("linecount"), optional("fill_with", ())])?;
    let most = count(args, &most)?;
    let (mut batches, mut batch) = (Vec::new(), Vec::new());
    for item in iterate(state, &value)? {
        if batch.len() as i64 == most {
            batches.push(Value::from(std::mem::take(&mut batch)));
        }
        batch.push(item);
    }
    if !batch.is_empty() {
        let missing = usize::try_from(most).unwrap_or(0).saturating_sub(batch.len());
        if !fill.is_none() {
            spend(state, missing.saturating_mul(ENTRY))?;
            batch.extend(std::iter::repeat_n(fill, missing));
        }
        batches.push(batch.into());
    }
    Ok(Generator::of(batches))
}

pub(super) fn slice(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, slices, fill] = args.bind([required("value"), required("slices"), optional("fill_with", ())])?;
    let items = iterate(state, &value)?;
    let Ok(slices) = usize::try_from(count(args, &slices)?) else { return Ok(Generator::of([])) };
    if slices == 0 {
        return Err(args.fail("expected another number of slices than 0"));
    }
    spend(state, slices.saturating_mul(ENTRY))?;
    let (each, larger) = (items.len() / slices, items.len() % slices);
    let mut rest = items.into_iter();
    let slices = (0..slices).map(|i| {
        let mut slice: Vec<Value> = rest.by_ref().take(each + usize::from(i < larger)).collect();
        if !fill.is_none() && i >= larger {
            slice.push(fill.clone());
        }
        Value::from(slice)
    });
    Ok(Generator::of(slices.collect::<Vec<_>>()))
}

pub(super) fn first(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("seq")])?;
    if is_generator(&value) {
        return Ok(value.try_iter()?.next().unwrap_or_default());
    }
    Ok(iterate(state, &value)?.into_iter().next().unwrap_or_default())
}

pub(super) fn last(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("seq")])?;
    if is_generator(&value) {
        return Err(args.fail("a generator has no end"));
    }
    Ok(iterate(state, &value)?.pop().unwrap_or_default())
}

pub(super) fn length(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("obj")])?;
    let known = is_dict(&value) || value.kind() != ValueKind::Map;
    match value.len().filter(|_| known && !is_generator(&value)) {
        Some(len) => Ok(len.into()),
        None if value.is_undefined() => Ok(0.into()),
        None => Err(args.fail(format!("{} has no length", value.kind()))),
    }
}

pub(super) fn list(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("value")])?;
    Ok(iterate(state, &value)?.into())
}

pub(super) fn items(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("value")])?;
    if value.is_undefined() {
        return Ok(Generator::of([]));
    }
    if !is_dict(&value) {
        return Err(args.fail(format!("expected a dictionary, found {}", value.kind())));
    }
    let pairs = value.try_iter()?.map(|key| Ok(Tuple::from([key.clone(), value.get_item(&key)?]).into()));
    Ok(Generator::of(pairs.collect::<Result<Vec<Value>, Error>>()?))
}

pub(super) fn random(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("seq")])?;
    match iterate(state, &value)?.as_slice() {
        [] => Ok(Value::UNDEFINED),
        [item] => Ok(item.clone()),
        items => Err(args.fail(format!("expected one item, found {}: a chat has one prompt", items.len()))),
    }
}

pub(super) fn reverse(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("value")])?;
    if let Some(text) = value.as_str() {
        return Ok(text_like(&value, text.chars().rev().collect()));
    }
    let mut items = iterate(state, &value)?;
    items.reverse();
    Ok(if is_generator(&value) { items.into() } else { Generator::of(items) })
}

pub(super) fn sum(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, attribute, start] =
        args.bind([required("iterable"), optional("attribute", ()), optional("start", 0)])?;
    if start.as_str().is_some() {
        return Err(args.fail("strings are joined, not added"));
    }
    let (path, mut sum) = (path(&attribute), start);
    for item in iterate(state, &value)? {
        let item = follow(state, &item, &path, &().into())?;
        sum = add(state, sum, item)?;
    }
    Ok(sum)
}

pub(super) fn join(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, by, attribute] = args.bind([required("value"), optional("d", ""), optional("attribute", ())])?;
    let (path, mut items) = (path(&attribute), Vec::new());
    for item in iterate(state, &value)? {
        items.push(follow(state, &item, &path, &().into())?);
    }
    let safe = by.is_safe() || items.iter().any(Value::is_safe);
    if matches!(state.auto_escape(), AutoEscape::None) || !safe {
        return joined(state, &repr::str(&by), &items).map(Value::from);
    }
    let items: Vec<Value> = items.iter().map(|item| escaped(item).into()).collect();
    joined(state, &escaped(&by), &items).map(Value::from_safe_string)
}

/// Python's `by.join(map(str, items))`.
pub(in super::super) fn joined(state: &mut State, by: &str, items: &[Value]) -> Result<String, Error> {
    items.iter().try_for_each(|item| spend_all(state, item))?;
    spend(state, by.len().saturating_mul(items.len()))?;
    let items: Vec<String> = items.iter().map(repr::str).collect();
    Ok(items.join(by))
}
