//! Filters that go through a list by an attribute, a filter or a test.

use minijinja::{Error, State, Value};

use super::super::args::{Args, required};
use super::super::attributes::{attribute, item};
use super::super::iterators::Generator;
use super::super::operators::{apply, perform};
use super::super::values::iterate;

/// What leads from an item to one of its attributes: keys and indices.
pub(super) fn path(attribute: &Value) -> Vec<Value> {
    let part = |part: &str| match part.parse::<u32>() {
        Ok(index) if part.bytes().all(|b| b.is_ascii_digit()) => Value::from(index),
        _ => part.into(),
    };
    match attribute.as_str() {
        Some(path) => path.split('.').map(part).collect(),
        None if attribute.is_none() => Vec::new(),
        None => vec![attribute.clone()],
    }
}

/// What a path leads to. A default that is not none replaces what is undefined on the way.
pub(super) fn follow(state: &mut State, from: &Value, path: &[Value], default: &Value) -> Result<Value, Error> {
    let mut value = from.clone();
    for key in path {
        value = item(state, &value, key)?;
        if value.is_undefined() && !default.is_none() {
            value = default.clone();
        }
    }
    Ok(value)
}

pub(super) fn attr(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, name] = args.bind([required("obj"), required("name")])?;
    let name = args.text(&name)?;
    if value.is_undefined() {
        return Err(args.fail("an undefined value has no attributes"));
    }
    Ok(attribute(&value, name).unwrap_or_default())
}

/// The value, the arguments after it, and those by name as one more.
fn split(args: &Args) -> Result<(Value, Vec<Value>, Vec<Value>), Error> {
    let (value, rest) = args.positional.split_first().ok_or_else(|| args.fail("expected a value"))?;
    let named = args.names().into_iter().map(|name| (name.clone(), args.get(&name).unwrap_or_default()));
    let named: minijinja::value::Kwargs = named.collect();
    let named = if args.names().is_empty() { Vec::new() } else { vec![named.into()] };
    Ok((value.clone(), rest.to_vec(), named))
}

pub(super) fn map(state: &mut State, args: &Args) -> Result<Value, Error> {
    let (value, rest, named) = split(args)?;
    if !value.is_true() {
        return Ok(Generator::of([]));
    }
    let by = args.get("attribute").filter(|_| rest.is_empty());
    let mut mapped = Vec::new();
    if let Some(by) = by {
        if let Some(name) = args.names().iter().find(|name| !["attribute", "default"].contains(&name.as_str())) {
            return Err(args.fail(format!("unexpected argument `{name}`")));
        }
        let (path, default) = (path(&by), args.get("default").unwrap_or(().into()));
        for item in iterate(state, &value)? {
            mapped.push(follow(state, &item, &path, &default)?);
        }
        return Ok(Generator::of(mapped));
    }
    let (name, rest) = rest.split_first().ok_or_else(|| args.fail("expected a filter, found none"))?;
    let name = name.as_str().unwrap_or_default();
    for item in iterate(state, &value)? {
        let call: Vec<Value> = [item].into_iter().chain(rest.iter().chain(&named).cloned()).collect();
        mapped.push(apply(state, name, &call)?);
    }
    Ok(Generator::of(mapped))
}

/// Items for which a test is `wanted`: of the item itself, or of an attribute.
fn filter(state: &mut State, args: &Args, wanted: bool, of_attribute: bool) -> Result<Value, Error> {
    let (value, mut rest, named) = split(args)?;
    if !value.is_true() {
        return Ok(Generator::of([]));
    }
    let path = match of_attribute {
        true if rest.is_empty() => return Err(args.fail("expected the name of an attribute, found none")),
        true => path(&rest.remove(0)),
        false => Vec::new(),
    };
    let mut chosen = Vec::new();
    for item in iterate(state, &value)? {
        let tested = follow(state, &item, &path, &().into())?;
        let holds = match rest.split_first() {
            None => tested.is_true(),
            Some((name, rest)) => {
                let call: Vec<Value> = [tested].into_iter().chain(rest.iter().chain(&named).cloned()).collect();
                perform(state, name.as_str().unwrap_or_default(), &call)?
            }
        };
        if holds == wanted {
            chosen.push(item);
        }
    }
    Ok(Generator::of(chosen))
}

pub(super) fn select(state: &mut State, args: &Args) -> Result<Value, Error> {
    filter(state, args, true, false)
}

pub(super) fn reject(state: &mut State, args: &Args) -> Result<Value, Error> {
    filter(state, args, false, false)
}

pub(super) fn selectattr(state: &mut State, args: &Args) -> Result<Value, Error> {
    filter(state, args, true, true)
}

pub(super) fn rejectattr(state: &mut State, args: &Args) -> Result<Value, Error> {
    filter(state, args, false, true)
}
