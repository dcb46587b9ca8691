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

/// Rows as lines of columns, the first `left` of them aligned to the left and the others, numbers, to the right.
pub fn columns<const N: usize>(rows: &[[String; N]], left: usize) -> String {
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cell = |(i, text): (usize, &String)| {
            let width = widths[i];
            if i < left { format!("{text:width$}") } else { format!("{text:>width$}") }
        };
        row.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
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
