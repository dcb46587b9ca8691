//! What Python does to texts, and Jinja's filters over them.

use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{AutoEscape, Environment, Error, State, Value};
use regex_automata::meta::Regex;
use std::fmt::Write;
use std::sync::LazyLock;

use super::budget::{ENTRY, spend};
use super::repr;
use super::strings::{escape, is_space, pattern};
use super::values::{escaped, given, integer, iterate, number, wrong};

/// What Python's `\w+` finds.
static WORDS: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\p{L}\p{N}_]+"));

static IDENTIFIER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\p{XID_Start}_]\p{XID_Continue}*$"));

pub(super) fn install(environment: &mut Environment) {
    environment.add_filter("wordcount", |value: Value| WORDS.find_iter(&repr::str(&value)).count());
    environment.add_filter("center", |state: &mut State, value: Value, args: Rest<Value>, options: Kwargs| {
        let [width] = given(["width"], &args, &options)?;
        padded(state, "center", &repr::str(&value), integer(width, 80)?, ' ')
    });
    environment.add_filter("truncate", truncate);
    environment.add_filter("striptags", striptags);
    environment.add_filter("urlencode", urlencode);
    environment.add_filter("filesizeformat", filesizeformat);
    environment.add_filter("xmlattr", xmlattr);
}

/// `text.ljust(width, fill)`, `rjust`, `center`, or `zfill` without `fill`.
pub(super) fn padded(state: &mut State, method: &str, text: &str, width: i64, fill: char) -> Result<String, Error> {
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    spend(state, missing.saturating_mul(fill.len_utf8()))?;
    let fill = |n: usize| fill.to_string().repeat(n);
    // Python gives the odd one to the left where the width is odd.
    let left = missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1);
    Ok(match method {
        "ljust" => format!("{text}{}", fill(missing)),
        "rjust" => format!("{}{text}", fill(missing)),
        "center" => format!("{}{text}{}", fill(left), fill(missing - left)),
        _ => {
            let sign = text.len() - text.trim_start_matches(['+', '-']).len().max(text.len().saturating_sub(1));
            format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
        }
    })
}

/// `text.expandtabs(size)`.
pub(super) fn expandtabs(state: &mut State, text: &str, size: i64) -> Result<String, Error> {
    let size = usize::try_from(size).unwrap_or(0);
    let (mut expanded, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                spend(state, spaces)?;
                expanded.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                expanded.push(c);
            }
        }
    }
    Ok(expanded)
}

/// `text.casefold()`: Unicode's full folding, which is upper case made lower but for these.
pub(super) fn casefold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'ı' => folded.push(c),
            // Cherokee, whose capitals are older.
            '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => folded.extend(c.to_uppercase()),
            c => folded.extend(c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)),
        }
    }
    folded
}

/// `text.isidentifier()`.
pub(super) fn is_identifier(text: &str) -> bool {
    IDENTIFIER.is_match(text)
}

fn truncate(value: Value, args: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [length, whole, end, leeway] = given(["length", "killwords", "end", "leeway"], &args, &options)?;
    let text = value.as_str().ok_or_else(|| wrong("truncate: expected a text"))?;
    let end = end.map_or("...".to_owned(), |end| repr::str(&end));
    let (length, leeway) = (integer(length, 255)?, integer(leeway.filter(|leeway| !leeway.is_none()), 5)?);
    let kept = length.checked_sub(end.chars().count() as i64).and_then(|kept| usize::try_from(kept).ok());
    let (Some(kept), 0..) = (kept, leeway) else {
        return Err(wrong(format!("truncate: expected a length of at least that of `{end}`, found {length}")));
    };
    if text.chars().count() as i64 <= length.saturating_add(leeway) {
        return Ok(value);
    }
    let mut short = text.char_indices().nth(kept).map_or(text, |(at, _)| &text[..at]);
    if !whole.is_some_and(|whole| whole.is_true()) {
        short = short.rsplit_once(' ').map_or(short, |(words, _)| words);
    }
    let text = format!("{short}{end}");
    Ok(if value.is_safe() { Value::from_safe_string(text) } else { text.into() })
}

fn striptags(value: Value) -> String {
    let text = repr::str(&value);
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
    html_escape::decode_html_entities(&words.join(" ")).into_owned()
}

fn urlencode(state: &mut State, value: Value) -> Result<String, Error> {
    let pairs: Vec<Value> = match value.kind() {
        ValueKind::Map => {
            let pair = |key: Value| Ok::<Value, Error>(vec![key.clone(), value.get_item(&key)?].into());
            value.try_iter()?.map(pair).collect::<Result<_, _>>()?
        }
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Undefined => iterate(state, &value)?,
        _ => return Ok(quoted(&repr::str(&value), "/")),
    };
    let mut query = Vec::with_capacity(pairs.len());
    for pair in pairs {
        let Ok([key, value]) = <[Value; 2]>::try_from(iterate(state, &pair)?) else {
            return Err(wrong("urlencode: expected pairs"));
        };
        let part = |value| quoted(&repr::str(value), "").replace("%20", "+");
        query.push(format!("{}={}", part(&key), part(&value)));
    }
    Ok(query.join("&"))
}

/// Python's `urllib.parse.quote(text, safe)`.
fn quoted(text: &str, safe: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || "_.-~".contains(c) || safe.contains(c) {
            quoted.push(c);
        } else {
            let _ = write!(quoted, "%{byte:02X}");
        }
    }
    quoted
}

fn filesizeformat(value: Value, args: Rest<Value>, options: Kwargs) -> Result<String, Error> {
    let [binary] = given(["binary"], &args, &options)?;
    let bytes = number(&value)?.ok_or_else(|| wrong("filesizeformat: expected a number"))?;
    let (base, suffix) = if binary.is_some_and(|binary| binary.is_true()) { (1024.0, "iB") } else { (1000.0, "B") };
    if bytes == 1.0 {
        return Ok("1 Byte".to_owned());
    }
    if bytes < base {
        // An integer has no negative zero.
        return Ok(format!("{:.0} Bytes", bytes.trunc() + 0.0));
    }
    let (mut unit, mut prefix) = (base, ' ');
    for next in if base == 1000.0 { "kMGTPEZY" } else { "KMGTPEZY" }.chars() {
        (unit, prefix) = (unit * base, next);
        if bytes < unit {
            break;
        }
    }
    Ok(format!("{:.1} {prefix}{suffix}", base * bytes / unit))
}

fn xmlattr(state: &mut State, map: Value, args: Rest<Value>, options: Kwargs) -> Result<Value, Error> {
    let [space] = given(["autospace"], &args, &options)?;
    if map.kind() != ValueKind::Map {
        return Err(wrong("xmlattr: expected a dictionary"));
    }
    let mut attributes = String::new();
    for key in map.try_iter()? {
        let value = map.get_item(&key)?;
        let name = key.as_str().ok_or_else(|| wrong("xmlattr: expected names"))?;
        if value.is_none() || value.is_undefined() {
            continue;
        }
        if name.contains([' ', '\t', '\n', '\r', '\u{b}', '\u{c}', '/', '>', '=']) {
            return Err(wrong(format!("xmlattr: `{name}` is no name of an attribute")));
        }
        spend(state, ENTRY)?;
        let _ = write!(attributes, " {}=\"{}\"", escape(name), escaped(&value));
    }
    if space.is_some_and(|space| !space.is_true()) && !attributes.is_empty() {
        attributes.remove(0);
    }
    let plain = matches!(state.auto_escape(), AutoEscape::None);
    Ok(if plain { attributes.into() } else { Value::from_safe_string(attributes) })
}
