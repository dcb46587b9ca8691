//! `unevaluatedProperties` and `unevaluatedItems`: which properties and items the other keywords look at depends on the alternative that a value
//! takes, so each becomes one of its own. More of them together look at more, so their conjunctions are alternatives, too.

use super::document::At;
use super::lower::{Keywords, Lowering, UNSUPPORTED, is_true, keywords};
use super::names::Keyword;
use super::objects::{with, without};
use super::{all, any, refused};
use crate::Error;
use crate::regex::search_pattern;
use serde_json::{Value, json};

/// A way to satisfy a schema, and what it evaluates.
#[derive(Clone)]
struct Branch {
    schema: Value,
    names: Vec<String>,
    patterns: Vec<String>,
    all_properties: bool,
    items: usize,
    all_items: bool,
}

impl Branch {
    fn new(schema: Value) -> Branch {
        Branch { schema, names: Vec::new(), patterns: Vec::new(), all_properties: false, items: 0, all_items: false }
    }

    fn and(&self, other: &Branch) -> Branch {
        let union = |a: &[String], b: &[String]| {
            let mut union = a.to_vec();
            union.extend(b.iter().filter(|name| !a.contains(name)).cloned());
            union
        };
        Branch {
            schema: all([self.schema.clone(), other.schema.clone()]),
            names: union(&self.names, &other.names),
            patterns: union(&self.patterns, &other.patterns),
            all_properties: self.all_properties || other.all_properties,
            items: self.items.max(other.items),
            all_items: self.all_items || other.all_items,
        }
    }
}

/// Alternatives of `anyOf` that may be combined, and branches of a schema.
const MOST: usize = 64;

impl<'a> Lowering<'a, '_> {
    /// A schema with `unevaluatedProperties` or `unevaluatedItems`.
    pub fn lower_evaluated(&mut self, at: &At<'a>) -> Result<Value, Error> {
        let branches = self.branches(at)?;
        Ok(any(branches.into_iter().map(|branch| branch.schema)))
    }

    fn branches(&mut self, at: &At<'a>) -> Result<Vec<Branch>, Error> {
        let at = &self.document.known(at);
        self.deeper(at, |this| {
            let found = match keywords(at)? {
                Keywords::Any(allowed) => return Ok(vec![Branch::new(Value::Bool(allowed))]),
                Keywords::These(found) => found,
            };
            let mut own = Branch::new(this.own(at, &found)?);
            for (keyword, value) in &found {
                match keyword {
                    Keyword::Properties => own.names.extend(value.map()?.iter().map(|(name, _)| (*name).to_owned())),
                    Keyword::PatternProperties => {
                        own.patterns
                            .extend(value.map()?.iter().filter_map(|(pattern, _)| search_pattern(pattern).ok()));
                    }
                    Keyword::AdditionalProperties => own.all_properties = true,
                    Keyword::PrefixItems => own.items = value.list()?.len(),
                    Keyword::Items if value.value.is_array() => own.items = value.list()?.len(),
                    Keyword::Items => own.all_items = true,
                    Keyword::AdditionalItems => {
                        own.all_items |= at.value.get("items").is_some_and(Value::is_array);
                    }
                    _ => {}
                }
            }
            let mut branches = vec![own];
            for (keyword, value) in found.iter().filter(|(keyword, _)| keyword.is_in_place()) {
                let further = this.alternatives(*keyword, at, value)?;
                branches = product(&branches, &further, value)?;
            }
            for (keyword, value) in found.iter().filter(|(keyword, _)| keyword.is_unevaluated()) {
                let rest = if is_true(value) { Value::Bool(true) } else { this.part(value)? };
                let has_contains = found.iter().any(|(keyword, _)| *keyword == Keyword::Contains);
                for branch in &mut branches {
                    if *keyword == Keyword::UnevaluatedProperties {
                        if !std::mem::replace(&mut branch.all_properties, true) {
                            let closed = Self::closed(&branch.names, &branch.patterns, rest.clone());
                            branch.schema = all([branch.schema.clone(), closed]);
                        }
                    } else if !std::mem::replace(&mut branch.all_items, true) {
                        if has_contains && rest != true {
                            return Err(refused(&value.path, UNSUPPORTED));
                        }
                        let before = vec![true; branch.items];
                        let closed = json!({ "prefixItems": before, "items": rest.clone() });
                        branch.schema = all([branch.schema.clone(), closed]);
                    }
                }
            }
            Ok(branches)
        })
    }

    /// The branches of a keyword whose schemas are for the same value.
    fn alternatives(&mut self, keyword: Keyword, at: &At<'a>, value: &At<'a>) -> Result<Vec<Branch>, Error> {
        match keyword {
            Keyword::Ref => {
                let target = self.document.resolve(value)?;
                self.branches(&target)
            }
            Keyword::AllOf => {
                let mut branches = vec![Branch::new(Value::Bool(true))];
                for part in value.list()? {
                    branches = product(&branches, &self.branches(&part)?, value)?;
                }
                Ok(branches)
            }
            Keyword::AnyOf => {
                let mut branches: Vec<Branch> = Vec::new();
                for option in value.list()? {
                    let option = self.branches(&option)?;
                    let both = product(&branches, &option, value)?;
                    branches.extend(option);
                    branches.extend(both);
                }
                Ok(branches)
            }
            Keyword::OneOf => {
                let mut branches = Vec::new();
                for (option, not) in self.one_of(value)? {
                    branches.extend(product(&self.branches(&option)?, &[Branch::new(not)], value)?);
                }
                Ok(branches)
            }
            Keyword::Not => Ok(vec![Branch::new(self.negate(value)?)]),
            Keyword::If => {
                let branch = |this: &mut Self, key: &str| match at.key(key) {
                    Some(at) => this.branches(&at),
                    None => Ok(vec![Branch::new(Value::Bool(true))]),
                };
                let (then, otherwise) = (branch(self, "then")?, branch(self, "else")?);
                let mut branches = product(&self.branches(value)?, &then, value)?;
                branches.extend(product(&[Branch::new(self.negate(value)?)], &otherwise, value)?);
                Ok(branches)
            }
            _ => {
                let mut branches = vec![Branch::new(Value::Bool(true))];
                for (name, rule) in value.map()? {
                    let mut options = vec![Branch::new(without(name))];
                    if rule.value.is_array() {
                        super::values::required(&rule)?;
                        let required = json!({ "type": "object", "required": rule.value });
                        options.push(Branch::new(all([with(&[name]), required])));
                    } else {
                        options.extend(product(&[Branch::new(with(&[name]))], &self.branches(&rule)?, value)?);
                    }
                    branches = product(&branches, &options, value)?;
                }
                Ok(branches)
            }
        }
    }
}

/// One of the first and one of the second together.
fn product(first: &[Branch], second: &[Branch], at: &At) -> Result<Vec<Branch>, Error> {
    if first.len() * second.len() > MOST {
        return Err(refused(&at.path, "too many alternatives for an `unevaluated...` keyword"));
    }
    let both = first.iter().flat_map(|a| second.iter().map(move |b| a.and(b)));
    Ok(both.filter(|branch| branch.schema != false).collect())
}
