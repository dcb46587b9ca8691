//! The `pprint` filter: Python's `pprint.pformat(value)`.

use minijinja::value::ValueKind;
use minijinja::{Error, State, Value};

use super::args::{Args, required};
use super::attributes::is_dict;
use super::budget::{ENTRY, spend};
use super::iterators::is_tuple;
use super::repr;
use super::strings::{is_space, splitlines};

/// Characters of a line.
const WIDTH: usize = 80;

pub(super) fn pprint(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value] = args.bind([required("value")])?;
    let mut text = String::new();
    let place = Position { indent: 0, after: 0, top: true };
    write(state, &value, place, &mut text)?;
    Ok(text.into())
}

/// The position of a value in the output.
#[derive(Clone, Copy)]
struct Position {
    /// Characters before the value on the line.
    indent: usize,
    /// Characters after the value on the line.
    after: usize,
    /// Whether the value is not nested.
    top: bool,
}

impl Position {
    /// The number of characters available for the value.
    fn room(self) -> usize {
        WIDTH.saturating_sub(self.indent + self.after)
    }
}

/// On one line if it fits, or else an entry on each.
fn write(state: &mut State, value: &Value, place: Position, text: &mut String) -> Result<(), Error> {
    let whole = repr::sorted(value);
    // What is in it is written again on a line of its own.
    spend(state, whole.len().saturating_mul(ENTRY))?;
    if whole.chars().count() <= place.room() {
        text.push_str(&whole);
        return Ok(());
    }
    let (open, close) = match value.kind() {
        ValueKind::String => return string(state, value.as_str().unwrap_or_default(), place, text),
        ValueKind::Map if is_dict(value) => ("{", "}"),
        ValueKind::Seq if is_tuple(value) => ("(", if value.len() == Some(1) { ",)" } else { ")" }),
        ValueKind::Seq => ("[", "]"),
        _ => {
            text.push_str(&whole);
            return Ok(());
        }
    };
    text.push_str(open);
    let entries = repr::entries(value, value.kind() == ValueKind::Map);
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            line(state, place.indent + 1, ",", text)?;
        }
        let after = if i + 1 < entries.len() { 1 } else { place.after + close.len() };
        let (indent, item) = match value.kind() {
            ValueKind::Map => {
                let name = repr::sorted(entry);
                text.extend([&name, ": "]);
                (place.indent + 3 + name.chars().count(), value.get_item(entry)?)
            }
            _ => (place.indent + 1, entry.clone()),
        };
        write(state, &item, Position { indent, after, top: false }, text)?;
    }
    text.push_str(close);
    Ok(())
}

/// Ends a line and begins another.
fn line(state: &mut State, indent: usize, end: &str, text: &mut String) -> Result<(), Error> {
    spend(state, indent)?;
    text.extend([end, "\n"]);
    text.extend(std::iter::repeat_n(' ', indent));
    Ok(())
}

/// As literals below each other, which Python reads as one.
fn string(state: &mut State, string: &str, place: Position, text: &mut String) -> Result<(), Error> {
    let (indent, after) = if place.top { (1, 1) } else { (place.indent, place.after) };
    let room = |last: bool| WIDTH.saturating_sub(indent + if last { after } else { 0 });
    let literal = |part: &str| repr::repr(&Value::from(part));
    let fits = |part: &str, last: bool| literal(part).chars().count() <= room(last);
    let lines = splitlines(string, true);
    let mut literals = Vec::new();
    for (i, &line) in lines.iter().enumerate() {
        let last_line = i + 1 == lines.len();
        if fits(line, last_line) {
            literals.push(literal(line));
            continue;
        }
        let mut current = 0..0;
        while current.end < line.len() {
            let rest = &line[current.end..];
            let word = rest.find(is_space).unwrap_or(rest.len());
            let len = rest[word..].find(|c| !is_space(c)).map_or(rest.len(), |spaces| word + spaces);
            let end = current.end + len;
            spend(state, end - current.start)?;
            if !fits(&line[current.start..end], last_line && end == line.len()) {
                if !current.is_empty() {
                    literals.push(literal(&line[current.clone()]));
                }
                current.start = current.end;
            }
            current.end = end;
        }
        literals.push(literal(&line[current]));
    }
    let bracketed = place.top && literals.len() > 1;
    text.push_str(if bracketed { "(" } else { "" });
    for (i, literal) in literals.iter().enumerate() {
        if i > 0 {
            line(state, indent, "", text)?;
        }
        text.push_str(literal);
    }
    text.push_str(if bracketed { ")" } else { "" });
    Ok(())
}
