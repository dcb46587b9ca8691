//! Reading the arguments of a call as JSON.

use super::literals::{QUOTE, gemma_arguments, python, python_arguments};
use super::tools::{Arguments, Tags};
use super::{Kinds, Tool};
use serde_json::Value;
use std::borrow::Cow;

/// What came of looking at the text so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// So many bytes belong to it.
    Full(usize),
    /// More text decides.
    Partial,
    No,
}

/// Whether a text begins with a pattern, whose spaces stand for any whitespace or none.
pub fn begins(text: &str, pattern: &str) -> Match {
    let mut rest = text;
    for c in pattern.chars() {
        if c.is_whitespace() {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Match::Partial;
            }
            continue;
        }
        match rest.chars().next() {
            None => return Match::Partial,
            Some(next) if next == c => rest = &rest[c.len_utf8()..],
            Some(_) => return Match::No,
        }
    }
    Match::Full(text.len() - rest.len())
}

/// Where a pattern first begins, and how long it is there; `Err` with the place from which it may begin, or the end.
pub fn find(text: &str, pattern: &str) -> Result<(usize, usize), usize> {
    for (at, _) in text.char_indices() {
        match begins(&text[at..], pattern) {
            Match::Full(len) => return Ok((at, len)),
            Match::Partial => return Err(at),
            Match::No => {}
        }
    }
    Err(text.len())
}

/// A reader of arguments: it takes text from the front of a buffer, and appends to a JSON object.
#[derive(Debug, Clone)]
pub enum Reader {
    Json(Json),
    Tagged { tags: Tags, first: bool, value: Option<Argument> },
    Whole { gemma: bool },
}

/// Where a JSON object is.
#[derive(Debug, Clone, Default)]
pub struct Json {
    depth: usize,
    string: bool,
    escaped: bool,
}

/// A value between tags.
#[derive(Debug, Clone)]
pub struct Argument {
    kinds: Kinds,
    /// Whether a line break before the value was dropped, or there was none.
    begun: bool,
}

impl Reader {
    pub fn new(arguments: Arguments) -> Reader {
        match arguments {
            Arguments::Json => Reader::Json(Json::default()),
            Arguments::Tagged(tags) => Reader::Tagged { tags, first: true, value: None },
            Arguments::Python => Reader::Whole { gemma: false },
            Arguments::Gemma => Reader::Whole { gemma: true },
        }
    }

    /// Reads on. [`Match::Full`] when the object is complete; bytes that it took are removed from the buffer.
    pub fn read(&mut self, buffer: &mut String, tool: Option<&Tool>, json: &mut String) -> Match {
        match self {
            Reader::Json(object) => object.read(buffer, json),
            Reader::Whole { gemma } => whole(buffer, *gemma, json),
            Reader::Tagged { tags, first, value } => loop {
                match value {
                    None => match next_argument(buffer, tags, tool) {
                        Ok(Some((name, kinds))) => {
                            json.push_str(if std::mem::take(first) { "{" } else { ", " });
                            json.push_str(&quoted(&name));
                            json.push_str(if kinds.other { ": " } else { ": \"" });
                            *value = Some(Argument { kinds, begun: false });
                        }
                        Ok(None) => {
                            json.push_str(if *first { "{}" } else { "}" });
                            return Match::Full(0);
                        }
                        Err(()) => return Match::Partial,
                    },
                    Some(argument) => match argument.read(buffer, tags, json) {
                        Match::Full(_) => *value = None,
                        more => return more,
                    },
                }
            },
        }
    }

    /// The rest of a value that is cut off.
    pub fn finish(&mut self, buffer: &mut String, json: &mut String) {
        if let Reader::Tagged { value: Some(Argument { kinds: Kinds { other: false, .. }, .. }), .. } = self {
            json.push_str(&escaped(buffer));
        }
        buffer.clear();
    }
}

impl Json {
    fn read(&mut self, buffer: &mut String, json: &mut String) -> Match {
        if self.depth == 0 {
            let text = buffer.trim_start();
            if text.is_empty() {
                return Match::Partial;
            }
            if !text.starts_with('{') {
                return Match::No;
            }
            buffer.drain(..buffer.len() - text.len());
        }
        let end = buffer.bytes().position(|byte| self.ends(byte));
        json.extend(buffer.drain(..end.map_or(buffer.len(), |end| end + 1)));
        if end.is_some() { Match::Full(0) } else { Match::Partial }
    }

    /// Whether the object ends with this byte.
    fn ends(&mut self, byte: u8) -> bool {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.string => self.escaped = true,
            b'"' => self.string = !self.string,
            _ if self.string => {}
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

/// The name of the argument that begins here and what it may be, `None` if none does, or `Err` if more text decides.
fn next_argument(buffer: &mut String, tags: &Tags, tool: Option<&Tool>) -> Result<Option<(String, Kinds)>, ()> {
    let start = buffer.len() - buffer.trim_start().len();
    let open = match begins(&buffer[start..], tags.open) {
        Match::Full(len) => start + len,
        Match::Partial => return Err(()),
        Match::No => return Ok(None),
    };
    let [string, other] = tags.named.map(|named| find(&buffer[open..], named));
    // The earlier one; what may still begin before it decides.
    let (is_string, (at, len)) = match (string, other) {
        (Ok(found), Err(at) | Ok((at, _))) if found.0 <= at => (true, found),
        (Err(at) | Ok((at, _)), Ok(found)) if found.0 <= at => (false, found),
        _ => return Err(()),
    };
    let name = buffer[open..open + at].to_owned();
    buffer.drain(..open + at + len);
    let kinds = match tags.named[0] == tags.named[1] {
        true => Kinds::of_argument(tool, &name),
        false => Kinds { string: is_string, other: !is_string },
    };
    Ok(Some((name, kinds)))
}

impl Argument {
    fn read(&mut self, buffer: &mut String, tags: &Tags, json: &mut String) -> Match {
        if tags.lines && !self.begun {
            match buffer.as_bytes().first() {
                None => return Match::Partial,
                Some(b'\n') => drop(buffer.remove(0)),
                Some(_) => {}
            }
        }
        self.begun = true;
        let end = buffer.find(tags.close);
        let text = match end {
            Some(end) => &buffer[..end],
            None if self.kinds.other => return Match::Partial,
            None => &buffer[..buffer.len() - held(buffer, tags)],
        };
        let text = if tags.lines && end.is_some() { text.strip_suffix('\n').unwrap_or(text) } else { text };
        match self.kinds.other {
            true => json.push_str(&value(text, self.kinds)),
            false => json.push_str(&escaped(text)),
        }
        let len = text.len();
        buffer.drain(..end.map_or(len, |end| end + tags.close.len()));
        if end.is_none() {
            return Match::Partial;
        }
        if !self.kinds.other {
            json.push('"');
        }
        Match::Full(0)
    }
}

/// Bytes at the end of a text with which the closing tag may begin.
fn held(text: &str, tags: &Tags) -> usize {
    let tag =
        (1..tags.close.len()).rev().find(|&len| tags.close.is_char_boundary(len) && text.ends_with(&tags.close[..len]));
    let tag = tag.unwrap_or(0);
    let line = tags.lines && text[..text.len() - tag].ends_with('\n');
    tag + usize::from(line)
}

/// The JSON of a value that is written raw if it is a string.
fn value(text: &str, kinds: Kinds) -> Cow<'_, str> {
    let trimmed = text.trim();
    match serde_json::from_str::<Value>(trimmed) {
        Ok(Value::String(_)) if kinds.string => {}
        Ok(_) => return trimmed.into(),
        Err(_) => {
            if let Some(value) = python(trimmed).filter(|value| !value.is_string() || !kinds.string) {
                return value.to_string().into();
            }
        }
    }
    quoted(text).into()
}

/// Arguments that are converted when they are complete.
fn whole(buffer: &mut String, gemma: bool, json: &mut String) -> Match {
    let (mut depth, mut quote, mut at) = (0usize, None, 0);
    let end = loop {
        let rest = &buffer[at..];
        let Some(c) = rest.chars().next() else { return Match::Partial };
        if gemma && QUOTE.starts_with(&rest[..rest.len().min(QUOTE.len())]) {
            if rest.len() < QUOTE.len() {
                return Match::Partial;
            }
            quote = if quote.is_some() { None } else { Some('"') };
            at += QUOTE.len();
            continue;
        }
        match (c, quote) {
            ('\\', Some(_)) if !gemma => {
                let Some(escaped) = rest[1..].chars().next() else { return Match::Partial };
                at += escaped.len_utf8();
            }
            (c, Some(open)) if !gemma && c == open => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) if !gemma => quote = Some(c),
            (')', None) if depth == 0 && !gemma => break at,
            ('(' | '[' | '{', None) => depth += 1,
            (')' | ']' | '}', None) => {
                depth = depth.saturating_sub(1);
                if gemma && depth == 0 {
                    break at + 1;
                }
            }
            (_, None) if gemma && depth == 0 => return Match::No,
            _ => {}
        }
        at += c.len_utf8();
    };
    let text = &buffer[..end];
    let Some(arguments) = (if gemma { gemma_arguments(text) } else { python_arguments(text) }) else {
        return Match::No;
    };
    json.push_str(&arguments.to_string());
    buffer.drain(..end);
    Match::Full(0)
}

/// A text as JSON writes it.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The same without quotes.
fn escaped(text: &str) -> String {
    let text = quoted(text);
    text[1..text.len() - 1].to_owned()
}
