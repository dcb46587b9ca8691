//! Python's classes of characters.

use regex_automata::meta::Regex;
use std::sync::LazyLock;

use super::strings::pattern;

static ALPHA: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\p{L}$"));
static DECIMAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\p{Nd}$"));
static UNPRINTABLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\p{C}\p{Z}--\x20]"));
static TITLE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\p{Lt}$"));

/// Digits that are not decimal, such as those in circles.
static DIGITS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(concat!(
        r"^[²³¹\u{1369}-\u{1371}\u{19da}\u{2070}\u{2074}-\u{2079}\u{2080}-\u{2089}\u{2460}-\u{2468}\u{2474}-\u{247c}",
        r"\u{2488}-\u{2490}\u{24ea}\u{24f5}-\u{24fd}\u{24ff}\u{2776}-\u{277e}\u{2780}-\u{2788}\u{278a}-\u{2792}",
        r"\u{10a40}-\u{10a43}\u{10e60}-\u{10e68}\u{11052}-\u{1105a}\u{1f100}-\u{1f10a}]$"
    ))
});

fn is(class: &Regex, c: char) -> bool {
    class.is_match(&*c.encode_utf8(&mut [0; 4]))
}

pub(super) fn is_alpha(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphabetic() } else { is(&ALPHA, c) }
}

pub(super) fn is_decimal(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_digit() } else { is(&DECIMAL, c) }
}

pub(super) fn is_digit(c: char) -> bool {
    is_decimal(c) || is(&DIGITS, c)
}

pub(super) fn is_numeric(c: char) -> bool {
    c.is_numeric() || "〇一二三四五六七八九十百千万億兆零壱弐参拾".contains(c)
}

pub(super) fn is_printable(text: &str) -> bool {
    !UNPRINTABLE.is_match(text)
}

fn is_titlecase(c: char) -> bool {
    !c.is_ascii() && is(&TITLE, c)
}

pub(super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || is_titlecase(c)
}

/// Whether a text has characters, and all are of a class.
pub(super) fn all(text: &str, class: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(class)
}

pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(|c| c.is_uppercase() || is_titlecase(c))
}

pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(|c| c.is_lowercase() || is_titlecase(c))
}

/// Whether capitals begin words, and only these.
pub(super) fn is_title(text: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for c in text.chars() {
        let capital = c.is_uppercase() || is_titlecase(c);
        if capital && inside || c.is_lowercase() && !inside {
            return false;
        }
        inside = is_cased(c);
        any |= inside;
    }
    any
}
