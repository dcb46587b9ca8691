//! Lark grammars, before the compiler has them.

use crate::grammar::invalid;
use crate::{Error, Limits, schema};
use serde_json::Value;

/// A grammar within the limits, whose schemas are those of the compiler.
pub fn lower(text: &str, limits: &Limits) -> Result<String, Error> {
    let limit = |limit: String| Error::Limit { what: "grammar", limit };
    if text.lines().count() > limits.lines {
        return Err(limit(format!("expected at most {} lines", limits.lines)));
    }
    let (mut lowered, mut rest, mut depth) = (String::with_capacity(text.len()), text, 0usize);
    while let Some(c) = rest.chars().next() {
        let after = rest.strip_prefix("%json").filter(|after| after.trim_start().starts_with(['{', '"', 't', 'f']));
        if let Some(after) = after {
            let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
            let schema = match values.next() {
                Some(Ok(schema)) => schema,
                Some(Err(error)) => return Err(invalid("grammar", format!("%json: {error}"))),
                None => return Err(invalid("grammar", "%json: expected a schema".to_owned())),
            };
            lowered.push_str("%json ");
            lowered.push_str(&schema::lower(&schema, limits)?.to_string());
            rest = &after[values.byte_offset()..];
            continue;
        }
        let len = match c {
            '"' => quoted(rest, '"'),
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' => quoted(rest, '/'),
            _ => c.len_utf8(),
        };
        depth = match c {
            '(' | '[' | '{' | '~' => depth + 1,
            ')' | ']' | '}' => depth.saturating_sub(1),
            // A range such as `~1..3`, or a rule, has ended.
            '\n' if rest[1..].starts_with(|c: char| c.is_alphanumeric() || "_?!".contains(c)) => 0,
            '0'..='9' if lowered.ends_with('~') => depth.saturating_sub(1),
            _ => depth,
        };
        if depth > limits.depth {
            return Err(limit(format!("expected at most {} levels", limits.depth)));
        }
        lowered.push_str(&rest[..len]);
        rest = &rest[len..];
    }
    Ok(lowered)
}

/// The length of what begins with `quote`, to its end or that of the line.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}
