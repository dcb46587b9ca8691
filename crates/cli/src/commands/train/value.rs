//! TOML values with their locations, which errors name, as a serde deserializer.

use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt::{self, Display};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// A line of the file, from 1.
    Line(usize),
    /// The text of a `--set`.
    Set(String),
}

/// A value with its location.
#[derive(Clone, Debug)]
pub struct ConfigValue {
    pub location: Location,
    value: ValueKind,
}

#[derive(Clone, Debug)]
enum ValueKind {
    Table(Vec<(String, ConfigValue)>),
    List(Vec<ConfigValue>),
    Text(String),
    Whole(i64),
    /// Too large for a signed integer.
    Large(u64),
    Number(f64),
    Flag(bool),
    /// A whole number that is larger still, which no key accepts.
    Huge(String),
    /// A date, which no key accepts.
    Other(String),
}

/// Why a value is invalid.
#[derive(Debug, Default)]
pub struct ValueError {
    pub location: Option<Location>,
    /// The path to the value, from the innermost key outwards.
    pub keys: Vec<String>,
    pub expected: String,
    pub found: String,
    /// The known name that is most similar to an unknown one.
    pub nearest: Option<&'static str>,
    /// Whether a key is unknown, not a value.
    pub is_key: bool,
}

impl ConfigValue {
    /// Parses a TOML text; `at` gives the location for a line.
    pub fn parse(text: &str, at: &dyn Fn(usize) -> Location) -> Result<ConfigValue, ValueError> {
        let line = |offset: usize| at(1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count());
        let table = DeTable::parse(text).map_err(|error| ValueError {
            location: error.span().map(|span| line(span.start)),
            expected: "TOML".into(),
            found: error.message().replace('\n', ": "),
            ..ValueError::default()
        })?;
        Ok(ConfigValue { location: line(0), value: table_of(table.into_inner(), &line) })
    }

    /// Overrides values by those of `other`.
    pub fn merge(&mut self, other: ConfigValue) {
        match (&mut self.value, other) {
            (ValueKind::Table(entries), ConfigValue { value: ValueKind::Table(others), .. }) => {
                for (key, node) in others {
                    match entries.iter_mut().find(|(known, _)| *known == key) {
                        Some((_, known)) => known.merge(node),
                        None => entries.push((key, node)),
                    }
                }
            }
            (_, other) => *self = other,
        }
    }

    /// The value at a path such as `train.batch`.
    pub fn at(&self, key: &str) -> Option<&ConfigValue> {
        key.split('.').try_fold(self, |node, key| match &node.value {
            ValueKind::Table(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, node)| node),
            _ => None,
        })
    }
}

impl ValueKind {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            ValueKind::Table(_) => Unexpected::Map,
            ValueKind::List(_) => Unexpected::Seq,
            ValueKind::Text(text) => Unexpected::Str(text),
            ValueKind::Whole(number) => Unexpected::Signed(*number),
            ValueKind::Large(number) => Unexpected::Unsigned(*number),
            ValueKind::Number(number) => Unexpected::Float(*number),
            ValueKind::Flag(flag) => Unexpected::Bool(*flag),
            ValueKind::Huge(text) | ValueKind::Other(text) => Unexpected::Other(text),
        }
    }
}

fn table_of(table: DeTable, line: &dyn Fn(usize) -> Location) -> ValueKind {
    let entry = |(key, value): (Spanned<_>, Spanned<DeValue>)| {
        let location = line(key.span().start);
        let node = ConfigValue { location, value: value_of(value.into_inner(), line) };
        (String::from(key.into_inner()), node)
    };
    ValueKind::Table(table.into_iter().map(entry).collect())
}

fn value_of(value: DeValue, line: &dyn Fn(usize) -> Location) -> ValueKind {
    match value {
        DeValue::Table(table) => table_of(table, line),
        DeValue::Array(items) => {
            let node = |item: Spanned<DeValue>| ConfigValue {
                location: line(item.span().start),
                value: value_of(item.into_inner(), line),
            };
            ValueKind::List(items.into_iter().map(node).collect())
        }
        DeValue::String(text) => ValueKind::Text(text.into()),
        DeValue::Boolean(flag) => ValueKind::Flag(flag),
        DeValue::Datetime(date) => ValueKind::Other(date.to_string()),
        DeValue::Float(number) => {
            number.as_str().parse().map_or(ValueKind::Other(number.to_string()), ValueKind::Number)
        }
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            let large =
                || u64::from_str_radix(digits, radix).map_or(ValueKind::Huge(number.to_string()), ValueKind::Large);
            i64::from_str_radix(digits, radix).map_or_else(|_| large(), ValueKind::Whole)
        }
    }
}

impl<'de> Deserializer<'de> for ConfigValue {
    type Error = ValueError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        let location = self.location;
        let visited = match self.value {
            ValueKind::Table(entries) => visitor.visit_map(Entries { rest: entries.into_iter(), next: None }),
            ValueKind::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            ValueKind::Text(text) => visitor.visit_string(text),
            ValueKind::Whole(number) => visitor.visit_i64(number),
            ValueKind::Large(number) => visitor.visit_u64(number),
            ValueKind::Number(number) => visitor.visit_f64(number),
            ValueKind::Flag(flag) => visitor.visit_bool(flag),
            ValueKind::Huge(found) => {
                let expected = format!("a whole number of at most {}", u64::MAX);
                Err(ValueError { expected, found, ..ValueError::default() })
            }
            other @ ValueKind::Other(_) => Err(de::Error::invalid_type(other.unexpected(), &visitor)),
        };
        visited.map_err(|problem| problem.or_at(location))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let visited = match self.value {
            ValueKind::Text(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(de::Error::invalid_type(other.unexpected(), &"a name in quotes")),
        };
        visited.map_err(|problem: ValueError| problem.or_at(self.location))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, ValueError> for ConfigValue {
    type Deserializer = ConfigValue;

    fn into_deserializer(self) -> ConfigValue {
        self
    }
}

/// The entries of a table.
struct Entries {
    rest: std::vec::IntoIter<(String, ConfigValue)>,
    next: Option<(String, ConfigValue)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = ValueError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ValueError> {
        let Some((key, node)) = self.rest.next() else { return Ok(None) };
        let location = node.location.clone();
        self.next = Some((key.clone(), node));
        seed.deserialize(key.into_deserializer()).map(Some).map_err(|problem: ValueError| problem.or_at(location))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ValueError> {
        let (key, node) = self.next.take().expect("serde takes the key first");
        seed.deserialize(node).map_err(|mut problem| {
            problem.keys.push(key);
            problem
        })
    }
}

impl ValueError {
    /// The path to the value, such as `train.batch`; empty for an error about the whole text.
    fn key(&self) -> String {
        self.keys.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".")
    }

    /// Sets the location, unless a value further inside has set it.
    fn or_at(mut self, location: Location) -> ValueError {
        self.location.get_or_insert(location);
        self
    }

    fn unknown(name: &str, known: &'static [&'static str]) -> ValueError {
        let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(name, known);
        let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        ValueError {
            expected: format!("one of {}", known.join(", ")),
            nearest: nearest.filter(|nearest| likeness(nearest) >= 0.5),
            ..ValueError::default()
        }
    }
}

impl Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let key = self.key();
        if !key.is_empty() {
            write!(f, "`{key}`: ")?;
        }
        write!(f, "expected {}, found {}", self.expected, self.found)?;
        let table = key.rfind('.').filter(|_| self.is_key).map_or("", |dot| &key[..=dot]);
        self.nearest.iter().try_for_each(|name| write!(f, "; did you mean `{table}{name}`?"))
    }
}

impl std::error::Error for ValueError {}

impl de::Error for ValueError {
    fn custom<T: Display>(message: T) -> ValueError {
        ValueError { expected: "something else".into(), found: message.to_string(), ..ValueError::default() }
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> ValueError {
        let expected = match expected.to_string().as_str() {
            "u64" | "usize" => "a whole number that is not negative".into(),
            "f32" | "f64" => "a number".into(),
            "a boolean" => "true or false".into(),
            "a sequence" => "a list".into(),
            "a string" | "path string" | "string or map" => "a text in quotes".into(),
            expected if expected.starts_with("struct ") => "a table".into(),
            expected => expected.to_owned(),
        };
        let found = match found {
            Unexpected::Map => "a table".into(),
            Unexpected::Seq => "a list".into(),
            Unexpected::Str(text) => format!("the text {text:?}"),
            Unexpected::Bool(flag) => flag.to_string(),
            Unexpected::Signed(number) => number.to_string(),
            Unexpected::Unsigned(number) => number.to_string(),
            Unexpected::Float(number) => format!("{number:?}"),
            found => found.to_string(),
        };
        ValueError { expected, found, ..ValueError::default() }
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> ValueError {
        ValueError::invalid_type(found, expected)
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> ValueError {
        ValueError { found: format!("`{name}`"), ..ValueError::unknown(name, known) }
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> ValueError {
        let problem = ValueError::unknown(name, known);
        ValueError { found: "an unknown key".into(), keys: vec![name.to_owned()], is_key: true, ..problem }
    }

    fn missing_field(name: &'static str) -> ValueError {
        ValueError {
            expected: "a value".into(),
            found: "none".into(),
            keys: vec![name.to_owned()],
            ..ValueError::default()
        }
    }
}
