//! Aligned text on stdout.

use std::io::{self, Write};

/// Rows of a name and a value.
#[derive(Default)]
pub struct Facts(Vec<(String, String)>);

impl Facts {
    pub fn push(&mut self, what: impl Into<String>, value: impl Into<String>) {
        self.0.push((what.into(), value.into()));
    }

    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let width = self.0.iter().map(|(what, _)| what.chars().count()).max().unwrap_or(0);
        self.0.iter().try_for_each(|(what, value)| writeln!(out, "{:width$}  {}", visible(what), visible(value)))
    }
}

/// Aligns rows of text. The first `left` columns are aligned to the left, the others to the right.
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

/// Untrusted text on one line, with control characters escaped.
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
