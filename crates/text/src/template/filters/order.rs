//! Filters that sort and compare.

use minijinja::value::Tuple;
use minijinja::{Error, State, Value};
use std::collections::HashSet;

use super::super::args::{Args, optional, required};
use super::super::attributes::is_dict;
use super::super::budget::{ENTRY, spend, spend_all};
use super::super::iterators::{Generator, GroupTuple, is_hashable};
use super::super::operators::{compare, equal};
use super::super::values::iterate;
use super::map::{follow, path};

/// A value as it is compared: strings in lower case, unless case matters.
fn folded(value: Value, case_sensitive: bool) -> Value {
    match value.as_str() {
        Some(text) if !case_sensitive => text.to_lowercase().into(),
        _ => value,
    }
}

/// Sorts by keys as Python does: stable, and with an error where two have no order.
fn sorted<T>(state: &mut State, items: Vec<(Value, T)>, reverse: bool) -> Result<Vec<(Value, T)>, Error> {
    let mut runs: Vec<Vec<(Value, T)>> = items.into_iter().map(|item| vec![item]).collect();
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(first) = pairs.next() {
            merged.push(merge(state, first, pairs.next().unwrap_or_default(), reverse)?);
        }
        runs = merged;
    }
    Ok(runs.pop().unwrap_or_default())
}

fn merge<T>(
    state: &mut State,
    a: Vec<(Value, T)>,
    b: Vec<(Value, T)>,
    reverse: bool,
) -> Result<Vec<(Value, T)>, Error> {
    let mut merged = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    while let (Some(first), Some(second)) = (a.peek(), b.peek()) {
        let second_first =
            if reverse { compare(state, "<", &first.0, &second.0) } else { compare(state, "<", &second.0, &first.0) };
        merged.extend(if second_first? { b.next() } else { a.next() });
    }
    merged.extend(a);
    merged.extend(b);
    Ok(merged)
}

pub(super) fn sort(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, reverse, case_sensitive, attribute] = args.bind([
        required("value"),
        optional("reverse", false),
        optional("case_sensitive", false),
        optional("attribute", ()),
    ])?;
    let paths: Vec<Vec<Value>> = match attribute.as_str() {
        Some(names) => names.split(',').map(|name| path(&name.into())).collect(),
        None => vec![path(&attribute)],
    };
    let mut items = Vec::new();
    for item in iterate(state, &value)? {
        let mut key = Vec::with_capacity(paths.len());
        for path in &paths {
            key.push(folded(follow(state, &item, path, &().into())?, case_sensitive.is_true()));
        }
        items.push((Value::from(key), item));
    }
    Ok(sorted(state, items, reverse.is_true())?.into_iter().map(|(_, item)| item).collect())
}

pub(super) fn dictsort(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, case_sensitive, by, reverse] = args.bind([
        required("value"),
        optional("case_sensitive", false),
        optional("by", "key"),
        optional("reverse", false),
    ])?;
    let by_key = match by.as_str() {
        Some("key") => true,
        Some("value") => false,
        _ => return Err(args.fail(format!("expected by=`key` or by=`value`, found {by}"))),
    };
    if !is_dict(&value) {
        return Err(args.fail(format!("expected a dictionary, found {}", value.kind())));
    }
    let mut items = Vec::new();
    for key in value.try_iter()? {
        let entry = value.get_item(&key)?;
        let by = if by_key { &key } else { &entry };
        items.push((folded(by.clone(), case_sensitive.is_true()), Value::from(Tuple::from([key, entry]))));
    }
    Ok(sorted(state, items, reverse.is_true())?.into_iter().map(|(_, item)| item).collect())
}

/// The items of the value, each with its key by the attribute.
fn keyed(state: &mut State, args: &Args) -> Result<Vec<(Value, Value)>, Error> {
    let [value, case_sensitive, attribute] =
        args.bind([required("value"), optional("case_sensitive", false), optional("attribute", ())])?;
    let path = path(&attribute);
    let mut keyed = Vec::new();
    for item in iterate(state, &value)? {
        let key = follow(state, &item, &path, &().into())?;
        keyed.push((folded(key, case_sensitive.is_true()), item));
    }
    Ok(keyed)
}

pub(super) fn unique(state: &mut State, args: &Args) -> Result<Value, Error> {
    let (mut seen, mut unique) = (HashSet::new(), Vec::new());
    for (key, item) in keyed(state, args)? {
        if !is_hashable(&key) {
            return Err(args.fail(format!("{} has no hash", key.kind())));
        }
        spend_all(state, &key)?;
        // Equal numbers are one.
        let number =
            if key.kind() == minijinja::value::ValueKind::Bool { Value::from(u8::from(key.is_true())) } else { key };
        if seen.insert(number) {
            unique.push(item);
        }
    }
    Ok(Generator::of(unique))
}

/// The first item that is before all others by `operator`.
fn extreme(state: &mut State, args: &Args, operator: &str) -> Result<Value, Error> {
    let mut items = keyed(state, args)?.into_iter();
    let Some(mut best) = items.next() else { return Ok(Value::UNDEFINED) };
    for item in items {
        if compare(state, operator, &item.0, &best.0)? {
            best = item;
        }
    }
    Ok(best.1)
}

pub(super) fn min(state: &mut State, args: &Args) -> Result<Value, Error> {
    extreme(state, args, "<")
}

pub(super) fn max(state: &mut State, args: &Args) -> Result<Value, Error> {
    extreme(state, args, ">")
}

pub(super) fn groupby(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, attribute, default, case_sensitive] = args.bind([
        required("value"),
        required("attribute"),
        optional("default", ()),
        optional("case_sensitive", false),
    ])?;
    let path = path(&attribute);
    let mut items = Vec::new();
    for item in iterate(state, &value)? {
        let key = follow(state, &item, &path, &default)?;
        items.push((folded(key.clone(), case_sensitive.is_true()), (key, item)));
    }
    // The first of a group has its key as it is written.
    let mut groups: Vec<(Value, Value, Vec<Value>)> = Vec::new();
    for (folded, (key, item)) in sorted(state, items, false)? {
        match groups.last_mut() {
            Some((last, _, items)) if equal(state, last, &folded)? => items.push(item),
            _ => groups.push((folded, key, vec![item])),
        }
    }
    let entries: usize = groups.iter().map(|(.., items)| items.len() + 1).sum();
    spend(state, entries.saturating_mul(ENTRY))?;
    let groups = groups.into_iter();
    Ok(groups.map(|(_, key, items)| Value::from_object(GroupTuple { key, items: items.into() })).collect())
}
