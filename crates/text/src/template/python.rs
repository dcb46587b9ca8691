//! What Hugging Face adds to Jinja: the clock and the tags of training.

use chrono::NaiveDateTime;
use minijinja::{Error, ErrorKind};
use std::fmt::Write;

/// A time, of no time zone, by a format of Python's `strftime`.
pub(super) fn strftime(time: NaiveDateTime, format: &str) -> Result<String, Error> {
    let mut directives = String::with_capacity(format.len());
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '%' { chars.next() } else { None }) {
            ('%', Some('f')) => directives.push_str("%6f"),
            ('%', Some('z' | 'Z')) => {}
            (c, next) => directives.extend([c].into_iter().chain(next)),
        }
    }
    let mut text = String::new();
    write!(text, "{}", time.format(&directives)).map_err(|_| {
        let message = format!("strftime_now: `{format}` has a directive that is not known");
        Error::new(ErrorKind::InvalidOperation, message)
    })?;
    Ok(text)
}

/// Replaces `{% generation %}` tags, by which transformers marks the text of the assistant, by plain blocks.
pub(super) fn without_generation_tags(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        plain.push_str(before);
        let name = tag.trim_start_matches(['-', '+']).trim_start();
        let len = name.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(name.len());
        let (name, after) = name.split_at(len);
        let block = match name {
            "generation" => "with",
            "endgeneration" => "endwith",
            _ => {
                rest = tag;
                continue;
            }
        };
        plain.push_str(&tag[..tag.len() - after.len() - name.len()]);
        plain.push_str(block);
        rest = after;
    }
    plain.push_str(rest);
    plain
}
