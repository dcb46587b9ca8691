//! Which parts of a grammar may be lexemes.
//!
//! A lexeme takes characters as long as it can. That is wrong where what may follow begins with a character with which it could go on, and
//! where one lexeme is the beginning of another. Such a lexeme is split into its parts; single characters are always right.

use super::{Chars, Grammar, Id, Part};
use crate::{Error, Limits};

/// Characters of a part without recursion.
#[derive(Clone, Default)]
struct Shape {
    nullable: bool,
    first: Chars,
    /// Those after the first.
    inner: Chars,
    /// Those with which a complete one may go on.
    further: Chars,
}

pub struct Lexemes {
    /// By part, for those without recursion and tokens.
    shapes: Vec<Option<Shape>>,
    split: Vec<bool>,
    /// Parts of rules, and rules that are not within lexemes.
    in_rules: Vec<bool>,
    rules: Vec<bool>,
}

/// Lexemes that are compared with each other, and rounds of splitting; beyond, all are split.
const MOST: usize = 300;
const ROUNDS: usize = 100;

impl Lexemes {
    pub fn of(grammar: &mut Grammar, limits: &Limits) -> Result<Lexemes, Error> {
        let mut visit = Visit { state: vec![0; grammar.rules.len()], depth: limits.depth * 4 };
        let mut shapes = vec![None; grammar.parts.len()];
        for rule in 0..grammar.rules.len() {
            visit.rule(grammar, rule, &mut shapes)?;
        }
        group(grammar, &mut shapes);
        let split = vec![false; grammar.parts.len()];
        let (in_rules, rules) = (vec![false; grammar.parts.len()], vec![false; grammar.rules.len()]);
        let mut lexemes = Lexemes { shapes, split, in_rules, rules };
        for round in 0..ROUNDS {
            lexemes.reach(grammar);
            let found: Vec<Id> =
                (0..grammar.parts.len()).filter(|&id| lexemes.in_rules[id] && lexemes.is_lexeme(id)).collect();
            let wrong = if found.len() > MOST || round == ROUNDS - 1 { found } else { lexemes.wrong(grammar, &found) };
            let mut changed = false;
            for id in wrong {
                let can_split = !matches!(grammar.parts[id], Part::Chars(_));
                changed |= can_split && !std::mem::replace(&mut lexemes.split[id], true);
            }
            if !changed {
                break;
            }
        }
        lexemes.reach(grammar);
        Ok(lexemes)
    }

    pub fn regular(&self, id: Id) -> bool {
        self.shapes[id].is_some()
    }

    pub fn is_lexeme(&self, id: Id) -> bool {
        !self.split[id] && self.shapes[id].as_ref().is_some_and(|shape| !shape.first.is_empty())
    }

    pub fn is_nullable(&self, id: Id) -> bool {
        self.shapes[id].as_ref().is_some_and(|shape| shape.nullable)
    }

    pub fn is_rule(&self, rule: usize) -> bool {
        self.rules[rule]
    }

    /// Finds what is not within a lexeme.
    fn reach(&mut self, grammar: &Grammar) {
        self.in_rules.fill(false);
        self.rules.fill(false);
        self.rules[0] = true;
        let mut next = vec![grammar.rules[0]];
        while let Some(id) = next.pop() {
            if std::mem::replace(&mut self.in_rules[id], true) || self.is_lexeme(id) {
                continue;
            }
            if let Part::Rule(rule) = grammar.parts[id] {
                self.rules[rule] = true;
            }
            next.extend(grammar.children(id));
        }
    }

    /// The lexemes of these that may take too much.
    fn wrong(&self, grammar: &Grammar, found: &[Id]) -> Vec<Id> {
        let follow = self.follow(grammar);
        let shape = |id: Id| self.shapes[id].as_ref().expect("a lexeme");
        let mut wrong = Vec::new();
        for &id in found {
            if shape(id).further.meets(&follow[id]) {
                wrong.push(id);
            }
            let longer = |other: &&Id| {
                **other != id && shape(**other).first.meets(&shape(id).first) && shape(**other).inner.meets(&follow[id])
            };
            wrong.extend(found.iter().filter(longer));
        }
        wrong
    }

    /// The characters that may follow each part.
    fn follow(&self, grammar: &Grammar) -> Vec<Chars> {
        let n = grammar.parts.len();
        let mut first: Vec<(bool, Chars)> = vec![(false, Chars::default()); n];
        // First what parts begin with, then what follows them, until nothing changes.
        loop {
            let mut changed = false;
            for id in (0..n).filter(|&id| self.in_rules[id]) {
                let (mut nullable, mut chars) = (false, Chars::default());
                match (&grammar.parts[id], &self.shapes[id]) {
                    (_, Some(shape)) if self.is_lexeme(id) => (nullable, chars) = (shape.nullable, shape.first.clone()),
                    (Part::Sequence(parts), _) => {
                        nullable = true;
                        for &part in parts.iter() {
                            if nullable {
                                chars.add(&first[part].1);
                                nullable = first[part].0;
                            }
                        }
                    }
                    (Part::Repeat(part, least, _), _) => {
                        (nullable, chars) = (*least == 0 || first[*part].0, first[*part].1.clone());
                    }
                    (Part::Token(_), _) => {}
                    _ => {
                        for &part in grammar.children(id) {
                            nullable |= first[part].0;
                            chars.add(&first[part].1);
                        }
                    }
                }
                changed |= first[id].1.add(&chars) || nullable && !first[id].0;
                first[id].0 |= nullable;
            }
            if !changed {
                break;
            }
        }
        let mut follow = vec![Chars::default(); n];
        loop {
            let mut changed = false;
            for id in (0..n).filter(|&id| self.in_rules[id] && !self.is_lexeme(id)) {
                let mut after = follow[id].clone();
                if let Part::Repeat(part, _, most) = &grammar.parts[id]
                    && *most != Some(1)
                {
                    after.add(&first[*part].1);
                }
                let in_order = matches!(grammar.parts[id], Part::Sequence(_));
                for &part in grammar.children(id).iter().rev() {
                    changed |= follow[part].add(&after);
                    if in_order {
                        if !first[part].0 {
                            after = Chars::default();
                        }
                        after.add(&first[part].1);
                    }
                }
            }
            if !changed {
                return follow;
            }
        }
    }
}

/// Finds recursion.
struct Visit {
    /// Of rules: 0 not seen, 1 being visited, 2 recursive or with tokens, 3 without.
    state: Vec<u8>,
    depth: usize,
}

impl Visit {
    fn rule(&mut self, grammar: &Grammar, rule: usize, shapes: &mut [Option<Shape>]) -> Result<Option<Shape>, Error> {
        let body = grammar.rules[rule];
        match self.state[rule] {
            0 => {}
            3 => return Ok(shapes[body].clone()),
            _ => {
                self.state[rule] = 2;
                return Ok(None);
            }
        }
        let Some(depth) = self.depth.checked_sub(1) else {
            return Err(Error::Limit {
                what: "grammar",
                limit: "expected fewer rules that lead to others in a row".to_owned(),
            });
        };
        self.depth = depth;
        self.state[rule] = 1;
        let mut shape = self.part(grammar, body, shapes)?;
        if self.state[rule] == 2 {
            shape = None;
            shapes[body] = None;
        }
        self.state[rule] = if shape.is_some() { 3 } else { 2 };
        self.depth += 1;
        Ok(shape)
    }

    fn part(&mut self, grammar: &Grammar, id: Id, shapes: &mut [Option<Shape>]) -> Result<Option<Shape>, Error> {
        let mut parts = Vec::new();
        for &child in grammar.children(id) {
            parts.push(match grammar.parts[id] {
                Part::Rule(rule) => self.rule(grammar, rule, shapes)?,
                _ => self.part(grammar, child, shapes)?,
            });
        }
        let parts: Option<Vec<Shape>> = parts.into_iter().collect();
        let shape = parts.and_then(|parts| match &grammar.parts[id] {
            Part::Token(_) => None,
            Part::Chars(chars) => Some(Shape { first: chars.clone(), ..Shape::default() }),
            Part::Rule(_) => parts.into_iter().next(),
            Part::Sequence(_) => Some(parts.iter().fold(Shape { nullable: true, ..Shape::default() }, sequence)),
            Part::Alternatives(_) => parts.iter().cloned().reduce(|a, b| either(&a, &b)),
            Part::Repeat(_, least, most) => Some(repeat(&parts[0], *least, *most)),
        });
        shapes[id] = shape.clone();
        Ok(shape)
    }
}

fn sequence(a: Shape, b: &Shape) -> Shape {
    let mut both = Shape { nullable: a.nullable && b.nullable, further: b.further.clone(), ..a.clone() };
    both.inner.add(&b.inner);
    if a.nullable {
        both.first.add(&b.first);
    }
    if !a.first.is_empty() {
        both.inner.add(&b.first);
    }
    if b.nullable {
        both.further.add(&a.further);
        both.further.add(&b.first);
    }
    both
}

fn either(a: &Shape, b: &Shape) -> Shape {
    let mut either = a.clone();
    either.nullable |= b.nullable;
    either.first.add(&b.first);
    either.inner.add(&b.inner);
    either.further.add(&b.further);
    if a.nullable || b.nullable {
        either.further.add(&a.first);
        either.further.add(&b.first);
    }
    // One may be the beginning of the other.
    if a.first.meets(&b.first) {
        either.further.add(&a.inner);
        either.further.add(&b.inner);
    }
    either
}

fn repeat(part: &Shape, least: u32, most: Option<u32>) -> Shape {
    let mut repeat = part.clone();
    repeat.nullable |= least == 0;
    if most != Some(1) {
        repeat.inner.add(&part.first);
    }
    if most != Some(least) || least == 0 || part.nullable {
        repeat.further.add(&part.first);
    }
    repeat
}

/// Makes one part of those without recursion that follow each other.
fn group(grammar: &mut Grammar, shapes: &mut Vec<Option<Shape>>) {
    for id in 0..grammar.parts.len() {
        if shapes[id].is_some() {
            continue;
        }
        let Part::Sequence(parts) = &grammar.parts[id] else { continue };
        let runs: Vec<Vec<Id>> =
            parts.chunk_by(|&a, &b| shapes[a].is_some() && shapes[b].is_some()).map(<[Id]>::to_vec).collect();
        let mut grouped = Vec::new();
        for run in runs {
            if run.len() == 1 {
                grouped.push(run[0]);
                continue;
            }
            let all = run.iter().filter_map(|&part| shapes[part].as_ref());
            shapes.push(Some(all.fold(Shape { nullable: true, ..Shape::default() }, sequence)));
            grammar.parts.push(Part::Sequence(run));
            grouped.push(grammar.parts.len() - 1);
        }
        grammar.parts[id] = Part::Sequence(grouped);
    }
}
