//! GBNF, the grammars of llama.cpp, as Lark.
//!
//! GBNF has no lexer: any two ways to read a text count. The compiler has one, and its lexemes are greedy. So what contains no recursion becomes one
//! lexeme, for speed, where greed cannot go wrong, and is split down to single characters where it could ([`lexemes`]).

mod chars;
mod lexemes;
mod parser;

use crate::{Error, Limits};
use chars::Chars;
use lexemes::Lexemes;
use std::fmt::Write;

/// A part of a grammar, by its number.
type Id = usize;

/// The parts that a rule consists of.
#[derive(Debug)]
enum Part {
    Chars(Chars),
    /// A control token, as Lark names it.
    Token(String),
    Rule(usize),
    Sequence(Vec<Id>),
    Alternatives(Vec<Id>),
    Repeat(Id, u32, Option<u32>),
}

/// The rules of a grammar, whose first is that of the whole answer.
struct Grammar {
    parts: Vec<Part>,
    rules: Vec<Id>,
}

impl Grammar {
    fn children(&self, id: Id) -> &[Id] {
        match &self.parts[id] {
            Part::Sequence(parts) | Part::Alternatives(parts) => parts,
            Part::Repeat(part, ..) => std::slice::from_ref(part),
            Part::Rule(rule) => std::slice::from_ref(&self.rules[*rule]),
            Part::Chars(_) | Part::Token(_) => &[],
        }
    }
}

/// The grammar in Lark.
pub fn lower(text: &str, limits: &Limits) -> Result<String, Error> {
    let mut grammar = parser::parse(text, limits)?;
    let lexemes = Lexemes::of(&mut grammar, limits)?;
    let mut lark = Lark { grammar: &grammar, lexemes: &lexemes, text: "start: r0\n".to_owned() };
    for (rule, &id) in grammar.rules.iter().enumerate() {
        if lexemes.is_rule(rule) {
            let body = lark.body(id, false);
            let _ = writeln!(lark.text, "r{rule}: {body}");
        }
        if lexemes.regular(id) {
            let body = lark.body(id, true);
            let _ = writeln!(lark.text, "T{rule}: {body}");
        }
    }
    Ok(lark.text)
}

struct Lark<'a> {
    grammar: &'a Grammar,
    lexemes: &'a Lexemes,
    text: String,
}

impl Lark<'_> {
    /// A part, in a rule or inside a lexeme.
    fn body(&mut self, id: Id, inside: bool) -> String {
        if !inside && self.lexemes.is_lexeme(id) {
            let body = self.body(id, true);
            let _ = writeln!(self.text, "L{id}: {body}");
            return if self.lexemes.is_nullable(id) { format!("L{id}?") } else { format!("L{id}") };
        }
        let grammar = self.grammar;
        let mut list = |parts: &[Id], between: &str| {
            let parts: Vec<String> = parts.iter().map(|&part| self.body(part, inside)).collect();
            if parts.is_empty() { "\"\"".to_owned() } else { format!("({})", parts.join(between)) }
        };
        match &grammar.parts[id] {
            Part::Chars(chars) => format!("/{}/", chars.regex()),
            Part::Token(name) => name.clone(),
            Part::Rule(rule) if inside => format!("T{rule}"),
            Part::Rule(rule) => format!("r{rule}"),
            Part::Sequence(parts) => list(parts, " "),
            Part::Alternatives(parts) => list(parts, " | "),
            Part::Repeat(_, _, Some(0)) => "\"\"".to_owned(),
            Part::Repeat(part, least, most) => {
                let part = list(&[*part], " ");
                match (least, most) {
                    (0, None) => format!("{part}*"),
                    (1, None) => format!("{part}+"),
                    (0, Some(1)) => format!("{part}?"),
                    (least, None) => format!("{part}{{{least},}}"),
                    (least, Some(most)) => format!("{part}{{{least},{most}}}"),
                }
            }
        }
    }
}
