use minijinja::value::Tuple;
use minijinja::{Error, ErrorKind, State, Value};

use super::super::args::{Args, optional, optional_positional, positional};
use super::super::budget::{ENTRY, spend};
use super::super::filters::{joined, replaced};
use super::super::strings::{capitalize, is_space, splitlines, text_like, titlecase};
use super::super::values::iterate;
use super::super::{classes, format, texts};

pub(super) const NAMES: &[&str] = &[
    "capitalize",
    "casefold",
    "center",
    "count",
    "encode",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
];

pub(super) fn call(state: &mut State, value: &Value, text: &str, args: &Args) -> Result<Value, Error> {
    let like = |text: String| text_like(value, text);
    Ok(match args.of {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind([optional_positional("chars", ())])?;
            let chars = if chars.is_none() { None } else { Some(args.text(&chars)?) };
            like(stripped(text, chars, args.of != "rstrip", args.of != "lstrip").to_owned())
        }
        "removeprefix" | "removesuffix" => {
            let [part] = args.bind([positional("part")])?;
            let part = args.text(&part)?;
            let rest = if args.of == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            like(rest.unwrap_or(text).to_owned())
        }
        "replace" => {
            let [old, new, count] = args.bind([positional("old"), positional("new"), optional("count", -1)])?;
            like(replaced(state, text, args.text(&old)?, args.text(&new)?, args.integer(&count)?)?)
        }
        "join" => {
            let [items] = args.bind([positional("iterable")])?;
            let items = iterate(state, &items)?;
            if items.iter().any(|item| item.as_str().is_none()) {
                return Err(args.fail("expected strings"));
            }
            like(joined(state, text, &items)?)
        }
        "split" | "rsplit" => split(state, text, args)?,
        "splitlines" => {
            let [ends] = args.bind([optional("keepends", false)])?;
            spend(state, text.matches(char::is_whitespace).count().saturating_mul(ENTRY))?;
            splitlines(text, ends.is_true()).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let [by] = args.bind([positional("sep")])?;
            let (by, first) = (args.text(&by)?, args.of == "partition");
            let parts = match if first { text.split_once(by) } else { text.rsplit_once(by) } {
                _ if by.is_empty() => return Err(args.fail("expected a separator, found none")),
                Some((before, after)) => [before, by, after],
                None if first => [text, "", ""],
                None => ["", "", text],
            };
            Tuple::from(parts.map(Value::from)).into()
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(text, args)?,
        "startswith" | "endswith" => {
            let [parts, start, end] = within(args)?;
            let window = window(text, args.integer_or_none(&start)?, args.integer_or_none(&end)?);
            let parts = if parts.is_tuple() { parts.try_iter()?.collect() } else { vec![parts] };
            for part in parts {
                let part = args.text(&part)?;
                let matches =
                    |text: &str| if args.of == "startswith" { text.starts_with(part) } else { text.ends_with(part) };
                if window.is_some_and(|(text, _)| matches(text)) {
                    return Ok(true.into());
                }
            }
            false.into()
        }
        "zfill" => {
            let [width] = args.bind([positional("width")])?;
            texts::padded(state, "zfill", text, args.integer(&width)?, '0')?.into()
        }
        "ljust" | "rjust" | "center" => {
            let [width, fill] = args.bind([positional("width"), optional_positional("fillchar", " ")])?;
            let mut chars = args.text(&fill)?.chars();
            let (Some(fill), None) = (chars.next(), chars.next()) else {
                return Err(args.fail("expected one character to fill with"));
            };
            like(texts::padded(state, args.of, text, args.integer(&width)?, fill)?)
        }
        "expandtabs" => {
            let [size] = args.bind([optional("tabsize", 8)])?;
            like(texts::expandtabs(state, text, args.integer(&size)?)?)
        }
        "encode" => encode(text, args)?,
        "format" => format::braces(state, value, &args.positional, &args.named)?,
        "format_map" => {
            let [map] = args.bind([positional("mapping")])?;
            format::braces_of(state, value, &map)?
        }
        name => {
            args.none()?;
            match name {
                "upper" => like(text.to_uppercase()),
                "lower" => like(text.to_lowercase()),
                "capitalize" => like(capitalize(text)),
                "title" => like(title(text)),
                "swapcase" => like(swapcase(text)),
                "casefold" => like(texts::casefold(text)),
                "isidentifier" => texts::is_identifier(text).into(),
                "isascii" => text.is_ascii().into(),
                "isspace" => (!text.is_empty() && text.chars().all(is_space)).into(),
                "isprintable" => classes::is_printable(text).into(),
                "islower" => classes::is_lower(text).into(),
                "isupper" => classes::is_upper(text).into(),
                "istitle" => classes::is_title(text).into(),
                "isalpha" => classes::all(text, classes::is_alpha).into(),
                "isdecimal" => classes::all(text, classes::is_decimal).into(),
                "isdigit" => classes::all(text, classes::is_digit).into(),
                "isnumeric" => classes::all(text, classes::is_numeric).into(),
                "isalnum" => classes::all(text, |c| classes::is_alpha(c) || classes::is_numeric(c)).into(),
                _ => return Err(ErrorKind::UnknownMethod.into()),
            }
        }
    })
}

/// `text.strip(chars)`, or one of its sides.
pub(in super::super) fn stripped<'a>(text: &'a str, chars: Option<&str>, start: bool, end: bool) -> &'a str {
    let strip = |c: char| chars.map_or(is_space(c), |chars| chars.contains(c));
    let text = if start { text.trim_start_matches(strip) } else { text };
    if end { text.trim_end_matches(strip) } else { text }
}

fn title(text: &str) -> String {
    let mut inside = false;
    let mut cased = String::with_capacity(text.len());
    for c in text.chars() {
        if inside {
            cased.extend(c.to_lowercase())
        } else {
            cased.push_str(&titlecase(c))
        }
        inside = classes::is_cased(c);
    }
    cased
}

fn swapcase(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            swapped.extend(c.to_lowercase());
        } else if c.is_lowercase() {
            swapped.extend(c.to_uppercase());
        } else {
            swapped.push(c);
        }
    }
    swapped
}

fn encode(text: &str, args: &Args) -> Result<Value, Error> {
    let [encoding, errors] = args.bind([optional("encoding", "utf-8"), optional("errors", "strict")])?;
    let (encoding, errors) = (args.text(&encoding)?.to_ascii_lowercase(), args.text(&errors)?);
    let most = match encoding.replace('_', "-").as_str() {
        "utf-8" | "utf8" => return Ok(Value::from_bytes(text.as_bytes().to_vec())),
        "ascii" | "us-ascii" => 0x7f,
        "latin-1" | "latin1" | "iso-8859-1" => 0xff,
        _ => return Err(args.fail(format!("expected the encoding utf-8, ascii or latin-1, found `{encoding}`"))),
    };
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match u8::try_from(c as u32).ok().filter(|&byte| byte <= most) {
            Some(byte) => bytes.push(byte),
            None if errors == "ignore" => {}
            None if errors == "replace" => bytes.push(b'?'),
            None => return Err(args.fail(format!("`{c}` is not in {encoding}"))),
        }
    }
    Ok(Value::from_bytes(bytes))
}

fn split(state: &mut State, text: &str, args: &Args) -> Result<Value, Error> {
    let [by, most] = args.bind([optional("sep", ()), optional("maxsplit", -1)])?;
    let last = args.of == "rsplit";
    let most = usize::try_from(args.integer(&most)?).unwrap_or(usize::MAX - 1);
    let by = if by.is_none() { None } else { Some(args.text(&by)?) };
    let cuts = match by {
        Some(by) => text.matches(by).count(),
        None => text.matches(is_space).count(),
    };
    spend(state, cuts.min(most).saturating_mul(ENTRY))?;
    let mut parts: Vec<&str> = match by {
        None => split_space(text, most, last),
        Some("") => return Err(args.fail("expected a separator, found none")),
        Some(by) if last => text.rsplitn(most + 1, by).collect(),
        Some(by) => text.splitn(most + 1, by).collect(),
    };
    if last {
        parts.reverse();
    }
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Words, at most `most` cuts, from the start or, in reverse, from the end.
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
    parts
}

/// What is searched for, and between which places.
fn within(args: &Args) -> Result<[Value; 3], Error> {
    args.bind([positional("part"), optional_positional("start", ()), optional_positional("end", ())])
}

fn search(text: &str, args: &Args) -> Result<Value, Error> {
    let [part, start, end] = within(args)?;
    let part = args.text(&part)?;
    let window = window(text, args.integer_or_none(&start)?, args.integer_or_none(&end)?);
    if args.of == "count" {
        return Ok(window.map_or(0, |(text, _)| text.matches(part).count()).into());
    }
    let found = window.and_then(|(text, before)| {
        let at = if args.of.starts_with('r') { text.rfind(part) } else { text.find(part) };
        at.map(|at| before + text[..at].chars().count())
    });
    match found {
        Some(at) => Ok(at.into()),
        None if args.of.ends_with("find") => Ok((-1).into()),
        None => Err(args.fail(format!("no `{part}` in it"))),
    }
}

/// The part of a text between two places, and the characters before it. There is none beyond the end, not even an empty one.
fn window(text: &str, start: Option<i64>, end: Option<i64>) -> Option<(&str, usize)> {
    if start.is_none() && end.is_none() {
        return Some((text, 0));
    }
    let len = text.chars().count() as i64;
    let place = |place: i64| if place < 0 { place.saturating_add(len).max(0) } else { place };
    let (start, end) = (place(start.unwrap_or(0)), place(end.unwrap_or(len)).min(len));
    if start > end {
        return None;
    }
    let byte = |n: i64| text.char_indices().nth(n as usize).map_or(text.len(), |(at, _)| at);
    Some((&text[byte(start)..byte(end)], start as usize))
}
