//! Values as Python's `str` and `repr` write them.

use minijinja::Value;
use minijinja::value::ValueKind;
use regex_automata::meta::Regex;
use std::fmt::Write;
use std::sync::LazyLock;

use super::attributes::{is_dict, is_namespace};
use super::iterators::{DictView, is_tuple};
use super::strings::pattern;

/// What is not written as it is between quotes: these, and what Python calls not printable, without spaces and [breaks](crate::rendered).
static ESCAPED: LazyLock<Regex> = LazyLock::new(|| pattern(r#"[\\'"\p{C}\p{Z}--\x20\x{fdd0}\x{fdd1}]"#));

/// `str(value)`.
pub(super) fn str(value: &Value) -> String {
    match value.as_str() {
        Some(text) if value.kind() == ValueKind::String => text.to_owned(),
        _ if value.is_undefined() => String::new(),
        _ => repr(value),
    }
}

/// `repr(value)`.
pub(super) fn repr(value: &Value) -> String {
    let mut text = String::new();
    write(value, false, &mut text);
    text
}

/// `repr(value)` with the keys of dictionaries in order.
pub(super) fn sorted(value: &Value) -> String {
    let mut text = String::new();
    write(value, true, &mut text);
    text
}

/// The items of a list or the keys of a dictionary, in their own order or sorted.
pub(super) fn entries(value: &Value, sorted: bool) -> Vec<Value> {
    let mut entries: Vec<Value> = value.try_iter().into_iter().flatten().collect();
    if sorted {
        entries.sort();
    }
    entries
}

fn write(value: &Value, sorted: bool, text: &mut String) {
    if let Some(view) = value.downcast_object_ref::<DictView>() {
        text.extend(["dict_", view.name, "("]);
        write(&Value::from(view.values.clone()), sorted, text);
        text.push(')');
        return;
    }
    match value.kind() {
        ValueKind::Undefined => text.push_str("Undefined"),
        ValueKind::Bytes => bytes(value.as_bytes().unwrap_or_default(), text),
        ValueKind::String if value.is_safe() => {
            text.push_str("Markup(");
            quoted(value.as_str().unwrap_or_default(), text);
            text.push(')');
        }
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), text),
        ValueKind::Number if !value.is_integer() => {
            text.push_str(&f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float));
        }
        ValueKind::Seq => {
            let items = entries(value, false);
            let (open, close) = match (is_tuple(value), items.len()) {
                (true, 1) => ("(", ",)"),
                (true, _) => ("(", ")"),
                (false, _) => ("[", "]"),
            };
            text.push_str(open);
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write(item, sorted, text);
            }
            text.push_str(close);
        }
        ValueKind::Map if !is_namespace(value) && !is_dict(value) => {
            let _ = write!(text, "{value}");
        }
        ValueKind::Map => {
            text.push_str(if is_namespace(value) { "<Namespace {" } else { "{" });
            for (i, key) in entries(value, sorted).iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write(key, sorted, text);
                text.push_str(": ");
                write(&value.get_item(key).unwrap_or_default(), sorted, text);
            }
            text.push_str(if is_namespace(value) { "}>" } else { "}" });
        }
        _ => {
            let _ = write!(text, "{value}");
        }
    }
}

/// `b'...'`, with what is not ASCII escaped.
fn bytes(bytes: &[u8], text: &mut String) {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    text.extend(['b', quote]);
    for &byte in bytes {
        let _ = match byte {
            b'\n' => write!(text, "\\n"),
            b'\r' => write!(text, "\\r"),
            b'\t' => write!(text, "\\t"),
            b'\\' => write!(text, "\\\\"),
            b' '..=b'~' if char::from(byte) != quote => write!(text, "{}", char::from(byte)),
            b' '..=b'~' => write!(text, "\\{quote}"),
            _ => write!(text, "\\x{byte:02x}"),
        };
    }
    text.push(quote);
}

/// Between single quotes, or double ones where that saves escapes.
fn quoted(string: &str, text: &mut String) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    let mut done = 0;
    for found in ESCAPED.find_iter(string) {
        text.push_str(&string[done..found.start()]);
        done = found.end();
        for c in string[found.range()].chars() {
            let _ = match c {
                '\n' => write!(text, "\\n"),
                '\r' => write!(text, "\\r"),
                '\t' => write!(text, "\\t"),
                '\\' => write!(text, "\\\\"),
                '\'' | '"' if c == quote => write!(text, "\\{c}"),
                '\'' | '"' => write!(text, "{c}"),
                _ => match c as u32 {
                    code @ ..=0xff => write!(text, "\\x{code:02x}"),
                    code @ ..=0xffff => write!(text, "\\u{code:04x}"),
                    code => write!(text, "\\U{code:08x}"),
                },
            };
        }
    }
    text.push_str(&string[done..]);
    text.push(quote);
}

/// A float as Python writes it: the shortest digits that give it back, with an exponent of two digits or more.
pub(super) fn float(value: f64) -> String {
    if !value.is_finite() {
        return value.to_string().to_lowercase();
    }
    let digits = format!("{value:?}");
    match digits.split_once('e') {
        None => digits,
        Some((digits, exponent)) => {
            let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
            format!("{digits}e{sign}{exponent:0>2}")
        }
    }
}
