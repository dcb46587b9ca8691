//! The `tojson` filter: Python's `json.dumps(value, ensure_ascii=False, ...)`.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, State, Value};
use std::fmt::Write;

use super::args::{Args, optional, required};
use super::attributes::is_dict;
use super::iterators::Generator;
use super::repr;
use crate::rendered::is_break;

/// Lists and dictionaries inside each other.
const DEPTH: usize = 128;

/// Bytes of JSON.
const LENGTH: usize = 64 << 20;

/// The options of `json.dumps`.
struct JsonStyle {
    /// The indentation of one level; everything is on one line if absent.
    indent: Option<String>,
    /// Between the entries of a list or dictionary.
    item: String,
    /// Between a key and its value.
    key: String,
    sort_keys: bool,
    ensure_ascii: bool,
}

pub(super) fn tojson(_: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, ensure_ascii, indent, separators, sort_keys] = args.bind([
        required("x"),
        optional("ensure_ascii", false),
        optional("indent", ()),
        optional("separators", ()),
        optional("sort_keys", false),
    ])?;
    let indent = match indent.as_str() {
        Some(indent) => Some(indent.to_owned()),
        None => args.integer_or_none(&indent)?.map(|indent| " ".repeat(indent.clamp(0, 64) as usize)),
    };
    let (item, key) = match separators.len() {
        _ if separators.is_none() => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        Some(2) => {
            let [item, key] = [separators.get_item_by_index(0)?, separators.get_item_by_index(1)?];
            (args.text(&item)?.to_owned(), args.text(&key)?.to_owned())
        }
        _ => return Err(args.fail("expected two separators")),
    };
    let style = JsonStyle { indent, item, key, sort_keys: sort_keys.is_true(), ensure_ascii: ensure_ascii.is_true() };
    let mut json = String::new();
    style.write(&value, 0, &mut json)?;
    Ok(json.into())
}

fn wrong(found: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("tojson: {found} cannot be written as JSON"))
}

impl JsonStyle {
    fn write(&self, value: &Value, depth: usize, json: &mut String) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(wrong(format!("a value of more than {DEPTH} levels")));
        }
        if json.len() > LENGTH {
            return Err(wrong(format!("a value of more than {LENGTH} bytes")));
        }
        match value.kind() {
            ValueKind::None => json.push_str("null"),
            ValueKind::Bool => json.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => json.push_str(&value.to_string()),
            ValueKind::Number => json.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.string(value.as_str().unwrap_or_default(), json),
            // llama.cpp's filters give lists where Python's give generators, and templates rely on it.
            kind if kind == ValueKind::Seq || value.downcast_object_ref::<Generator>().is_some() => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(['[', ']'], items.len(), depth, json, |i, json| self.write(&items[i], depth + 1, json))?;
            }
            ValueKind::Map if is_dict(value) => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    let texts = keys.iter().filter(|key| key.as_str().is_some()).count();
                    if texts != 0 && texts != keys.len() {
                        return Err(wrong("a dictionary of sorted strings and other keys"));
                    }
                    keys.sort();
                }
                self.list(['{', '}'], keys.len(), depth, json, |i, json| {
                    self.name(&keys[i], json)?;
                    json.push_str(&self.key);
                    self.write(&value.get_item(&keys[i])?, depth + 1, json)
                })?;
            }
            kind => return Err(wrong(kind)),
        }
        Ok(())
    }

    fn list(
        &self,
        [open, close]: [char; 2],
        len: usize,
        depth: usize,
        json: &mut String,
        mut write: impl FnMut(usize, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let line = |depth, json: &mut String| {
            if let Some(indent) = &self.indent {
                json.push('\n');
                (0..depth).for_each(|_| json.push_str(indent));
            }
        };
        json.push(open);
        for i in 0..len {
            if i > 0 {
                json.push_str(&self.item);
            }
            line(depth + 1, json);
            write(i, json)?;
        }
        if len > 0 {
            line(depth, json);
        }
        json.push(close);
        Ok(())
    }

    /// The key of a dictionary, which JSON has only as strings.
    fn name(&self, key: &Value, json: &mut String) -> Result<(), Error> {
        match key.kind() {
            ValueKind::String => self.string(key.as_str().unwrap_or_default(), json),
            ValueKind::None | ValueKind::Bool | ValueKind::Number => {
                json.push('"');
                self.write(key, 0, json)?;
                json.push('"');
            }
            kind => return Err(wrong(format!("{kind} as a key"))),
        }
        Ok(())
    }

    fn string(&self, text: &str, json: &mut String) {
        json.push('"');
        for c in text.chars() {
            match c {
                '"' => json.push_str("\\\""),
                '\\' => json.push_str("\\\\"),
                '\n' => json.push_str("\\n"),
                '\r' => json.push_str("\\r"),
                '\t' => json.push_str("\\t"),
                '\u{8}' => json.push_str("\\b"),
                '\u{c}' => json.push_str("\\f"),
                c if c < ' ' || (self.ensure_ascii && c > '~' && !is_break(c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(json, "\\u{unit:04x}");
                    }
                }
                c => json.push(c),
            }
        }
        json.push('"');
    }
}

fn float(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        _ if value.is_nan() => "NaN".to_owned(),
        _ => repr::float(value),
    }
}
