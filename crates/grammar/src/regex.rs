//! Regular expressions.

use llguidance::derivre::{ExprRef, RegexBuilder};
use llguidance::regex_to_lark;
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// Whether a regular expression is one for a whole text.
pub fn check(text: &str) -> Result<(), String> {
    let parsed = RegexBuilder::new().mk_regex(&regex_to_lark(text, ""));
    parsed.map(drop).map_err(|error| problem(&error.to_string()))
}

/// The control characters that no string of an answer has, for a class: those without an escape of one letter.
pub const CONTROLS: &str = r"\x00-\x07\x0b\x0e-\x1f\x7f";

/// Whether a character is one of [`CONTROLS`].
pub fn is_control(c: char) -> bool {
    c.is_ascii_control() && !"\u{8}\t\n\u{c}\r".contains(c)
}

/// A regular expression to search for, in the syntax of JSON Schema, without [`CONTROLS`]: where a class has all control characters, the
/// compiler takes it to have quotes and backslashes, too.
pub fn search_pattern(text: &str) -> Result<String, String> {
    let invalid =
        |error: &dyn ToString| format!("not supported as a regular expression: {}", problem(&error.to_string()));
    let text = regex_to_lark(text, "dw");
    let parse = |text: &str| RegexBuilder::new().mk_regex_for_serach(text).map_err(|error| invalid(&error));
    let parsed = parse(&text)?;
    let hir = regex_syntax::parse(&text).map_err(|error| invalid(&error))?;
    let written = without_controls(&hir).to_string();
    if parse(&written)? == ExprRef::NO_MATCH && parsed != ExprRef::NO_MATCH {
        return Err("it asks for control characters that are not supported".to_owned());
    }
    Ok(written)
}

fn without_controls(hir: &Hir) -> Hir {
    let each = |list: &[Hir]| list.iter().map(without_controls).collect();
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.iter().any(|&byte| is_control(char::from(byte))) => Hir::fail(),
        HirKind::Class(class) => {
            let mut class = match class {
                Class::Unicode(class) => class.clone(),
                Class::Bytes(class) => class.to_unicode_class().unwrap_or_else(ClassUnicode::empty),
            };
            let controls = (0..=0x7f_u8).map(char::from).filter(|&c| is_control(c));
            class.difference(&ClassUnicode::new(controls.map(|c| ClassUnicodeRange::new(c, c))));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Repetition(repetition) => Hir::repetition(repetition.with(without_controls(&repetition.sub))),
        HirKind::Capture(capture) => without_controls(&capture.sub),
        HirKind::Concat(list) => Hir::concat(each(list)),
        HirKind::Alternation(list) => Hir::alternation(each(list)),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Look(_) => hir.clone(),
    }
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
