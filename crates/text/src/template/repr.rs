//! Values as Python's `str` and `repr` write them.

use minijinja::Value;
use minijinja::value::ValueKind;
use std::fmt::Write;

use super::iterators::DictView;

/// `str(value)`.
pub(super) fn str(value: &Value) -> String {
    match value.as_str() {
        Some(text) => text.to_owned(),
        None if value.is_undefined() => String::new(),
        None => repr(value),
    }
}

/// `repr(value)`.
fn repr(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    if let Some(view) = value.downcast_object_ref::<DictView>() {
        text.extend(["dict_", view.name, "("]);
        write(&Value::from(view.values.clone()), text);
        text.push(')');
        return;
    }
    match value.kind() {
        ValueKind::Undefined => text.push_str("Undefined"),
        ValueKind::String => quoted(value.as_str().unwrap_or_default(), text),
        ValueKind::Number if !value.is_integer() => {
            text.push_str(&f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float));
        }
        ValueKind::Seq => {
            let items: Vec<Value> = value.try_iter().into_iter().flatten().collect();
            let (open, close) = match (value.is_tuple(), items.len()) {
                (true, 1) => ("(", ",)"),
                (true, _) => ("(", ")"),
                (false, _) => ("[", "]"),
            };
            text.push_str(open);
            for (i, item) in items.iter().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write(item, text);
            }
            text.push_str(close);
        }
        ValueKind::Map => {
            text.push('{');
            for (i, key) in value.try_iter().into_iter().flatten().enumerate() {
                text.push_str(if i > 0 { ", " } else { "" });
                write(&key, text);
                text.push_str(": ");
                write(&value.get_item(&key).unwrap_or_default(), text);
            }
            text.push('}');
        }
        _ => {
            let _ = write!(text, "{value}");
        }
    }
}

/// Between single quotes, or double ones where that saves escapes.
fn quoted(string: &str, text: &mut String) {
    let quote = if string.contains('\'') && !string.contains('"') { '"' } else { '\'' };
    text.push(quote);
    for c in string.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c == quote => text.extend(['\\', c]),
            c if c.is_control() || c == '\u{ad}' => {
                let _ = match c as u32 {
                    code @ ..=0xff => write!(text, "\\x{code:02x}"),
                    code => write!(text, "\\u{code:04x}"),
                };
            }
            c => text.push(c),
        }
    }
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
