//! Python's functions of strings that need no budget.

use minijinja::Value;
use regex_automata::meta::Regex;

/// Compiles a constant regular expression.
pub(super) fn pattern(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern compiles")
}

/// Python's whitespace.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Escapes special characters of HTML, like `markupsafe`.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A text that is marked as safe if `of` is.
pub(super) fn text_like(of: &Value, text: String) -> Value {
    if of.is_safe() { Value::from_safe_string(text) } else { text.into() }
}

/// Python's `text.splitlines(ends)`.
pub(super) fn splitlines(text: &str, ends: bool) -> Vec<&str> {
    const BREAKS: &[char] =
        &['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(BREAKS) {
        let end = if rest[at..].starts_with("\r\n") { 2 } else { rest[at..].chars().next().map_or(1, char::len_utf8) };
        lines.push(&rest[..if ends { at + end } else { at }]);
        rest = &rest[at + end..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}

/// The capital of a letter at the start of a word.
pub(super) fn titlecase(c: char) -> String {
    match c {
        // Letters of two have a form of their own.
        'Ǆ'..='ǆ' => 'ǅ'.into(),
        'Ǉ'..='ǉ' => 'ǈ'.into(),
        'Ǌ'..='ǌ' => 'ǋ'.into(),
        'Ǳ'..='ǳ' => 'ǲ'.into(),
        // As have those with an iota, which is below or beside.
        'ᾀ'..='ᾇ' | 'ᾐ'..='ᾗ' | 'ᾠ'..='ᾧ' => char::from_u32(c as u32 + 8).unwrap_or(c).into(),
        'ᾳ' | 'ῃ' | 'ῳ' => char::from_u32(c as u32 + 9).unwrap_or(c).into(),
        'ᾈ'..='ᾏ' | 'ᾘ'..='ᾟ' | 'ᾨ'..='ᾯ' | 'ᾼ' | 'ῌ' | 'ῼ' => c.into(),
        _ => {
            let mut upper = c.to_uppercase();
            let first = upper.next().into_iter();
            first.chain(upper.flat_map(char::to_lowercase)).collect()
        }
    }
}

/// Python's `text.capitalize()`.
pub(super) fn capitalize(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| titlecase(first) + &chars.as_str().to_lowercase())
}
