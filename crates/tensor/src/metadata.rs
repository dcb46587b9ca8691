//! The keys and values of a GGUF file.

use std::borrow::Cow;

use indexmap::IndexMap;

use crate::error::in_key;
use crate::{Error, Result};

/// One value of a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    /// A string that is not UTF-8.
    Bytes(Vec<u8>),
    Array(Array),
}

/// An array of a GGUF file. All elements have one type; arrays of arrays are not supported.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Strings),
    /// Strings, of which at least one is not UTF-8.
    Bytes(Vec<Vec<u8>>),
}

/// An array of strings in one allocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    text: String,
    /// The end of each string in `text`.
    ends: Vec<usize>,
}

impl Strings {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |&end| &self.text[std::mem::replace(&mut start, end)..end])
    }

    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }
}

impl<S: AsRef<str>> FromIterator<S> for Strings {
    fn from_iter<I: IntoIterator<Item = S>>(iter: I) -> Strings {
        let mut strings = Strings::default();
        iter.into_iter().for_each(|string| strings.push(string.as_ref()));
        strings
    }
}

impl Array {
    pub fn len(&self) -> usize {
        match self {
            Array::U8(v) => v.len(),
            Array::I8(v) => v.len(),
            Array::U16(v) => v.len(),
            Array::I16(v) => v.len(),
            Array::U32(v) => v.len(),
            Array::I32(v) => v.len(),
            Array::U64(v) => v.len(),
            Array::I64(v) => v.len(),
            Array::F32(v) => v.len(),
            Array::F64(v) => v.len(),
            Array::Bool(v) => v.len(),
            Array::String(v) => v.len(),
            Array::Bytes(v) => v.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn type_name(&self) -> &'static str {
        match self {
            Array::U8(_) => "u8",
            Array::I8(_) => "i8",
            Array::U16(_) => "u16",
            Array::I16(_) => "i16",
            Array::U32(_) => "u32",
            Array::I32(_) => "i32",
            Array::U64(_) => "u64",
            Array::I64(_) => "i64",
            Array::F32(_) => "f32",
            Array::F64(_) => "f64",
            Array::Bool(_) => "bool",
            Array::String(_) => "string",
            Array::Bytes(_) => "string, of which one is not UTF-8",
        }
    }

    /// The elements; `None` if they are not integers, or one does not fit.
    fn to_i32s(&self) -> Option<Vec<i32>> {
        fn all<T: Copy + TryInto<i32>>(v: &[T]) -> Option<Vec<i32>> {
            v.iter().map(|&x| x.try_into().ok()).collect()
        }
        match self {
            Array::U8(v) => all(v),
            Array::I8(v) => all(v),
            Array::U16(v) => all(v),
            Array::I16(v) => all(v),
            Array::U32(v) => all(v),
            Array::I32(v) => all(v),
            Array::U64(v) => all(v),
            Array::I64(v) => all(v),
            Array::F32(_) | Array::F64(_) | Array::Bool(_) | Array::String(_) | Array::Bytes(_) => None,
        }
    }
}

impl Value {
    /// The value as an integer; `None` if it is not one.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            Value::F32(_) | Value::F64(_) | Value::Bool(_) | Value::String(_) | Value::Bytes(_) | Value::Array(_) => {
                return None;
            }
        })
    }

    /// The type, and the value if it is short, for errors.
    fn describe(&self) -> String {
        match self {
            Value::U8(x) => format!("u8 {x}"),
            Value::I8(x) => format!("i8 {x}"),
            Value::U16(x) => format!("u16 {x}"),
            Value::I16(x) => format!("i16 {x}"),
            Value::U32(x) => format!("u32 {x}"),
            Value::I32(x) => format!("i32 {x}"),
            Value::U64(x) => format!("u64 {x}"),
            Value::I64(x) => format!("i64 {x}"),
            Value::F32(x) => format!("f32 {x}"),
            Value::F64(x) => format!("f64 {x}"),
            Value::Bool(x) => format!("bool {x}"),
            Value::String(_) => "a string".to_string(),
            Value::Bytes(_) => "a string that is not UTF-8".to_string(),
            Value::Array(a) => format!("an array of {} {}", a.len(), a.type_name()),
        }
    }
}

/// Keys and values of a GGUF file, in the order of the file.
///
/// The typed getters return `None` for a missing key, and an error for a value of another type. Integers of any width are
/// converted if the value fits, floats of either width are rounded. Strings that are not UTF-8 are an error only for their getters.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    values: IndexMap<String, Value>,
}

impl Metadata {
    pub fn new() -> Metadata {
        Metadata::default()
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// Sets a value and returns the old one. A new key is added at the end.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) -> Option<Value> {
        self.values.insert(key.into(), value.into())
    }

    /// Removes a key and returns its value. The others keep their order.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        self.values.shift_remove(key)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// An integer that fits a `u32`.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "u32", |v| v.integer()?.try_into().ok())
    }

    /// An integer that fits an `i32`.
    pub fn i32(&self, key: &str) -> Result<Option<i32>> {
        self.typed(key, "i32", |v| v.integer()?.try_into().ok())
    }

    /// A float; an `f64` is rounded.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "f32", |v| match *v {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        })
    }

    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "bool", |v| match *v {
            Value::Bool(x) => Some(x),
            _ => None,
        })
    }

    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", |v| match v {
            Value::String(x) => Some(x.as_str()),
            _ => None,
        })
    }

    pub fn strs(&self, key: &str) -> Result<Option<&Strings>> {
        self.typed(key, "an array of string", |v| match v {
            Value::Array(Array::String(x)) => Some(x),
            _ => None,
        })
    }

    /// An array of floats; `f64` are rounded, and `i32` converted.
    pub fn f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>> {
        self.typed(key, "an array of f32", |v| match v {
            Value::Array(Array::F32(x)) => Some(Cow::Borrowed(x.as_slice())),
            Value::Array(Array::F64(x)) => Some(x.iter().map(|&x| x as f32).collect()),
            Value::Array(Array::I32(x)) => Some(x.iter().map(|&x| x as f32).collect()),
            _ => None,
        })
    }

    /// An array of integers that each fit an `i32`.
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>> {
        self.typed(key, "an array of i32", |v| match v {
            Value::Array(Array::I32(x)) => Some(Cow::Borrowed(x.as_slice())),
            Value::Array(array) => array.to_i32s().map(Cow::Owned),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(x) => Ok(Some(x)),
            None => Err(Error::malformed(in_key(key), expected, value.describe())),
        }
    }
}

macro_rules! from {
    ($($from:ty => |$x:ident| $value:expr;)*) => {
        $(impl From<$from> for Value {
            fn from($x: $from) -> Value {
                $value
            }
        })*
    };
}

from! {
    u32 => |x| Value::U32(x);
    i32 => |x| Value::I32(x);
    u64 => |x| Value::U64(x);
    f32 => |x| Value::F32(x);
    bool => |x| Value::Bool(x);
    &str => |x| Value::String(x.to_string());
    String => |x| Value::String(x);
    Vec<i32> => |x| Value::Array(Array::I32(x));
    Vec<u32> => |x| Value::Array(Array::U32(x));
    Vec<f32> => |x| Value::Array(Array::F32(x));
    Strings => |x| Value::Array(Array::String(x));
    Array => |x| Value::Array(x);
}
