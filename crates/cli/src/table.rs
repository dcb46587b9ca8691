//! Aligned text on stdout.

use serde_json::Value;
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

/// The same rows as a table in Markdown.
pub fn markdown<const N: usize>(rows: &[[String; N]], left: usize) -> String {
    let line = |row: &[String; N]| format!("| {} |", row.each_ref().map(|text| text.replace('|', "\\|")).join(" | "));
    let rule: [&str; N] = std::array::from_fn(|i| if i < left { "---" } else { "---:" });
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.insert(1.min(lines.len()), format!("|{}|", rule.join("|")));
    lines.join("\n")
}

/// Objects as comma-separated values (RFC 4180): a column for each key of the first, `a_b` for `b` in an object `a`. Lists are left out, and
/// null is empty.
pub fn csv(objects: &[Value]) -> String {
    let rows: Vec<Vec<(String, String)>> = objects.iter().map(|object| flat("", object)).collect();
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in rows.iter().flatten() {
        if !names.contains(&&**name) {
            names.push(name);
        }
    }
    let cell = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let line = |row: &Vec<(String, String)>| {
        let of =
            |name: &&str| row.iter().find(|(known, _)| known == name).map_or(String::new(), |(_, text)| cell(text));
        names.iter().map(of).collect::<Vec<_>>().join(",")
    };
    let head = names.iter().map(|name| cell(name)).collect::<Vec<_>>().join(",");
    std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n")
}

/// The names and values of an object that are not lists.
fn flat(prefix: &str, value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Object(object) => {
            let name = |key: &str| if prefix.is_empty() { key.to_owned() } else { format!("{prefix}_{key}") };
            object.iter().flat_map(|(key, value)| flat(&name(key), value)).collect()
        }
        Value::Array(_) => Vec::new(),
        Value::Null => vec![(prefix.to_owned(), String::new())],
        Value::String(text) => vec![(prefix.to_owned(), text.clone())],
        other => vec![(prefix.to_owned(), other.to_string())],
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_are_quoted_where_they_must_be() {
        let found = csv(&[json!({"a": 1, "b": {"c": "x, \"y\"", "d": null}, "e": [1]}), json!({"a": 2, "b": null})]);
        assert_eq!(found, "a,b_c,b_d,b\n1,\"x, \"\"y\"\"\",,\n2,,,");
        let rows = [["test", "n"], ["a|b", "1"]].map(|row| row.map(str::to_owned));
        assert_eq!(markdown(&rows, 1), "| test | n |\n|---|---:|\n| a\\|b | 1 |");
    }
}
