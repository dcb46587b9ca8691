//! Regular expressions.

use llguidance::derivre::RegexBuilder;
use llguidance::regex_to_lark;

/// Whether a regular expression is one for a whole text.
pub fn check(text: &str) -> Result<(), String> {
    let parsed = RegexBuilder::new().mk_regex(&regex_to_lark(text, ""));
    parsed.map(drop).map_err(|error| problem(&error.to_string()))
}

/// Whether a regular expression is one to search for, in the syntax of JSON Schema.
pub fn search_pattern(text: &str) -> Result<(), String> {
    let parsed = RegexBuilder::new().mk_regex_for_serach(&regex_to_lark(text, "dw"));
    parsed.map(drop).map_err(|error| format!("not supported as a regular expression: {}", problem(&error.to_string())))
}

/// What is wrong, without the picture of where.
fn problem(error: &str) -> String {
    error.lines().rev().find_map(|line| line.strip_prefix("error: ")).unwrap_or(error).to_owned()
}

/// A regular expression for a text.
pub fn literal(text: &str) -> String {
    let escaped = |c: char| {
        let meta = r"\.+*?()|[]{}^$#&-~".contains(c);
        meta.then_some('\\').into_iter().chain([c])
    };
    text.chars().flat_map(escaped).collect()
}
