//! Safetensors: the length of a JSON header, the header, and the tensors' bytes one after another.
//!
//! Specification: <https://github.com/huggingface/safetensors#format>. The header is read by our own code because a
//! tensor named twice must be an error, and the JSON maps of the `safetensors` crate keep the last silently.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use indexmap::IndexMap;
use indexmap::map::Entry as Slot;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::format::{self, Format};
use crate::view::{Order, size};
use crate::writer::write_all;
use crate::{Bytes, Entry, Error, Result, View};

pub use crate::writer::Writer;

/// The types of tensors, by their safetensors name.
const DTYPES: &[(&str, &Format)] = &[
    ("F32", &format::F32),
    ("F16", &format::F16),
    ("BF16", &format::BF16),
    ("F64", &format::F64),
    ("F8_E4M3", &format::F8_E4M3),
    ("F8_E5M2", &format::F8_E5M2),
    ("U8", &format::U8),
    ("BOOL", &format::BOOL),
    ("I8", &format::I8),
    ("I16", &format::I16),
    ("I32", &format::I32),
    ("I64", &format::I64),
];

const MAX_DIMENSIONS: usize = 8;
const MAX_NAME: usize = 65535;
const METADATA: &str = "__metadata__";

/// Reads and checks the header, and gives the tensors as ranges of `bytes` in the order of the header. Every byte after
/// the header must belong to exactly one tensor.
pub fn read(bytes: &Bytes) -> Result<IndexMap<String, View>> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        let what = "the length of the header".to_string();
        return Err(Error::Truncated { what, expected: 8, found: bytes.len() as u64 });
    };
    let (length, left) = (u64::from_le_bytes(*length), rest.len() as u64);
    if length > left {
        return Err(Error::HeaderLength { found: length, left });
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Unique<Field> =
        serde_json::from_slice(header).map_err(|source| Error::Json { what: "the header", source })?;
    let data = bytes.slice(bytes.len() - data.len()..);
    let mut tensors = IndexMap::new();
    for (name, field) in header.0 {
        if let Field::Tensor(tensor) = field {
            tensors.insert(name.clone(), tensor.view(name, &data)?);
        }
    }
    check_cover(&tensors, &data)?;
    Ok(tensors)
}

/// Refuses tensors that share bytes, and bytes that belong to none.
fn check_cover(tensors: &IndexMap<String, View>, data: &Bytes) -> Result<()> {
    let start = |view: &View| view.bytes.as_ptr() as u64 - data.as_ptr() as u64;
    let mut order: Vec<&View> = tensors.values().collect();
    order.sort_unstable_by_key(|view| start(view));
    let mut covered = 0;
    for (i, view) in order.iter().enumerate() {
        let from = start(view);
        if from < covered {
            return Err(Error::Overlap { first: order[i - 1].name.clone(), second: view.name.clone() });
        }
        if from > covered {
            return Err(Error::Gap { from: covered, to: from });
        }
        covered = from + view.bytes.len() as u64;
    }
    let end = data.len() as u64;
    if covered == end { Ok(()) } else { Err(Error::Gap { from: covered, to: end }) }
}

/// A value of the header: a tensor, or the free-form metadata, which nobody needs.
enum Field {
    Tensor(Tensor),
    Metadata,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Tensor {
    dtype: String,
    shape: Shape,
    data_offsets: (u64, u64),
}

impl Tensor {
    fn view(self, name: String, data: &Bytes) -> Result<View> {
        let Some(&(_, format)) = DTYPES.iter().find(|(dtype, _)| *dtype == self.dtype) else {
            return Err(Error::UnknownFormat { tensor: name, found: self.dtype.chars().take(40).collect() });
        };
        let size = size(&name, format, &self.shape.0)?;
        let shape = self.shape.0.iter().map(|&n| n as usize).collect();
        let (start, end) = self.data_offsets;
        let found = data.len() as u64;
        if end > found {
            return Err(Error::PastEnd { tensor: name, offset: start, expected: end.saturating_sub(start), found });
        }
        if end.checked_sub(start) != Some(size) {
            let found = end.saturating_sub(start);
            return Err(Error::Length { tensor: name, shape, format: format.name, expected: size, found });
        }
        Ok(View {
            name,
            format,
            shape,
            bytes: data.slice(start as usize..end as usize),
            mapping: None,
            order: Order::default(),
        })
    }
}

/// A short list of dimensions: a long one is refused before it takes memory.
struct Shape(Vec<u64>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Shape, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "at most {MAX_DIMENSIONS} dimensions")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Shape, A::Error> {
                let mut shape = Vec::with_capacity(MAX_DIMENSIONS);
                while let Some(n) = seq.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        return Err(A::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
                    }
                    shape.push(n);
                }
                Ok(Shape(shape))
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

/// How the value of a JSON key is read, which may depend on the key.
pub(crate) trait Member: Sized {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Self, A::Error>;
}

impl Member for Field {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Field, A::Error> {
        match key {
            METADATA => map.next_value::<IgnoredAny>().map(|_| Field::Metadata),
            _ => map.next_value().map(Field::Tensor),
        }
    }
}

impl Member for String {
    fn next<'de, A: MapAccess<'de>>(_key: &str, map: &mut A) -> std::result::Result<String, A::Error> {
        map.next_value()
    }
}

/// A JSON object in its order; a key that occurs twice, or is too long for a name, is an error.
pub(crate) struct Unique<V>(pub IndexMap<String, V>);

impl<'de, V: Member> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Unique<V>, D::Error> {
        struct Members<V>(PhantomData<V>);
        impl<'de, V: Member> Visitor<'de> for Members<V> {
            type Value = Unique<V>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Unique<V>, A::Error> {
                let mut members = IndexMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    if key.len() > MAX_NAME {
                        return Err(A::Error::custom(format!(
                            "a name of {} bytes, expected at most {MAX_NAME}",
                            key.len()
                        )));
                    }
                    let value = V::next(&key, &mut map)?;
                    match members.entry(key) {
                        Slot::Occupied(slot) => return Err(A::Error::custom(format!("{:?} occurs twice", slot.key()))),
                        Slot::Vacant(slot) => slot.insert(value),
                    };
                }
                Ok(Unique(members))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}

/// Writes a file. It takes the place of an old one only when it is whole and on disk.
pub fn write(path: impl AsRef<Path>, tensors: &[View]) -> Result<()> {
    write_all(create(path, tensors.iter().map(View::entry).collect())?, tensors)
}

/// Begins a file with these tensors, whose bytes then go through the [`Writer`] in this order.
pub fn create(path: impl AsRef<Path>, tensors: Vec<Entry>) -> Result<Writer> {
    let path = path.as_ref();
    let header = header(&tensors).map_err(|e| e.at(path))?;
    Writer::create(path, &header, tensors, 1)
}

/// Length and header; the header ends in spaces so that the data begins on a multiple of 64 bytes.
fn header(tensors: &[Entry]) -> Result<Vec<u8>> {
    let mut fields = serde_json::Map::new();
    // Python's transformers refuses a file that does not say which framework wrote it.
    fields.insert(METADATA.to_string(), serde_json::json!({ "format": "pt" }));
    let mut offset = 0u64;
    for entry in tensors {
        let tensor = || entry.name.clone();
        let Some((dtype, _)) = DTYPES.iter().find(|(_, format)| *format == entry.format) else {
            return Err(Error::NotStorable { tensor: tensor(), format: entry.format.name, kind: "safetensors" });
        };
        if entry.shape.len() > MAX_DIMENSIONS {
            let (found, limit) = (entry.shape.len() as u64, MAX_DIMENSIONS as u64);
            return Err(Error::Dimensions { tensor: tensor(), found, limit });
        }
        let end = offset.saturating_add(entry.size()?);
        let field = serde_json::json!({ "dtype": dtype, "shape": entry.shape, "data_offsets": [offset, end] });
        offset = end;
        if fields.insert(entry.name.clone(), field).is_some() {
            return Err(Error::DuplicateTensor { tensor: tensor() });
        }
    }
    let mut json = serde_json::Value::Object(fields).to_string().into_bytes();
    json.resize((json.len() + 8).next_multiple_of(64) - 8, b' ');
    Ok([&(json.len() as u64).to_le_bytes(), json.as_slice()].concat())
}
