//! The methods of Python's texts, dictionaries and lists.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

use super::budget::{ENTRY, spend, spend_flat};
use super::filters::{joined, replaced};
use super::iterators::{DictView, is_list};
use super::strings::{is_space, splitlines};
use super::values::{iterate, wrong};
use super::{format, texts};

/// Adds the methods of Python's texts, lists and dictionaries, and what tests mean in Python.
pub(super) fn install(environment: &mut Environment) {
    environment.set_unknown_method_callback(method);
    environment.remove_global("debug");
    environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
    environment.add_test("sequence", |value: &Value| {
        is_list(value) || matches!(value.kind(), ValueKind::String | ValueKind::Map | ValueKind::Undefined)
    });
    environment.add_test("callable", |value: &Value| matches!(value.kind(), ValueKind::Undefined | ValueKind::Plain));
    environment.add_test("number", |value: &Value| matches!(value.kind(), ValueKind::Number | ValueKind::Bool));
}

fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let result = match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            spend(state, text.len())?;
            string_method(state, value, text, name, args)
        }
        ValueKind::Map => map_method(state, value, name, args),
        ValueKind::Seq => seq_method(state, value, name, args),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }?;
    spend_flat(state, &result)?;
    Ok(result)
}

fn string_method(state: &mut State, value: &Value, text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let side = |chars: Option<String>| {
        move |c: char| match &chars {
            Some(chars) => chars.contains(c),
            None => is_space(c),
        }
    };
    Ok(match name {
        "strip" => text.trim_matches(side(from_args::<(Option<String>,)>(args)?.0)).into(),
        "lstrip" => text.trim_start_matches(side(from_args::<(Option<String>,)>(args)?.0)).into(),
        "rstrip" => text.trim_end_matches(side(from_args::<(Option<String>,)>(args)?.0)).into(),
        "removeprefix" => {
            let (part,): (&str,) = from_args(args)?;
            text.strip_prefix(part).unwrap_or(text).into()
        }
        "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            text.strip_suffix(part).unwrap_or(text).into()
        }
        "replace" => {
            let (old, new, count, options): (&str, &str, Option<i64>, Kwargs) = from_args(args)?;
            let count = count.or(options.get("count")?);
            options.assert_all_used()?;
            replaced(state, text, old, new, count)?.into()
        }
        "join" => {
            let (items,): (Value,) = from_args(args)?;
            let items = iterate(state, &items)?;
            if items.iter().any(|item| item.as_str().is_none()) {
                return Err(wrong("join: expected strings"));
            }
            joined(state, text, &items)?.into()
        }
        "split" | "rsplit" => {
            let (by, most, options): (Option<Value>, Option<i64>, Kwargs) = from_args(args)?;
            let by: Option<Value> = by.or(options.get("sep")?).filter(|by| !by.is_none());
            let most: Option<i64> = most.or(options.get("maxsplit")?);
            options.assert_all_used()?;
            let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX - 1);
            let cuts = match by.as_ref().and_then(Value::as_str) {
                Some(by) => text.matches(by).count(),
                None => text.matches(char::is_whitespace).count(),
            };
            spend(state, cuts.min(most).saturating_mul(ENTRY))?;
            let parts = match by.as_ref().map(|by| by.as_str()) {
                None => split_space(text, most, name == "rsplit"),
                Some(None | Some("")) => return Err(wrong(format!("{name}: expected a separator"))),
                Some(Some(by)) if name == "split" => text.splitn(most + 1, by).collect(),
                Some(Some(by)) => {
                    let mut parts: Vec<&str> = text.rsplitn(most + 1, by).collect();
                    parts.reverse();
                    parts
                }
            };
            parts.into_iter().map(Value::from).collect()
        }
        "splitlines" => {
            let (ends, options): (Option<bool>, Kwargs) = from_args(args)?;
            let ends = ends.or(options.get("keepends")?).unwrap_or(false);
            spend(state, text.matches(char::is_whitespace).count().saturating_mul(ENTRY))?;
            splitlines(text, ends).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let (by,): (&str,) = from_args(args)?;
            let first = name == "partition";
            let parts = match if first { text.split_once(by) } else { text.rsplit_once(by) } {
                _ if by.is_empty() => return Err(wrong(format!("{name}: expected a separator"))),
                Some((before, after)) => [before, by, after],
                None if first => [text, "", ""],
                None => ["", "", text],
            };
            Value::from(Tuple::from(parts.map(Value::from)))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => {
            let (part, start, end): (&str, Option<i64>, Option<i64>) = from_args(args)?;
            let (within, before) = window(text, start, end);
            let at = if name.starts_with('r') { within.rfind(part) } else { within.find(part) };
            match at {
                _ if name == "count" => within.matches(part).count().into(),
                Some(at) => (before + within[..at].chars().count()).into(),
                None if name.ends_with("find") => (-1).into(),
                None => return Err(wrong(format!("{name}: no `{part}` in it"))),
            }
        }
        "startswith" | "endswith" => {
            let (parts, start, end): (Value, Option<i64>, Option<i64>) = from_args(args)?;
            let (within, _) = window(text, start, end);
            let parts = if parts.is_tuple() { parts.try_iter()?.collect() } else { vec![parts] };
            let mut any = false;
            for part in parts {
                let part =
                    part.as_str().ok_or_else(|| wrong(format!("{name}: expected a string or a tuple of them")))?;
                any |= if name == "startswith" { within.starts_with(part) } else { within.ends_with(part) };
            }
            any.into()
        }
        "title" => {
            let () = from_args(args)?;
            let mut inside = false;
            let cased = text.chars().map(|c| {
                let c = if inside { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
                inside = c.chars().any(|c| c.is_lowercase() || c.is_uppercase());
                c
            });
            cased.collect::<String>().into()
        }
        "swapcase" => {
            let () = from_args(args)?;
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            text.chars().map(swap).collect::<String>().into()
        }
        "zfill" | "ljust" | "rjust" | "center" => {
            let (width, fill): (i64, Option<char>) = from_args(args)?;
            texts::padded(state, name, text, width, fill.unwrap_or(' '))?.into()
        }
        "expandtabs" => {
            let (size, options): (Option<i64>, Kwargs) = from_args(args)?;
            let size = size.or(options.get("tabsize")?).unwrap_or(8);
            options.assert_all_used()?;
            texts::expandtabs(state, text, size)?.into()
        }
        "casefold" => {
            let () = from_args(args)?;
            texts::casefold(text).into()
        }
        "isidentifier" => {
            let () = from_args(args)?;
            texts::is_identifier(text).into()
        }
        "format" => format::braces(state, text, args)?,
        _ => pycompat::unknown_method_callback(state, value, name, args)?,
    })
}

/// Words, at most `most` cuts, counted from the end if `last`.
fn split_space(text: &str, most: usize, last: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = if last { text.trim_end_matches(is_space) } else { text.trim_start_matches(is_space) };
    while !rest.trim_matches(is_space).is_empty() {
        let cut = if last { rest.rfind(is_space) } else { rest.find(is_space) };
        match cut {
            Some(at) if parts.len() < most => {
                let width = rest[at..].chars().next().map_or(1, char::len_utf8);
                let (before, after) = (&rest[..at], &rest[at + width..]);
                parts.push(if last { after } else { before });
                rest = if last { before.trim_end_matches(is_space) } else { after.trim_start_matches(is_space) };
            }
            _ => {
                parts.push(rest);
                break;
            }
        }
    }
    if last {
        parts.reverse();
    }
    parts
}

/// The part of a text between two places, and the characters before it.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> (&str, usize) {
    if start.is_none() && end.is_none() {
        return (text, 0);
    }
    let len = text.chars().count() as i64;
    let place = |place: i64| (if place < 0 { place.saturating_add(len) } else { place }).clamp(0, len) as usize;
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(len)));
    let byte = |n: usize| text.char_indices().nth(n).map_or(text.len(), |(at, _)| at);
    (&text[byte(start)..byte(end.max(start))], start)
}

fn map_method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let view = |name, pick: fn((Value, Value)) -> Value| -> Result<Value, Error> {
        let () = from_args(args)?;
        let pairs = value.try_iter()?.map(|key| Ok((key.clone(), value.get_item(&key)?)));
        let values = pairs.map(|pair| pair.map(pick)).collect::<Result<_, Error>>()?;
        Ok(Value::from_object(DictView { name, values }))
    };
    spend_flat(state, value)?;
    Ok(match name {
        "keys" => view("keys", |(key, _)| key)?,
        "values" => view("values", |(_, value)| value)?,
        "items" => view("items", Value::from)?,
        "copy" => value.clone(),
        "pop" | "popitem" | "update" | "setdefault" | "clear" => {
            return Err(wrong(format!("{name}: it may not be changed")));
        }
        _ => pycompat::unknown_method_callback(state, value, name, args)?,
    })
}

fn seq_method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    match name {
        "index" => {
            let (item,): (Value,) = from_args(args)?;
            let at = value.try_iter()?.position(|other| other == item);
            at.map(Value::from).ok_or_else(|| wrong("index: it is not in the list"))
        }
        "copy" => Ok(value.clone()),
        _ => pycompat::unknown_method_callback(state, value, name, args),
    }
}
