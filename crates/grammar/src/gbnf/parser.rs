//! The syntax of GBNF.

use super::{Chars, Grammar, Id, Part};
use crate::grammar::invalid;
use crate::{Error, Limits};
use std::collections::HashMap;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    limits: &'a Limits,
    grammar: Grammar,
    /// Rules by name, with the place of their first use.
    names: HashMap<&'a str, (usize, usize)>,
}

/// A rule that is used and not yet defined.
const UNDEFINED: Id = Id::MAX;

pub fn parse(text: &str, limits: &Limits) -> Result<Grammar, Error> {
    let grammar = Grammar { parts: Vec::new(), rules: Vec::new() };
    let mut parser = Parser { text, at: 0, depth: 0, limits, grammar, names: HashMap::new() };
    parser.rule_of("root", 0);
    parser.space(true);
    while !parser.rest().is_empty() {
        parser.rule()?;
    }
    for (name, (rule, at)) in &parser.names {
        if parser.grammar.rules[*rule] == UNDEFINED {
            parser.at = *at;
            return Err(parser.error(&format!("a rule called {name}"), "none"));
        }
    }
    Ok(parser.grammar)
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, expected: &str, found: &str) -> Error {
        let before = &self.text[..self.at];
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
        invalid("grammar", format!("line {line}, column {column}: expected {expected}, found {found}"))
    }

    fn unexpected(&self, expected: &str) -> Error {
        let found = self.rest().chars().next().map_or("the end".to_owned(), |c| format!("{c:?}"));
        self.error(expected, &found)
    }

    fn eat(&mut self, text: &str) -> bool {
        let eaten = self.rest().starts_with(text);
        self.at += if eaten { text.len() } else { 0 };
        eaten
    }

    /// Skips spaces and comments, and ends of lines with `lines`.
    fn space(&mut self, lines: bool) {
        loop {
            let rest = self.rest();
            let skipped = match rest.chars().next() {
                Some(' ' | '\t') => 1,
                Some('\n' | '\r') if lines => 1,
                Some('#') => rest.find(['\n', '\r']).unwrap_or(rest.len()),
                _ => return,
            };
            self.at += skipped;
        }
    }

    fn add(&mut self, part: Part) -> Result<Id, Error> {
        if self.grammar.parts.len() >= self.limits.schemas {
            return Err(Error::Limit {
                what: "grammar",
                limit: format!("expected at most {} parts", self.limits.schemas),
            });
        }
        self.grammar.parts.push(part);
        Ok(self.grammar.parts.len() - 1)
    }

    fn rule_of(&mut self, name: &'a str, at: usize) -> usize {
        let new = self.grammar.rules.len();
        let (rule, _) = *self.names.entry(name).or_insert((new, at));
        if rule == new {
            self.grammar.rules.push(UNDEFINED);
        }
        rule
    }

    fn name(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
        self.at += len;
        (len > 0).then(|| &rest[..len])
    }

    fn rule(&mut self) -> Result<(), Error> {
        let start = self.at;
        let name = self.name().ok_or_else(|| self.unexpected("the name of a rule"))?;
        self.space(false);
        if !self.eat("::=") {
            return Err(self.unexpected("::="));
        }
        self.space(true);
        let rule = self.rule_of(name, start);
        let body = self.alternatives(false)?;
        if self.grammar.rules[rule] != UNDEFINED {
            self.at = start;
            return Err(self.error("one rule of a name", &format!("another rule called {name}")));
        }
        self.grammar.rules[rule] = body;
        if !self.rest().is_empty() && !self.rest().starts_with(['\n', '\r']) {
            return Err(self.unexpected("the end of a rule"));
        }
        self.space(true);
        Ok(())
    }

    fn alternatives(&mut self, grouped: bool) -> Result<Id, Error> {
        self.depth += 1;
        if self.depth > self.limits.depth {
            return Err(Error::Limit {
                what: "grammar",
                limit: format!("expected at most {} levels", self.limits.depth),
            });
        }
        let mut all = vec![self.sequence(grouped)?];
        while self.eat("|") {
            self.space(true);
            all.push(self.sequence(grouped)?);
        }
        self.depth -= 1;
        if all.len() == 1 { Ok(all[0]) } else { self.add(Part::Alternatives(all)) }
    }

    fn sequence(&mut self, grouped: bool) -> Result<Id, Error> {
        let mut parts = Vec::new();
        loop {
            let first = parts.len();
            match self.rest().chars().next() {
                Some('"') => {
                    self.at += 1;
                    let mut chars = Vec::new();
                    while !self.eat("\"") {
                        let c = self.char("\"")?;
                        chars.push(self.add(Part::Chars(Chars::one(c)))?);
                    }
                    parts.push(self.add(Part::Sequence(chars))?);
                }
                Some('[') => {
                    let chars = self.class()?;
                    parts.push(self.add(Part::Chars(chars))?);
                }
                Some('.') => {
                    self.at += 1;
                    parts.push(self.add(Part::Chars(Chars::all()))?);
                }
                Some('(') => {
                    self.at += 1;
                    self.space(true);
                    parts.push(self.alternatives(true)?);
                    if !self.eat(")") {
                        return Err(self.unexpected(")"));
                    }
                }
                Some('<') => {
                    let end = self.rest().find('>').filter(|&end| !self.rest()[..end].contains(['\n', '"', ' ']));
                    let end = end.ok_or_else(|| self.unexpected("a token, such as <|im_end|>"))? + 1;
                    let name = self.rest()[..end].to_owned();
                    self.at += end;
                    parts.push(self.add(Part::Token(name))?);
                }
                Some(c) if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                    let at = self.at;
                    let name = self.name().expect("it has a character");
                    let rule = self.rule_of(name, at);
                    parts.push(self.add(Part::Rule(rule))?);
                }
                _ => break,
            }
            self.space(grouped);
            self.repetition(&mut parts[first..], grouped)?;
        }
        if parts.len() == 1 { Ok(parts[0]) } else { self.add(Part::Sequence(parts)) }
    }

    /// What may follow a part: `*`, `+`, `?`, `{2}`, `{2,}` or `{2,5}`.
    fn repetition(&mut self, parts: &mut [Id], grouped: bool) -> Result<(), Error> {
        loop {
            let (least, most) = match self.rest().chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    self.at += 1;
                    let least = self.number()?;
                    let most = match self.eat(",") {
                        false => Some(least),
                        true if self.rest().trim_start().starts_with('}') => None,
                        true => Some(self.number()?),
                    };
                    self.space(false);
                    if !self.rest().starts_with('}') || most.is_some_and(|most| most < least) {
                        return Err(self.unexpected("a repetition such as {2,5}"));
                    }
                    (least, most)
                }
                _ => return Ok(()),
            };
            self.at += 1;
            parts[0] = self.add(Part::Repeat(parts[0], least, most))?;
            self.space(grouped);
        }
    }

    fn number(&mut self) -> Result<u32, Error> {
        self.space(false);
        let rest = self.rest();
        let digits = &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len())];
        let number =
            digits.parse().ok().filter(|&n| n <= 100_000).ok_or_else(|| self.unexpected("a number up to 100000"))?;
        self.at += digits.len();
        self.space(false);
        Ok(number)
    }

    fn class(&mut self) -> Result<Chars, Error> {
        let start = self.at;
        self.at += 1;
        let negated = self.eat("^");
        let mut ranges = Vec::new();
        while !self.eat("]") {
            let first = self.char("]")?;
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            let last = if is_range {
                self.at += 1;
                self.char("]")?
            } else {
                first
            };
            ranges.push((first, last));
        }
        let chars = Chars::of(&ranges);
        let chars = if negated { chars.others() } else { chars };
        if chars.is_empty() || ranges.iter().any(|(first, last)| first > last) {
            self.at = start;
            return Err(self.unexpected("characters"));
        }
        Ok(chars)
    }

    /// A character, which may be escaped, of what ends with `end`.
    fn char(&mut self, end: &str) -> Result<char, Error> {
        let expected = || format!("a character or {end}");
        let c = self.rest().chars().next().filter(|&c| c != '\n').ok_or_else(|| self.unexpected(&expected()))?;
        if c != '\\' {
            self.at += c.len_utf8();
            return Ok(c);
        }
        let escaped = self.rest().chars().nth(1).ok_or_else(|| self.unexpected(&expected()))?;
        let hex = |digits: usize| {
            let code = self.rest().get(2..2 + digits)?;
            char::from_u32(u32::from_str_radix(code, 16).ok()?).map(|c| (c, 2 + digits))
        };
        let found = match escaped {
            'x' => hex(2),
            'u' => hex(4),
            'U' => hex(8),
            'n' => Some(('\n', 2)),
            'r' => Some(('\r', 2)),
            't' => Some(('\t', 2)),
            '\\' | '"' | '[' | ']' | '-' | '^' => Some((escaped, 2)),
            _ => None,
        };
        let (c, len) = found.ok_or_else(|| self.unexpected("an escape such as \\n, \\x41 or \\u00e9"))?;
        self.at += len;
        Ok(c)
    }
}
