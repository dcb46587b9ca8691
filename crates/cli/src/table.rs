//! Aligned text on stdout.

use std::io::{self, Write};

/// Two columns: what, and its value.
#[derive(Default)]
pub struct Facts(Vec<(String, String)>);

impl Facts {
    /// Adds a row.
    pub fn push(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.0.push((what.into(), value.into()));
    }

    /// Writes all rows.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.0.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        self.0.iter().try_for_each(|(what, value)| writeln!(out, "{:width$}  {}", visible(what), visible(value)))
    }
}

/// Text of a file on one line: what could steer a terminal is escaped.
pub fn visible(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

impl FromIterator<(String, String)> for Facts {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(rows: I) -> Facts {
        Facts(rows.into_iter().collect())
    }
}
