//! The names of keywords.

use super::document::{At, Draft};
use super::lower::UNSUPPORTED;
use super::refused;
use crate::Error;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyword {
    Type,
    Const,
    Enum,
    /// `minimum` and the like.
    Bound(&'static str),
    MultipleOf,
    /// `minLength` and the like.
    Size(&'static str),
    Pattern,
    Format,
    Required,
    Properties,
    PatternProperties,
    AdditionalProperties,
    PropertyNames,
    DependentRequired,
    DependentSchemas,
    /// Both, in drafts 4 to 7.
    Dependencies,
    PrefixItems,
    Items,
    AdditionalItems,
    Contains,
    UniqueItems,
    Ref,
    AllOf,
    AnyOf,
    OneOf,
    Not,
    If,
    UnevaluatedProperties,
    UnevaluatedItems,
}

impl Keyword {
    /// Whether its schemas are for the same value.
    pub fn is_in_place(self) -> bool {
        use Keyword::{AllOf, AnyOf, Dependencies, DependentRequired, DependentSchemas, If, Not, OneOf, Ref};
        matches!(self, Ref | AllOf | AnyOf | OneOf | Not | If | DependentRequired | DependentSchemas | Dependencies)
    }

    pub fn is_unevaluated(self) -> bool {
        matches!(self, Keyword::UnevaluatedProperties | Keyword::UnevaluatedItems)
    }
}

/// Keywords that say nothing about a value, or belong to another.
const ANNOTATIONS: &[&str] = &[
    "$anchor",
    "$comment",
    "$defs",
    "$dynamicAnchor",
    "$id",
    "$recursiveAnchor",
    "$schema",
    "$vocabulary",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "else",
    "example",
    "examples",
    "id",
    "maxContains",
    "minContains",
    "readOnly",
    "then",
    "title",
    "writeOnly",
];

/// The keyword of a name; `None` for one that says nothing about a value.
///
/// # Errors
/// When it is unknown, as a misspelled one is, or not supported.
pub fn keyword(name: &str, at: &At) -> Result<Option<Keyword>, Error> {
    let known = |since: Draft| at.draft >= since;
    Ok(Some(match name {
        "type" => Keyword::Type,
        "const" => Keyword::Const,
        "enum" => Keyword::Enum,
        "minimum" => Keyword::Bound("minimum"),
        "maximum" => Keyword::Bound("maximum"),
        "exclusiveMinimum" => Keyword::Bound("exclusiveMinimum"),
        "exclusiveMaximum" => Keyword::Bound("exclusiveMaximum"),
        "multipleOf" => Keyword::MultipleOf,
        "minLength" => Keyword::Size("minLength"),
        "maxLength" => Keyword::Size("maxLength"),
        "minItems" => Keyword::Size("minItems"),
        "maxItems" => Keyword::Size("maxItems"),
        "minProperties" => Keyword::Size("minProperties"),
        "maxProperties" => Keyword::Size("maxProperties"),
        "pattern" => Keyword::Pattern,
        "format" => Keyword::Format,
        "required" => Keyword::Required,
        "properties" => Keyword::Properties,
        "patternProperties" => Keyword::PatternProperties,
        "additionalProperties" => Keyword::AdditionalProperties,
        "propertyNames" => Keyword::PropertyNames,
        "dependentRequired" => Keyword::DependentRequired,
        "dependentSchemas" => Keyword::DependentSchemas,
        "dependencies" => Keyword::Dependencies,
        "prefixItems" if known(Draft::D2020) => Keyword::PrefixItems,
        "prefixItems" => return Err(refused(&at.path, "expected an array as `items` in this draft")),
        "items" if known(Draft::D2020) && at.value.is_array() => return Err(at.expected("a schema; use prefixItems")),
        "items" => Keyword::Items,
        "additionalItems" if known(Draft::D2020) => return Err(refused(&at.path, "expected `items` in this draft")),
        "additionalItems" => Keyword::AdditionalItems,
        "contains" => Keyword::Contains,
        "uniqueItems" => Keyword::UniqueItems,
        "$ref" => Keyword::Ref,
        "allOf" => Keyword::AllOf,
        "anyOf" => Keyword::AnyOf,
        "oneOf" => Keyword::OneOf,
        "not" => Keyword::Not,
        "if" => Keyword::If,
        "unevaluatedProperties" => Keyword::UnevaluatedProperties,
        "unevaluatedItems" => Keyword::UnevaluatedItems,
        "$dynamicRef" | "$recursiveRef" => Keyword::Ref,
        name if ANNOTATIONS.contains(&name) => return Ok(None),
        name if name.starts_with("x-") && name != "x-guidance" => return Ok(None),
        "x-guidance" => return Err(refused(&at.path, UNSUPPORTED)),
        _ => return Err(refused(&at.path, "unknown keyword: remove it, or name it `x-...`")),
    }))
}
