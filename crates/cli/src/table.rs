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
        self.0.iter().try_for_each(|(what, value)| writeln!(out, "{what:width$}  {value}"))
    }
}

impl FromIterator<(String, String)> for Facts {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(rows: I) -> Facts {
        Facts(rows.into_iter().collect())
    }
}
