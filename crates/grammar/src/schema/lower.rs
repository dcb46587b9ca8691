//! What a schema asks for, keyword by keyword.

use super::document::{At, Document, Draft};
use super::names::{Keyword, keyword};
use super::values::{self, check_pattern};
use super::{all, any, numbers, refused};
use crate::regex::search_pattern;
use crate::{Error, Limits};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Whether a schema is asked for, or its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sign {
    Is,
    IsNot,
}

pub struct Lowering<'a, 'd> {
    pub document: &'d Document<'a>,
    limits: &'d Limits,
    /// Schemas lowered so far.
    count: usize,
    depth: usize,
    /// The definitions: names by path and sign, and schemas by name.
    names: HashMap<(String, Sign), String>,
    definitions: Map<String, Value>,
    /// The definition that is being lowered, and whether a reference here would be to the same value.
    current: Option<String>,
    /// Whether all numbers are integers where a schema is negated.
    pub integers: bool,
    /// The least common multiple of the digits of all factors so far.
    factors: u64,
    /// References of a definition to the same value.
    same: HashMap<String, Vec<(String, String)>>,
}

impl<'a, 'd> Lowering<'a, 'd> {
    pub fn new(document: &'d Document<'a>, limits: &'d Limits) -> Lowering<'a, 'd> {
        let (names, definitions, same) = (HashMap::new(), Map::new(), HashMap::new());
        let factors = 1;
        Lowering {
            document,
            limits,
            count: 0,
            depth: 0,
            names,
            definitions,
            current: None,
            integers: false,
            factors,
            same,
        }
    }

    /// The definitions that references lead to.
    pub fn definitions(self) -> Result<Value, Error> {
        // One that leads to itself without an array or object between would never end.
        for first in self.same.keys() {
            let (mut seen, mut next) = (Vec::new(), vec![first]);
            while let Some(name) = next.pop() {
                for (to, path) in self.same.get(name).into_iter().flatten() {
                    if to == first {
                        return Err(refused(path, "it leads to itself without an end"));
                    }
                    if !seen.contains(&to) {
                        seen.push(to);
                        next.push(to);
                    }
                }
            }
        }
        Ok(Value::Object(self.definitions))
    }

    /// Counts a schema, and runs `lower` one level deeper.
    pub fn deeper<T>(&mut self, at: &At<'a>, lower: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.count += 1;
        self.limits.stop.check()?;
        if self.count > self.limits.schemas {
            return Err(refused(&at.path, "the limit `schemas` is reached"));
        }
        if self.depth >= self.limits.depth {
            return Err(refused(&at.path, "the limit `depth` is reached"));
        }
        self.depth += 1;
        let lowered = lower(self);
        self.depth -= 1;
        lowered
    }

    /// A schema of a part of the value, or with [`Sign::IsNot`] its opposite.
    pub fn signed_part(&mut self, at: &At<'a>, sign: Sign) -> Result<Value, Error> {
        let (current, integers) = (self.current.take(), std::mem::take(&mut self.integers));
        let lowered = self.signed(at, sign);
        (self.current, self.integers) = (current, integers);
        lowered
    }

    pub fn part(&mut self, at: &At<'a>) -> Result<Value, Error> {
        self.signed_part(at, Sign::Is)
    }

    pub fn part_not(&mut self, at: &At<'a>) -> Result<Value, Error> {
        self.signed_part(at, Sign::IsNot)
    }

    fn signed(&mut self, at: &At<'a>, sign: Sign) -> Result<Value, Error> {
        match sign {
            Sign::Is => self.lower(at),
            Sign::IsNot => self.negate(at),
        }
    }

    /// The schema for the compiler.
    pub fn lower(&mut self, at: &At<'a>) -> Result<Value, Error> {
        let at = &self.document.known(at);
        self.deeper(at, |this| match keywords(at)? {
            Keywords::Any(allowed) => Ok(Value::Bool(allowed)),
            Keywords::These(found) if found.iter().any(|(keyword, at)| keyword.is_unevaluated() && !is_true(at)) => {
                this.lower_evaluated(at)
            }
            Keywords::These(found) => {
                let own = this.own(at, &found)?;
                let in_place = found.iter().filter(|(keyword, _)| keyword.is_in_place());
                let parts: Result<Vec<Value>, Error> =
                    in_place.map(|(keyword, value)| this.in_place(*keyword, at, value)).collect();
                Ok(all([own].into_iter().chain(parts?)))
            }
        })
    }

    /// The keywords that look at the value themselves.
    pub fn own(&mut self, at: &At<'a>, found: &[(Keyword, At<'a>)]) -> Result<Value, Error> {
        let mut object = Map::new();
        let mut put = |key: &str, value: Value| drop(object.insert(key.to_owned(), value));
        let mut further = Vec::new();
        for (keyword, value) in found {
            match keyword {
                Keyword::Type => put("type", values::types(value)?),
                Keyword::Const => put("const", values::constant(value)?),
                Keyword::Enum => {
                    put("enum", value.list()?.iter().map(values::constant).collect::<Result<_, _>>()?);
                }
                Keyword::Bound(name) => {
                    if let Some((name, bound)) = numbers::bound(at, name, value)? {
                        put(name, numbers::drawn(value, name, &bound)?);
                    }
                }
                Keyword::MultipleOf => {
                    let factor = numbers::multiple_of(value)?;
                    self.factors = numbers::common_multiple(self.factors, value)?;
                    put("multipleOf", factor);
                }
                Keyword::Size(name) => put(name, values::size_of(at, name, value)?.into()),
                Keyword::Pattern => put("pattern", check_pattern(value)?.into()),
                Keyword::Format if numbers::are_typed(at) => {
                    for (name, bound) in numbers::format(value)?.into_iter().flatten() {
                        if at.value.get(name).is_none() {
                            put(name, numbers::drawn(value, name, &bound)?);
                        }
                    }
                }
                Keyword::Format => put("format", values::format(value)?.into()),
                Keyword::Required => put("required", values::required(value)?),
                Keyword::Properties => {
                    for (name, at) in value.map()? {
                        values::text_without_controls(&at, name)?;
                    }
                    put("properties", self.map(value)?);
                }
                Keyword::PatternProperties => {
                    let mut patterns = Map::new();
                    for (pattern, at) in value.map()? {
                        let pattern = search_pattern(pattern).map_err(|problem| refused(&at.path, problem))?;
                        let schema = self.part(&at)?;
                        let same = patterns.remove(&pattern).unwrap_or(Value::Bool(true));
                        patterns.insert(pattern, all([same, schema]));
                    }
                    put("patternProperties", Value::Object(patterns));
                }
                Keyword::AdditionalProperties => put("additionalProperties", self.part(value)?),
                Keyword::PropertyNames => further.push(self.property_names(value)?),
                Keyword::DependentRequired | Keyword::DependentSchemas | Keyword::Dependencies => {}
                Keyword::PrefixItems => put("prefixItems", self.list(value)?),
                Keyword::Items if value.value.is_array() => put("prefixItems", self.list(value)?),
                Keyword::Items => put("items", self.part(value)?),
                Keyword::AdditionalItems if at.value.get("items").is_some_and(Value::is_array) => {
                    put("items", self.part(value)?);
                }
                Keyword::Contains => further.push(self.contains(at, value)?),
                Keyword::UniqueItems => {
                    let few = at.value.get("maxItems").and_then(Value::as_f64).is_some_and(|most| most <= 1.0);
                    match value.value {
                        Value::Bool(false) => {}
                        Value::Bool(true) if few => {}
                        Value::Bool(true) => return Err(refused(&value.path, UNSUPPORTED)),
                        _ => return Err(value.expected("true or false")),
                    }
                }
                _ => {}
            }
        }
        let own = if object.is_empty() { Value::Bool(true) } else { Value::Object(object) };
        Ok(all([own].into_iter().chain(further)))
    }

    /// A keyword whose schemas are for the same value.
    fn in_place(&mut self, keyword: Keyword, at: &At<'a>, value: &At<'a>) -> Result<Value, Error> {
        match keyword {
            Keyword::Ref => self.reference(value, Sign::Is),
            Keyword::AllOf => Ok(all(self.each(value, Sign::Is)?)),
            Keyword::AnyOf => Ok(any(self.each(value, Sign::Is)?)),
            Keyword::OneOf => {
                let exclusive = self.one_of(value)?;
                let alternatives: Result<Vec<Value>, Error> =
                    exclusive.into_iter().map(|(one, not)| Ok(all([self.lower(&one)?, not]))).collect();
                Ok(any(alternatives?))
            }
            Keyword::Not => self.negate(value),
            Keyword::If => {
                let branch =
                    |this: &mut Self, key: &str| at.key(key).map_or(Ok(Value::Bool(true)), |at| this.lower(&at));
                let (then, otherwise) = (branch(self, "then")?, branch(self, "else")?);
                if then == true && otherwise == true {
                    return Ok(Value::Bool(true));
                }
                let yes = all([self.lower(value)?, then]);
                if otherwise == false {
                    return Ok(yes);
                }
                Ok(any([yes, all([self.negate(value)?, otherwise])]))
            }
            _ => self.dependencies(value),
        }
    }

    /// The alternatives of `oneOf`, each with what excludes the others.
    pub fn one_of(&mut self, value: &At<'a>) -> Result<Vec<(At<'a>, Value)>, Error> {
        let options = value.list()?;
        let lowered = self.each(value, Sign::Is)?;
        let overlaps = values::Overlaps::of(&lowered);
        let mut exclusive = Vec::new();
        for (i, option) in options.iter().enumerate() {
            let mut others = Vec::new();
            for j in overlaps.with(i) {
                let other = &options[j];
                if !values::disjoint(&lowered[i], &lowered[j]) {
                    let integers = lowered[i].get("type").is_some_and(|name| name == "integer");
                    let before = std::mem::replace(&mut self.integers, integers);
                    let not = self.negate(other);
                    self.integers = before;
                    let not = not.map_err(|_| {
                        let problem = "it may match together with another alternative, which cannot be excluded: `anyOf` allows it";
                        refused(&option.path, problem)
                    });
                    others.push(not?);
                }
            }
            exclusive.push((option.clone(), all(others)));
        }
        Ok(exclusive)
    }

    /// What a reference leads to, as a reference to a definition.
    pub fn reference(&mut self, reference: &At<'a>, sign: Sign) -> Result<Value, Error> {
        let target = self.document.resolve(reference)?;
        let key = (target.path.clone(), sign);
        let name = match self.names.get(&key) {
            Some(name) => name.clone(),
            None => {
                let name = self.names.len().to_string();
                self.names.insert(key, name.clone());
                let (current, integers) = (self.current.replace(name.clone()), std::mem::take(&mut self.integers));
                let lowered = self.signed(&target, sign);
                (self.current, self.integers) = (current, integers);
                self.definitions.insert(name.clone(), lowered?);
                name
            }
        };
        if let Some(lowered @ Value::Bool(_)) = self.definitions.get(&name) {
            return Ok(lowered.clone());
        }
        if let Some(current) = &self.current {
            self.same.entry(current.clone()).or_default().push((name.clone(), reference.path.clone()));
        }
        Ok(json!({ "$ref": format!("#/$defs/{name}") }))
    }

    /// The schemas of a list for the same value.
    pub fn each(&mut self, value: &At<'a>, sign: Sign) -> Result<Vec<Value>, Error> {
        let list = value.list()?;
        if list.is_empty() {
            return Err(value.expected("at least one schema"));
        }
        list.iter().map(|at| self.signed(at, sign)).collect()
    }

    /// The schemas of a list of parts.
    fn list(&mut self, value: &At<'a>) -> Result<Value, Error> {
        value.list()?.iter().map(|at| self.part(at)).collect()
    }

    /// The schemas of named parts.
    fn map(&mut self, value: &At<'a>) -> Result<Value, Error> {
        let parts = value.map()?.into_iter().map(|(name, at)| Ok((name.to_owned(), self.part(&at)?)));
        Ok(Value::Object(parts.collect::<Result<_, Error>>()?))
    }
}

pub const UNSUPPORTED: &str = "not supported: no grammar says this";

pub fn is_true(at: &At) -> bool {
    *at.value == true
}

/// What a schema consists of.
pub enum Keywords<'a> {
    /// Any value is allowed, or none.
    Any(bool),
    These(Vec<(Keyword, At<'a>)>),
}

/// The keywords of a schema that its draft gives a meaning.
pub fn keywords<'a>(at: &At<'a>) -> Result<Keywords<'a>, Error> {
    let map = match at.value {
        Value::Bool(allowed) => return Ok(Keywords::Any(*allowed)),
        Value::Object(map) => map,
        _ => return Err(at.expected("a schema")),
    };
    if let Some(reference) = map.get("$ref").filter(|_| at.draft <= Draft::D7) {
        return Ok(Keywords::These(vec![(Keyword::Ref, at.child("$ref", reference))]));
    }
    let found = map.iter().filter_map(|(name, value)| {
        let value = at.child(name, value);
        keyword(name, &value).transpose().map(|keyword| Ok((keyword?, value)))
    });
    Ok(Keywords::These(found.collect::<Result<_, Error>>()?))
}
