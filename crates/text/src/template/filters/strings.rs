//! Filters over strings. Other values are written as strings first.

use minijinja::value::ValueKind;
use minijinja::{AutoEscape, Error, State, Value};
use regex_automata::meta::Regex;
use std::fmt::Write;
use std::sync::LazyLock;

use super::super::args::{Args, optional, required};
use super::super::attributes::is_dict;
use super::super::budget::{ENTRY, spend};
use super::super::strings::{self, capitalize as capital, is_space, pattern, splitlines, text_like};
use super::super::values::{escaped, iterate};
use super::super::{format as formats, methods, repr, texts};
use super::LONGEST;
use crate::rendered::is_break;

/// What Python's `\w+` finds.
static WORDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\p{L}\p{N}_]+"));

/// The value, and as a string.
fn soft(args: &Args) -> Result<(Value, String), Error> {
    let [value] = args.bind([required("s")])?;
    let text = repr::str(&value);
    Ok((value, text))
}

pub(super) fn upper(_: &mut State, args: &Args) -> Result<Value, Error> {
    let (value, text) = soft(args)?;
    Ok(text_like(&value, text.to_uppercase()))
}

pub(super) fn lower(_: &mut State, args: &Args) -> Result<Value, Error> {
    let (value, text) = soft(args)?;
    Ok(text_like(&value, text.to_lowercase()))
}

pub(super) fn capitalize(_: &mut State, args: &Args) -> Result<Value, Error> {
    let (value, text) = soft(args)?;
    Ok(text_like(&value, capital(&text)))
}

pub(super) fn title(_: &mut State, args: &Args) -> Result<Value, Error> {
    let (_, text) = soft(args)?;
    let starts_word = |c: char| is_space(c) || "-({[<".contains(c);
    let mut titled = String::with_capacity(text.len());
    for word in text.split_inclusive(starts_word) {
        let mut chars = word.chars();
        if let Some(first) = chars.next() {
            titled.extend(first.to_uppercase());
            titled.push_str(&chars.as_str().to_lowercase());
        }
    }
    Ok(titled.into())
}

pub(super) fn string(_: &mut State, args: &Args) -> Result<Value, Error> {
    let (value, text) = soft(args)?;
    Ok(if value.as_str().is_some() { value } else { text.into() })
}

pub(super) fn safe(_: &mut State, args: &Args) -> Result<Value, Error> {
    Ok(Value::from_safe_string(soft(args)?.1))
}

pub(super) fn escape(_: &mut State, args: &Args) -> Result<Value, Error> {
    Ok(Value::from_safe_string(escaped(&soft(args)?.0)))
}

pub(super) fn forceescape(_: &mut State, args: &Args) -> Result<Value, Error> {
    Ok(Value::from_safe_string(strings::escape(&soft(args)?.1)))
}

pub(super) fn wordcount(_: &mut State, args: &Args) -> Result<Value, Error> {
    Ok(WORDS.find_iter(&soft(args)?.1).count().into())
}

pub(super) fn trim(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, chars] = args.bind([required("value"), optional("chars", ())])?;
    let chars = if chars.is_none() { None } else { Some(args.text(&chars)?) };
    Ok(text_like(&value, methods::stripped(&repr::str(&value), chars, true, true).to_owned()))
}

pub(super) fn center(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, width] = args.bind([required("value"), optional("width", 80)])?;
    let centered = texts::padded(state, "center", &repr::str(&value), args.integer(&width)?, ' ')?;
    Ok(text_like(&value, centered))
}

pub(super) fn replace(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, old, new, count] =
        args.bind([required("s"), required("old"), required("new"), optional("count", ())])?;
    let count = args.integer_or_none(&count)?.unwrap_or(-1);
    let plain = matches!(state.auto_escape(), AutoEscape::None);
    if plain || !value.is_safe() && !old.is_safe() && !new.is_safe() {
        let [text, old, new] = [value, old, new].map(|value| repr::str(&value));
        return replaced(state, &text, &old, &new, count).map(Value::from);
    }
    let escape = old.is_safe() || new.is_safe() && !value.is_safe();
    let text = if escape { escaped(&value) } else { repr::str(&value) };
    replaced(state, &text, &repr::str(&old), &escaped(&new), count).map(Value::from_safe_string)
}

/// Python's `text.replace(old, new, count)`.
pub(in super::super) fn replaced(
    state: &mut State,
    text: &str,
    old: &str,
    new: &str,
    count: i64,
) -> Result<String, Error> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    spend(state, text.matches(old).count().min(count).saturating_mul(new.len()))?;
    Ok(text.replacen(old, new, count))
}

pub(super) fn format(state: &mut State, args: &Args) -> Result<Value, Error> {
    let Some((value, rest)) = args.positional.split_first() else { return Err(args.fail("expected a value")) };
    let text = if value.as_str().is_some() { value.clone() } else { repr::str(value).into() };
    let names = args.names();
    if names.is_empty() {
        return formats::percent(state, &text, rest, None);
    }
    if !rest.is_empty() {
        return Err(args.fail("expected arguments by position or by name, found both"));
    }
    let named = Value::from_pairs(names.iter().map(|name| (name.as_str(), args.get(name).unwrap_or_default())));
    formats::percent(state, &text, std::slice::from_ref(&named), Some(&named))
}

pub(super) fn indent(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, width, first, blank] =
        args.bind([required("s"), optional("width", 4), optional("first", false), optional("blank", false)])?;
    let by = match width.as_str() {
        Some(by) => by.to_owned(),
        None => " ".repeat(args.integer(&width)?.clamp(0, LONGEST) as usize),
    };
    let text = args.text(&value)?.to_owned() + "\n";
    let lines = splitlines(&text, false);
    spend(state, lines.len().saturating_mul(by.len()))?;
    let mut indented = String::new();
    for (i, line) in lines.iter().enumerate() {
        indented.push_str(if i > 0 { "\n" } else { "" });
        if if i > 0 { blank.is_true() || !line.is_empty() } else { first.is_true() } {
            indented.push_str(&by);
        }
        indented.push_str(line);
    }
    Ok(text_like(&value, indented))
}

pub(super) fn truncate(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, length, whole, end, leeway] = args.bind([
        required("s"),
        optional("length", 255),
        optional("killwords", false),
        optional("end", "..."),
        optional("leeway", ()),
    ])?;
    let (text, end) = (args.text(&value)?, args.text(&end)?);
    let (length, leeway) = (args.integer(&length)?, args.integer_or_none(&leeway)?.unwrap_or(5));
    let kept = length.checked_sub(end.chars().count() as i64).and_then(|kept| usize::try_from(kept).ok());
    let (Some(kept), 0..) = (kept, leeway) else {
        return Err(args.fail(format!("expected a length of at least that of `{end}`, found {length}")));
    };
    if text.chars().count() as i64 <= length.saturating_add(leeway) {
        return Ok(value);
    }
    let mut short = text.char_indices().nth(kept).map_or(text, |(at, _)| &text[..at]);
    if !whole.is_true() {
        short = short.rsplit_once(' ').map_or(short, |(words, _)| words);
    }
    let end = if value.is_safe() { strings::escape(end) } else { end.to_owned() };
    Ok(text_like(&value, format!("{short}{end}")))
}

pub(super) fn striptags(_: &mut State, args: &Args) -> Result<Value, Error> {
    let (_, text) = soft(args)?;
    let (mut plain, mut rest) = (String::with_capacity(text.len()), &*text);
    while let Some((before, tag)) = rest.split_once('<') {
        let end = match tag.strip_prefix("!--") {
            Some(comment) => comment.split_once("-->"),
            None => tag.split_once('>'),
        };
        let Some((_, after)) = end else { break };
        plain.push_str(before);
        rest = after;
    }
    plain.push_str(rest);
    let words: Vec<&str> = plain.split(is_space).filter(|word| !word.is_empty()).collect();
    Ok(html_escape::decode_html_entities(&words.join(" ")).into_owned().into())
}

pub(super) fn urlencode(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("value")])?;
    let pairs: Vec<Value> = match value.kind() {
        ValueKind::Map if is_dict(&value) => {
            let pair = |key: Value| Ok::<Value, Error>(vec![key.clone(), value.get_item(&key)?].into());
            value.try_iter()?.map(pair).collect::<Result<_, _>>()?
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined => iterate(state, &value)?,
        _ => return Ok(quoted(&repr::str(&value), "/").into()),
    };
    let mut query = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let Ok([key, value]) = <[Value; 2]>::try_from(iterate(state, &pair)?) else {
            return Err(args.fail("expected pairs"));
        };
        let part = |value| quoted(&repr::str(value), "").replace("%20", "+");
        query.push(format!("{}={}", part(&key), part(&value)));
    }
    Ok(query.join("&").into())
}

/// Python's `urllib.parse.quote(text, safe)`.
fn quoted(text: &str, safe: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) || is_break(c) {
            quoted.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(quoted, "%{byte:02X}");
            }
        }
    }
    quoted
}

pub(super) fn xmlattr(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [map, space] = args.bind([required("d"), optional("autospace", true)])?;
    if !is_dict(&map) {
        return Err(args.fail(format!("expected a dictionary, found {}", map.kind())));
    }
    let mut attributes = Vec::new();
    for key in map.try_iter()? {
        let value = map.get_item(&key)?;
        if value.is_none() || value.is_undefined() {
            continue;
        }
        let name = args.text(&key)?;
        if name.contains([' ', '\t', '\n', '\r', '\u{b}', '\u{c}', '/', '>', '=']) {
            return Err(args.fail(format!("`{name}` is no name of an attribute")));
        }
        spend(state, ENTRY)?;
        attributes.push(format!("{}=\"{}\"", escaped(&key), escaped(&value)));
    }
    let before = if space.is_true() && !attributes.is_empty() { " " } else { "" };
    let text = format!("{before}{}", attributes.join(" "));
    let plain = matches!(state.auto_escape(), AutoEscape::None);
    Ok(if plain { text.into() } else { Value::from_safe_string(text) })
}
