//! What Python does to texts, within the budget.

use minijinja::{Error, State};
use regex_automata::meta::Regex;
use std::sync::LazyLock;

use super::budget::spend;
use super::strings::pattern;

static IDENTIFIER: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\p{XID_Start}_]\p{XID_Continue}*$"));

/// `text.ljust(width, fill)`, `rjust`, `center`, or `zfill` without `fill`.
pub(super) fn padded(state: &mut State, method: &str, text: &str, width: i64, fill: char) -> Result<String, Error> {
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    spend(state, missing.saturating_mul(fill.len_utf8()))?;
    let fill = |n: usize| fill.to_string().repeat(n);
    // Python gives the odd one to the left where the width is odd.
    let left = missing / 2 + (missing & usize::try_from(width).unwrap_or(0) & 1);
    Ok(match method {
        "ljust" => format!("{text}{}", fill(missing)),
        "rjust" => format!("{}{text}", fill(missing)),
        "center" => format!("{}{text}{}", fill(left), fill(missing - left)),
        _ => {
            let sign = text.len() - text.trim_start_matches(['+', '-']).len().max(text.len().saturating_sub(1));
            format!("{}{}{}", &text[..sign], "0".repeat(missing), &text[sign..])
        }
    })
}

/// `text.expandtabs(size)`.
pub(super) fn expandtabs(state: &mut State, text: &str, size: i64) -> Result<String, Error> {
    let size = usize::try_from(size).unwrap_or(0);
    let (mut expanded, mut column) = (String::with_capacity(text.len()), 0);
    for c in text.chars() {
        match c {
            '\t' if size == 0 => {}
            '\t' => {
                let spaces = size - column % size;
                spend(state, spaces)?;
                expanded.extend(std::iter::repeat_n(' ', spaces));
                column += spaces;
            }
            c => {
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
                expanded.push(c);
            }
        }
    }
    Ok(expanded)
}

/// `text.casefold()`: Unicode's full folding, which is upper case made lower but for these.
pub(super) fn casefold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            'ı' => folded.push(c),
            // Cherokee, whose capitals are older.
            '\u{13a0}'..='\u{13fd}' | '\u{ab70}'..='\u{abbf}' => folded.extend(c.to_uppercase()),
            c => folded.extend(c.to_lowercase().flat_map(char::to_uppercase).flat_map(char::to_lowercase)),
        }
    }
    folded
}

/// `text.isidentifier()`.
pub(super) fn is_identifier(text: &str) -> bool {
    IDENTIFIER.is_match(text)
}
