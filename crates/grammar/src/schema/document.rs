//! Where the parts of a schema are, and what references lead to.

use super::refused;
use crate::Error;
use serde_json::Value;
use std::collections::HashMap;
use std::rc::Rc;

/// The drafts, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Draft {
    D4,
    D6,
    D7,
    D2019,
    D2020,
}

/// The values of `$schema`, without an empty fragment.
const DRAFTS: &[(&str, Draft)] = &[
    ("http://json-schema.org/draft-04/schema", Draft::D4),
    ("http://json-schema.org/draft-06/schema", Draft::D6),
    ("http://json-schema.org/draft-07/schema", Draft::D7),
    ("https://json-schema.org/draft/2019-09/schema", Draft::D2019),
    ("https://json-schema.org/draft/2020-12/schema", Draft::D2020),
];

/// A schema in its document.
#[derive(Clone, Debug)]
pub struct At<'a> {
    pub value: &'a Value,
    /// A JSON pointer, such as `#/properties/a`.
    pub path: String,
    /// The URI of the resource that it belongs to.
    base: Rc<str>,
    pub draft: Draft,
}

impl<'a> At<'a> {
    /// A value under a key or index.
    pub fn child(&self, key: &str, value: &'a Value) -> At<'a> {
        At { value, path: format!("{}/{}", self.path, escape(key)), base: self.base.clone(), draft: self.draft }
    }

    pub fn key(&self, key: &str) -> Option<At<'a>> {
        self.value.get(key).map(|value| self.child(key, value))
    }

    /// The schemas of an array.
    pub fn list(&self) -> Result<Vec<At<'a>>, Error> {
        let list = self.value.as_array().ok_or_else(|| self.expected("an array"))?;
        Ok(list.iter().enumerate().map(|(i, value)| self.child(&i.to_string(), value)).collect())
    }

    /// The schemas of an object, by name.
    pub fn map(&self) -> Result<Vec<(&'a str, At<'a>)>, Error> {
        let map = self.value.as_object().ok_or_else(|| self.expected("an object"))?;
        Ok(map.iter().map(|(name, value)| (name.as_str(), self.child(name, value))).collect())
    }

    pub fn expected(&self, what: &str) -> Error {
        let mut found = self.value.to_string();
        if let Some((end, _)) = found.char_indices().nth(40) {
            found.truncate(end);
            found.push_str("...");
        }
        refused(&self.path, format!("expected {what}, found {found}"))
    }
}

/// Keywords whose value is a schema.
const ONE: &[&str] = &[
    "additionalItems",
    "additionalProperties",
    "contains",
    "contentSchema",
    "else",
    "if",
    "items",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
];
/// Keywords whose value is a list of schemas.
const LIST: &[&str] = &["allOf", "anyOf", "oneOf", "prefixItems", "items"];
/// Keywords whose value is an object of schemas.
const MAP: &[&str] = &["$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties", "properties"];

/// A schema and its parts.
pub struct Document<'a> {
    root: At<'a>,
    /// The schemas by path.
    schemas: HashMap<String, At<'a>>,
    /// Those that have a URI of their own, and those with an anchor, under `URI#anchor`.
    named: HashMap<String, At<'a>>,
    /// How often an anchor is dynamic.
    dynamic: HashMap<&'a str, usize>,
}

impl<'a> Document<'a> {
    pub fn new(source: &'a Value, depth: usize) -> Result<Document<'a>, Error> {
        let root = At { value: source, path: "#".to_owned(), base: "".into(), draft: Draft::D2020 };
        let (schemas, named, dynamic) = (HashMap::new(), HashMap::new(), HashMap::new());
        let mut document = Document { root: root.clone(), schemas, named, dynamic };
        document.named.insert(String::new(), root.clone());
        document.visit(root, depth)?;
        document.root = document.schemas["#"].clone();
        Ok(document)
    }

    pub fn root(&self) -> &At<'a> {
        &self.root
    }

    fn visit(&mut self, mut at: At<'a>, depth: usize) -> Result<(), Error> {
        if depth == 0 {
            return Err(refused(&at.path, "the limit `depth` is reached"));
        }
        let Some(map) = at.value.as_object() else {
            self.schemas.insert(at.path.clone(), at);
            return Ok(());
        };
        if let Some(draft) = map.get("$schema") {
            let uri = draft.as_str().unwrap_or_default().trim_end_matches('#');
            let Some((_, draft)) = DRAFTS.iter().find(|(known, _)| *known == uri) else {
                let known: Vec<&str> = DRAFTS.iter().map(|(uri, _)| *uri).collect();
                return Err(at.child("$schema", draft).expected(&format!("one of {}", known.join(", "))));
            };
            at.draft = *draft;
        }
        let string = |key: &str| map.get(key).and_then(Value::as_str);
        let ignored = at.draft <= Draft::D7 && map.contains_key("$ref");
        let id = string(if at.draft == Draft::D4 { "id" } else { "$id" }).filter(|_| !ignored);
        match id.map(|id| id.trim_end_matches('#')) {
            Some(anchor) if anchor.starts_with('#') => {
                self.named.insert(format!("{}{anchor}", at.base), at.clone());
            }
            Some(id) if !id.is_empty() => {
                at.base = join(&at.base, id).into();
                self.named.insert(at.base.to_string(), at.clone());
            }
            _ => {}
        }
        for key in ["$anchor", "$dynamicAnchor"] {
            if let Some(anchor) = string(key) {
                self.named.insert(format!("{}#{anchor}", at.base), at.clone());
            }
        }
        if let Some(anchor) = string("$dynamicAnchor") {
            *self.dynamic.entry(anchor).or_default() += 1;
        }
        if map.get("$recursiveAnchor") == Some(&Value::Bool(true)) {
            *self.dynamic.entry("").or_default() += 1;
        }
        self.schemas.insert(at.path.clone(), at.clone());
        for (key, value) in map {
            let child = at.child(key, value);
            let key = key.as_str();
            if value.is_array() && LIST.contains(&key) {
                child.list()?.into_iter().try_for_each(|at| self.visit(at, depth - 1))?;
            } else if value.is_object() && MAP.contains(&key) {
                child.map()?.into_iter().try_for_each(|(_, at)| self.visit(at, depth - 1))?;
            } else if value.is_object() && ONE.contains(&key) || value.is_boolean() && ONE.contains(&key) {
                self.visit(child, depth - 1)?;
            }
        }
        Ok(())
    }

    /// All schemas, those inside before those around them.
    pub fn innermost(&self) -> impl Iterator<Item = &At<'a>> {
        let mut all: Vec<&At> = self.schemas.values().collect();
        all.sort_by_key(|at| (std::cmp::Reverse(at.path.matches('/').count()), &at.path));
        all.into_iter()
    }

    /// The schema as the visit found it, with its own base and draft.
    pub fn known(&self, at: &At<'a>) -> At<'a> {
        self.schemas.get(&at.path).unwrap_or(at).clone()
    }

    /// What `reference`, whose value is a URI, leads to.
    pub fn resolve(&self, reference: &At<'a>) -> Result<At<'a>, Error> {
        let text = reference.value.as_str().ok_or_else(|| reference.expected("a string"))?;
        if !reference.path.ends_with("/$ref") && !self.is_static(text) {
            return Err(refused(&reference.path, "not supported where several anchors have this name"));
        }
        let (uri, fragment) = text.split_once('#').unwrap_or((text, ""));
        let base = if uri.is_empty() { reference.base.to_string() } else { join(&reference.base, uri) };
        let missing = || refused(&reference.path, format!("nothing is at {text:?} in this document"));
        let fragment = percent_decoded(fragment).ok_or_else(missing)?;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return self.named.get(&format!("{base}#{fragment}")).cloned().ok_or_else(missing);
        }
        let resource = self.named.get(&base).ok_or_else(|| {
            refused(&reference.path, format!("{text:?} is another document: copy it into `$defs` of this one"))
        })?;
        let mut found = resource.clone();
        for key in fragment.split('/').skip(1) {
            let key = key.replace("~1", "/").replace("~0", "~");
            let inside = match found.value {
                Value::Array(list) => key.parse().ok().and_then(|i: usize| list.get(i)),
                value => value.get(&key),
            };
            found = self.known(&found.child(&key, inside.ok_or_else(missing)?));
        }
        Ok(found)
    }

    /// Whether what a dynamic reference leads to does not depend on where it comes from.
    fn is_static(&self, reference: &str) -> bool {
        let anchor = reference.split_once('#').map_or("", |(_, anchor)| anchor);
        self.dynamic.get(anchor).is_none_or(|&count| count < 2)
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A URI relative to another, without the rules for `.` and `..`: such a reference is found nowhere.
fn join(base: &str, uri: &str) -> String {
    let has_scheme = uri.split_once(':').is_some_and(|(scheme, _)| {
        scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) && !scheme.is_empty()
    });
    let path = base.find("://").map_or(0, |at| at + 3);
    let origin = base[path..].find('/').map_or(base.len(), |at| path + at);
    if has_scheme {
        uri.to_owned()
    } else if uri.starts_with('/') {
        format!("{}{uri}", &base[..origin])
    } else {
        let folder = base[path..].rfind('/').map_or("", |at| &base[..path + at + 1]);
        format!("{folder}{uri}")
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        if *first == b'%' {
            let hex = str::from_utf8(after.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}
