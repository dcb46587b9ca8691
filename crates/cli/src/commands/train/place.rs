//! Values of a TOML text that know where they stand, so that an error can say it; what serde makes of them.

use serde::de::value::SeqDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use std::fmt::{self, Display};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where a value was given.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// In the file, in this line.
    Line(usize),
    /// By the flag `--set` with this text.
    Set(String),
}

/// A value and where it was given.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    value: Value,
}

#[derive(Clone, Debug)]
enum Value {
    Table(Vec<(String, Node)>),
    List(Vec<Node>),
    Text(String),
    Whole(i64),
    /// What only fits without a sign.
    Large(u64),
    Number(f64),
    Flag(bool),
    /// What no key takes: a date, or a number that is too large.
    Other(String),
}

/// Why values are not what they should be.
#[derive(Debug, Default)]
pub struct Problem {
    /// `None` until it is known.
    pub place: Option<Place>,
    /// From the inside out.
    pub keys: Vec<String>,
    pub expected: String,
    pub found: String,
    /// The known name that is most like the one that was found.
    pub nearest: Option<&'static str>,
    /// Whether it is a key that was found, and not a value.
    pub is_key: bool,
}

impl Node {
    /// The values of a TOML text; `place` makes one of a line.
    pub fn parse(text: &str, place: &dyn Fn(usize) -> Place) -> Result<Node, Problem> {
        let line = |offset: usize| place(1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count());
        let table = DeTable::parse(text).map_err(|error| Problem {
            place: error.span().map(|span| line(span.start)),
            expected: "TOML".into(),
            found: error.message().replace('\n', ": "),
            ..Problem::default()
        })?;
        Ok(Node { place: line(0), value: table_of(table.into_inner(), &line) })
    }

    /// Takes the values of `other` in the place of its own.
    pub fn merge(&mut self, other: Node) {
        match (&mut self.value, other) {
            (Value::Table(entries), Node { value: Value::Table(others), .. }) => {
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

    /// The value at `train.batch`.
    pub fn at(&self, key: &str) -> Option<&Node> {
        key.split('.').try_fold(self, |node, key| match &node.value {
            Value::Table(entries) => entries.iter().find(|(known, _)| known == key).map(|(_, node)| node),
            _ => None,
        })
    }
}

impl Value {
    fn unexpected(&self) -> Unexpected<'_> {
        match self {
            Value::Table(_) => Unexpected::Map,
            Value::List(_) => Unexpected::Seq,
            Value::Text(text) => Unexpected::Str(text),
            Value::Whole(number) => Unexpected::Signed(*number),
            Value::Large(number) => Unexpected::Unsigned(*number),
            Value::Number(number) => Unexpected::Float(*number),
            Value::Flag(flag) => Unexpected::Bool(*flag),
            Value::Other(text) => Unexpected::Other(text),
        }
    }
}

fn table_of(table: DeTable, line: &dyn Fn(usize) -> Place) -> Value {
    let entry = |(key, value): (Spanned<_>, Spanned<DeValue>)| {
        let place = line(key.span().start);
        let node = Node { place, value: value_of(value.into_inner(), line) };
        (String::from(key.into_inner()), node)
    };
    Value::Table(table.into_iter().map(entry).collect())
}

fn value_of(value: DeValue, line: &dyn Fn(usize) -> Place) -> Value {
    match value {
        DeValue::Table(table) => table_of(table, line),
        DeValue::Array(items) => {
            let node = |item: Spanned<DeValue>| Node {
                place: line(item.span().start),
                value: value_of(item.into_inner(), line),
            };
            Value::List(items.into_iter().map(node).collect())
        }
        DeValue::String(text) => Value::Text(text.into()),
        DeValue::Boolean(flag) => Value::Flag(flag),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Float(number) => number.as_str().parse().map_or(Value::Other(number.to_string()), Value::Number),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            let large = || u64::from_str_radix(digits, radix).map_or(Value::Other(number.to_string()), Value::Large);
            i64::from_str_radix(digits, radix).map_or_else(|_| large(), Value::Whole)
        }
    }
}

impl<'de> Deserializer<'de> for Node {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let place = self.place;
        let visited = match self.value {
            Value::Table(entries) => visitor.visit_map(Entries { rest: entries.into_iter(), next: None }),
            Value::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            Value::Text(text) => visitor.visit_string(text),
            Value::Whole(number) => visitor.visit_i64(number),
            Value::Large(number) => visitor.visit_u64(number),
            Value::Number(number) => visitor.visit_f64(number),
            Value::Flag(flag) => visitor.visit_bool(flag),
            other @ Value::Other(_) => Err(de::Error::invalid_type(other.unexpected(), &visitor)),
        };
        visited.map_err(|problem| problem.or_at(place))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let visited = match self.value {
            Value::Text(text) => visitor.visit_enum(text.into_deserializer()),
            other => Err(de::Error::invalid_type(other.unexpected(), &"a name in quotes")),
        };
        visited.map_err(|problem: Problem| problem.or_at(self.place))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Problem> for Node {
    type Deserializer = Node;

    fn into_deserializer(self) -> Node {
        self
    }
}

/// The entries of a table.
struct Entries {
    rest: std::vec::IntoIter<(String, Node)>,
    next: Option<(String, Node)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, node)) = self.rest.next() else { return Ok(None) };
        let place = node.place.clone();
        self.next = Some((key.clone(), node));
        seed.deserialize(key.into_deserializer()).map(Some).map_err(|problem: Problem| problem.or_at(place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let (key, node) = self.next.take().expect("serde asks for the key first");
        seed.deserialize(node).map_err(|mut problem| {
            problem.keys.push(key);
            problem
        })
    }
}

impl Problem {
    /// As `train.batch`; empty where the text as a whole is wrong.
    pub fn key(&self) -> String {
        self.keys.iter().rev().map(String::as_str).collect::<Vec<_>>().join(".")
    }

    /// Says where it is, unless a value further inside has said so.
    fn or_at(mut self, place: Place) -> Problem {
        self.place.get_or_insert(place);
        self
    }

    fn unknown(name: &str, known: &'static [&'static str]) -> Problem {
        let likeness = |known: &&str| strsim::normalized_damerau_levenshtein(name, known);
        let nearest = known.iter().copied().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        Problem {
            expected: format!("one of {}", known.join(", ")),
            nearest: nearest.filter(|nearest| likeness(nearest) >= 0.5),
            ..Problem::default()
        }
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl std::error::Error for Problem {}

impl de::Error for Problem {
    fn custom<T: Display>(message: T) -> Problem {
        Problem { expected: "something else".into(), found: message.to_string(), ..Problem::default() }
    }

    fn invalid_type(found: Unexpected, expected: &dyn Expected) -> Problem {
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
        Problem { expected, found, ..Problem::default() }
    }

    fn invalid_value(found: Unexpected, expected: &dyn Expected) -> Problem {
        Problem::invalid_type(found, expected)
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Problem {
        Problem { found: format!("`{name}`"), ..Problem::unknown(name, known) }
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Problem {
        let problem = Problem::unknown(name, known);
        Problem { found: "an unknown key".into(), keys: vec![name.to_owned()], is_key: true, ..problem }
    }

    fn missing_field(name: &'static str) -> Problem {
        Problem { expected: "a value".into(), found: "none".into(), keys: vec![name.to_owned()], ..Problem::default() }
    }
}
