//! Writing a grammar in Lark.

use crate::{Constraint, Error, Limits, Vocabulary, regex, schema};
use serde_json::Value;
use std::fmt::Write;
use trine_text::ContentFormat;

/// Whitespace where a format may have some. A small model goes on with blanks for as long as it may, so that there are few.
const SPACE: &str = r" ?(\r?\n[ \t]{0,8}){0,3}";

/// Whitespace where a format has some.
const SOME: &str = r"( | ?(\r?\n[ \t]{0,8}){1,3})";

/// Whitespace where a text begins, or none.
const BLANKS: &str = r"[ \t\r\n]{0,20}";

/// A part of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    Regex(String),
    /// A control token.
    Token(u32),
    Rule(String),
}

/// A grammar that is being written.
pub struct Writer<'a> {
    vocabulary: Option<&'a Vocabulary>,
    pub limits: &'a Limits,
    rules: String,
    count: usize,
    /// Names of control tokens that no text may spell, because the parser would take it for them.
    unspelled: Vec<String>,
}

impl<'a> Writer<'a> {
    pub fn new(vocabulary: Option<&'a Vocabulary>, limits: &'a Limits) -> Writer<'a> {
        Writer { vocabulary, limits, rules: String::new(), count: 0, unspelled: Vec::new() }
    }

    /// The grammar, which begins with `start`.
    pub fn finish(self, start: &str) -> String {
        let spelled: Vec<String> = self.unspelled.iter().map(|name| pattern(name)).collect();
        let without = match spelled.is_empty() {
            true => String::new(),
            false => format!(" & ~/(?s:.*)({})(?s:.*)/", spelled.join("|")),
        };
        format!("start: {start}\n{}WS: /{SOME}/\nTEXT: /(?s:.+)/{without}\n", self.rules)
    }

    /// Adds a rule, and returns its name.
    pub fn rule(&mut self, name: &str, body: &str) -> String {
        let name = self.reserve(name);
        self.define(&name, body);
        name
    }

    /// The name of a rule that is added later.
    pub fn reserve(&mut self, name: &str) -> String {
        self.count += 1;
        format!("{name}_{}", self.count)
    }

    pub fn define(&mut self, name: &str, body: &str) {
        writeln!(self.rules, "{name}: {body}").expect("strings take all");
    }

    /// Adds a rule for a text that ends where it first may.
    fn lazy(&mut self, body: &str) -> String {
        let name = self.reserve("until");
        self.define(&format!("{name}[lazy]"), &format!("/{body}/"));
        name
    }

    /// A text in control tokens and others. If it is flexible, its spaces stand for any whitespace or none, and line breaks for some.
    pub fn atoms(&self, text: &str, flexible: bool) -> Vec<Atom> {
        let (mut atoms, mut rest) = (Vec::new(), text);
        while let Some(c) = rest.chars().next() {
            let tokens = self.vocabulary.iter().flat_map(|vocabulary| vocabulary.control.iter());
            let token = tokens.filter(|(name, _)| rest.starts_with(&**name)).max_by_key(|(name, _)| name.len());
            if let Some((name, id)) = token {
                atoms.push(Atom::Token(*id));
                rest = &rest[name.len()..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            if !flexible || !c.is_whitespace() {
                atoms.push(Atom::Regex(pattern(c.encode_utf8(&mut [0; 4]))));
            } else {
                rest = rest.trim_start();
                atoms.push(Atom::Regex(if c == '\n' { SOME } else { SPACE }.to_owned()));
            }
        }
        merged(atoms)
    }

    /// Parts of a rule.
    pub fn sequence(&self, atoms: &[Atom]) -> String {
        let show = |atom: Atom| match atom {
            Atom::Regex(regex) if regex == SPACE => "WS?".to_owned(),
            Atom::Regex(regex) => format!("/{regex}/"),
            Atom::Token(id) => format!("<[{id}]>"),
            Atom::Rule(name) => name,
        };
        merged(atoms.to_vec()).into_iter().map(show).collect::<Vec<_>>().join(" ")
    }

    /// A text of a format.
    pub fn text(&self, text: &str, flexible: bool) -> String {
        self.sequence(&self.atoms(text, flexible))
    }

    /// A marker in place of a text, with whitespace before.
    pub fn opening(&mut self, marker: &str, flexible: bool) -> String {
        let mut atoms = self.atoms(marker, flexible);
        match &atoms[..] {
            [] => String::new(),
            [Atom::Regex(regex)] => self.lazy(&format!("{SPACE}{regex}")),
            _ => {
                atoms.insert(0, Atom::Regex(SPACE.to_owned()));
                self.sequence(&atoms)
            }
        }
    }

    /// Any text up to a marker, with it.
    pub fn until(&mut self, marker: &str) -> String {
        let atoms = self.atoms(marker, true);
        match &atoms[..] {
            [Atom::Regex(regex)] => self.lazy(&format!("(?s:.*){regex}")),
            [Atom::Regex(regex), rest @ ..] => {
                let regex = Atom::Regex(format!("(?s:.*){regex}"));
                self.sequence(&[&[regex], rest].concat())
            }
            [Atom::Token(id), ..] => {
                let names = self.vocabulary.iter().flat_map(|vocabulary| vocabulary.control.iter());
                let name = names.filter(|(_, other)| other == id).map(|(name, _)| name.to_string());
                self.unspelled.extend(name);
                format!("TEXT? {}", self.sequence(&atoms))
            }
            _ => "TEXT?".to_owned(),
        }
    }

    /// Any text that does not begin as one of these markers does.
    pub fn text_without<'m>(&mut self, markers: impl Iterator<Item = &'m str>) -> String {
        let first = markers.filter_map(|marker| match self.atoms(marker, true).first()? {
            Atom::Regex(_) => marker.chars().next(),
            _ => None,
        });
        let first: String = first.map(|c| pattern(c.encode_utf8(&mut [0; 4]))).collect();
        let name = self.rule("text", &format!("/{BLANKS}[^ \\t\\r\\n{first}](?s:.*)/"));
        format!("({name} | WS)?")
    }

    /// The answer itself, with what is around it. `None` is any text.
    pub fn wrapped(&mut self, format: &ContentFormat, text: Option<&str>) -> String {
        let open = format.open.strip_prefix(format.prompted).unwrap_or(format.open);
        let [open, close] = [open, format.close].map(|text| self.atoms(text, false));
        let is_text = |atoms: &[Atom]| atoms.iter().all(|atom| matches!(atom, Atom::Regex(_)));
        // Where any text may come, it may be these, too.
        let optional = |atoms: &[Atom]| match text.is_none() && is_text(atoms) || atoms.is_empty() {
            true => String::new(),
            false => format!("({})?", self.sequence(atoms)),
        };
        let close = optional(&close);
        let open = if format.required { self.sequence(&open) } else { optional(&open) };
        format!("{open} {} {close}", text.unwrap_or("TEXT?"))
    }

    /// A message before calls, or none.
    pub fn preamble(&mut self, format: &ContentFormat) -> String {
        let [open, close] = format.preamble;
        if open.is_empty() {
            return String::new();
        }
        format!("({} {} {})?", self.text(open, false), self.until(close), self.text(format.between, false))
    }

    /// A constraint as a part of a rule.
    pub fn constraint(&mut self, constraint: &Constraint) -> Result<String, Error> {
        match constraint {
            Constraint::JsonSchema(text) => self.json(&schema::parse(text)?),
            Constraint::Regex(text) => {
                regex::check(text).map_err(|problem| crate::grammar::invalid("regular expression", problem))?;
                Ok(self.rule("text", &format!("/{}/", text.replace('/', "\\/").replace('\n', "\\n"))))
            }
            Constraint::Choices(texts) if !texts.is_empty() && texts.iter().all(|text| !text.is_empty()) => {
                let texts: Vec<String> = texts.iter().map(|text| pattern(text)).collect();
                Ok(self.rule("text", &format!("/{}/", texts.join("|"))))
            }
            constraint => {
                let problem = "it cannot be part of an answer of a chat with tools or thinking";
                Err(crate::grammar::invalid(constraint.what(), problem.to_owned()))
            }
        }
    }

    /// A rule for JSON of a schema.
    pub fn json(&mut self, schema: &Value) -> Result<String, Error> {
        let lowered = schema::lower(schema, self.limits)?;
        if !schema::compiles(&lowered, self.limits) {
            let path = schema::locate(&schema.to_string(), self.limits);
            return Err(Error::Schema { path, problem: "no grammar says this".to_owned() });
        }
        Ok(self.rule("json", &format!("%json {lowered}")))
    }
}

/// Atoms without two regular expressions beside each other.
fn merged(atoms: Vec<Atom>) -> Vec<Atom> {
    let mut merged: Vec<Atom> = Vec::new();
    for atom in atoms {
        match (merged.last_mut(), atom) {
            (_, Atom::Regex(regex)) if regex.is_empty() => {}
            (Some(Atom::Regex(before)), Atom::Regex(regex)) if regex == SPACE && before.ends_with(SPACE) => {}
            (Some(Atom::Regex(before)), Atom::Regex(regex)) => before.push_str(&regex),
            (_, atom) => merged.push(atom),
        }
    }
    merged
}

/// A regular expression in Lark for a text.
pub fn pattern(text: &str) -> String {
    let escaped = |c: char| match c {
        c if c.is_ascii_alphanumeric() => c.to_string(),
        c => format!("\\x{{{:x}}}", u32::from(c)),
    };
    text.chars().map(escaped).collect()
}
