//! Lines for people on stderr, coloured as clap's on a terminal.

use console::{Style, style};
use std::fmt;
use std::io::Write;

/// What a line may begin with, and its style, which is clap's where clap has one.
fn label(name: &str) -> Option<Style> {
    let style = Style::new().for_stderr().bold();
    match name {
        "error" => Some(style.red()),
        "warning" => Some(style.yellow()),
        "hint" => Some(style.green()),
        "note" => Some(style),
        _ => None,
    }
}

/// Prints lines, with their labels in colour. A stderr that is closed is not an error.
pub fn note(lines: fmt::Arguments) {
    let mut text = String::new();
    for line in lines.to_string().split('\n') {
        match line.split_once(": ").and_then(|(name, rest)| Some((label(name)?.apply_to(name).to_string(), rest))) {
            Some((name, rest)) => text.extend([&name, ": ", rest, "\n"]),
            None => text.extend([line, "\n"]),
        }
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// Prints lines that matter less than those around them: dim.
pub fn aside(lines: fmt::Arguments) {
    let lines = lines.to_string();
    let dim = lines.split('\n').map(|line| style(line).for_stderr().dim().to_string() + "\n");
    let _ = std::io::stderr().write_all(dim.collect::<String>().as_bytes());
}
