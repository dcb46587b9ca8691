//! What Hugging Face adds to Jinja: the clock.

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
