//! Safetensors: the length of a JSON header, the header, and the tensors' bytes one after another.
//!
//! Specification: <https://github.com/huggingface/safetensors#format>. The `safetensors` crate is not used since it
//! accepts a header with duplicate names, of which it keeps the last.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;

use indexmap::IndexMap;
use indexmap::map::Entry as Slot;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::error::in_tensor;
use crate::format::{self, Format};
use crate::view::{Sidecar, size};
use crate::writer::write_all;
use crate::{Bytes, Error, Result, ShardedWriter, TensorInfo, View, gguf};

pub use crate::writer::Writer;

/// Formats by their name in safetensors.
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

/// Reads and checks the header, and returns the tensors as ranges of `bytes` in the order of the header. Every byte
/// after the header must belong to exactly one tensor. A tensor that `save_model` of PyTorch left out, since another has the same memory,
/// follows under its own name, which the metadata has.
pub fn read(bytes: &Bytes) -> Result<IndexMap<String, View>> {
    let Some((length, rest)) = bytes.split_first_chunk() else {
        let place = "the length of the header".to_string();
        return Err(Error::Truncated { place, expected: 8, found: bytes.len() as u64 });
    };
    let (length, left) = (u64::from_le_bytes(*length), rest.len() as u64);
    if length > left {
        return Err(Error::Truncated { place: "the header".to_string(), expected: length, found: left });
    }
    let (header, data) = rest.split_at(length as usize);
    let header: Unique<HeaderField> =
        serde_json::from_slice(header).map_err(|source| Error::Json { place: "the header", source })?;
    let data = bytes.slice(bytes.len() - data.len()..);
    let mut tensors = IndexMap::new();
    let mut shared = IndexMap::new();
    for (name, field) in header.0 {
        match field {
            HeaderField::Tensor(tensor) => _ = tensors.insert(name.clone(), tensor.view(name, &data)?),
            HeaderField::Metadata(texts) => shared = texts,
        }
    }
    check_cover(&tensors, &data)?;
    for (name, stored) in shared {
        if let Some(view) = tensors.get(&stored).filter(|_| !tensors.contains_key(&name)) {
            let view = View { name: name.clone(), ..view.clone() };
            tensors.insert(name, view);
        }
    }
    Ok(tensors)
}

/// Refuses tensors that overlap, and bytes that belong to no tensor.
fn check_cover(tensors: &IndexMap<String, View>, data: &Bytes) -> Result<()> {
    let start = |view: &View| view.bytes.as_ptr() as u64 - data.as_ptr() as u64;
    let mut order: Vec<&View> = tensors.values().collect();
    order.sort_unstable_by_key(|view| start(view));
    let mut covered = 0;
    for (i, view) in order.iter().enumerate() {
        let from = start(view);
        if from < covered {
            return Err(Error::overlap(&order[i - 1].name, &view.name));
        }
        if from > covered {
            return Err(gap(covered, from));
        }
        covered = from + view.bytes.len() as u64;
    }
    let end = data.len() as u64;
    if covered == end { Ok(()) } else { Err(gap(covered, end)) }
}

fn gap(from: u64, to: u64) -> Error {
    Error::malformed(format!("bytes {from} to {to} of the data section"), "bytes of a tensor", "a gap")
}

/// A value of the header: a tensor, or the texts of the free-form metadata.
enum HeaderField {
    Tensor(TensorField),
    Metadata(IndexMap<String, String>),
}

/// The free-form metadata; what is no text is ignored.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Texts {
    All(IndexMap<String, Text>),
    Other(IgnoredAny),
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Text {
    Is(String),
    Other(IgnoredAny),
}

impl Texts {
    fn texts(self) -> IndexMap<String, String> {
        let Texts::All(all) = self else { return IndexMap::new() };
        let text = |(key, text)| if let Text::Is(text) = text { Some((key, text)) } else { None };
        all.into_iter().filter_map(text).collect()
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorField {
    dtype: String,
    shape: Dimensions,
    data_offsets: (u64, u64),
}

impl TensorField {
    fn view(self, name: String, data: &Bytes) -> Result<View> {
        let Some(&(_, format)) = DTYPES.iter().find(|(dtype, _)| *dtype == self.dtype) else {
            let names: Vec<_> = DTYPES.iter().map(|(dtype, _)| *dtype).collect();
            let (found, hint) =
                (self.dtype.chars().take(40).collect(), format!("expected one of {}", names.join(", ")));
            return Err(Error::UnknownFormat { tensor: name, found, hint });
        };
        let size = size(&name, format, &self.shape.0)?;
        let shape = self.shape.0.iter().map(|&n| n as usize).collect();
        let (start, end) = self.data_offsets;
        let len = data.len() as u64;
        let info = TensorInfo { name, format, shape };
        if end.checked_sub(start) != Some(size) {
            return Err(info.wrong_length(end.saturating_sub(start)));
        }
        if end > len {
            return Err(Error::past_end(&info.name, start, size, len));
        }
        let TensorInfo { name, shape, .. } = info;
        let bytes = data.slice(start as usize..end as usize);
        Ok(View { name, format, shape, bytes, mapping: None, sidecar: Sidecar::default() })
    }
}

/// At most [`MAX_DIMENSIONS`] dimensions. A longer list is refused while it is read.
struct Dimensions(Vec<u64>);

impl<'de> Deserialize<'de> for Dimensions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Dimensions, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Dimensions;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                write!(f, "at most {MAX_DIMENSIONS} dimensions")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Dimensions, A::Error> {
                let mut shape = Vec::with_capacity(MAX_DIMENSIONS);
                while let Some(n) = seq.next_element()? {
                    if shape.len() == MAX_DIMENSIONS {
                        return Err(A::Error::invalid_length(MAX_DIMENSIONS + 1, &self));
                    }
                    shape.push(n);
                }
                Ok(Dimensions(shape))
            }
        }
        deserializer.deserialize_seq(List)
    }
}

/// A value of a JSON object, whose type may depend on the key.
pub(crate) trait Member: Sized {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<Self, A::Error>;
}

impl Member for HeaderField {
    fn next<'de, A: MapAccess<'de>>(key: &str, map: &mut A) -> std::result::Result<HeaderField, A::Error> {
        match key {
            METADATA => map.next_value::<Texts>().map(|metadata| HeaderField::Metadata(metadata.texts())),
            _ => map.next_value().map(HeaderField::Tensor),
        }
    }
}

impl Member for String {
    fn next<'de, A: MapAccess<'de>>(_key: &str, map: &mut A) -> std::result::Result<String, A::Error> {
        map.next_value()
    }
}

/// A JSON object in the order of the file. A key that occurs twice, or is longer than [`MAX_NAME`] bytes, is an error.
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
                        let found = key.len();
                        return Err(A::Error::custom(format!(
                            "name: expected at most {MAX_NAME} bytes, found {found}"
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

/// Writes a file. It replaces an old file only when it is complete and on disk.
pub fn write(path: impl AsRef<Path>, tensors: &[View]) -> Result<()> {
    write_all(create(path, tensors.iter().map(View::info).collect())?, tensors)
}

/// Creates a file. The bytes of the tensors are then written to the [`Writer`], in the same order.
pub fn create(path: impl AsRef<Path>, tensors: Vec<TensorInfo>) -> Result<Writer> {
    let path = path.as_ref();
    let header = header(&tensors).map_err(|e| e.at(path))?;
    Writer::create(path, &header, tensors, 1)
}

/// Creates `model.safetensors` in `folder`, or, if `max` bytes are not enough for one file, `model-00001-of-00003.safetensors` and so on with
/// their index.
pub fn create_shards(folder: &Path, tensors: Vec<TensorInfo>, max: u64) -> Result<ShardedWriter> {
    let groups = gguf::groups(&tensors, max).map_err(|e| e.at(folder))?;
    if groups.len() < 2 {
        return Ok(ShardedWriter::new(vec![(create(folder.join("model.safetensors"), tensors)?, usize::MAX)], None));
    }
    let (mut writers, mut weight_map, mut total) = (Vec::new(), serde_json::Map::new(), 0);
    let count = groups.len();
    for (no, group) in groups.into_iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", no + 1);
        for info in &group {
            weight_map.insert(info.name.clone(), name.clone().into());
            total += info.size()?;
        }
        let len = group.len();
        writers.push((create(folder.join(name), group)?, len));
    }
    let index = serde_json::json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
    let path = folder.join("model.safetensors.index.json");
    std::fs::write(&path, index.to_string()).map_err(|e| Error::Write(e).at(&path))?;
    Ok(ShardedWriter::new(writers, None))
}

/// Length and header. The header ends in spaces so that the data begins at a multiple of 64 bytes.
fn header(tensors: &[TensorInfo]) -> Result<Vec<u8>> {
    let mut fields = serde_json::Map::new();
    // Python's transformers refuses a file without the name of the framework.
    fields.insert(METADATA.to_string(), serde_json::json!({ "format": "pt" }));
    let mut offset = 0u64;
    for info in tensors {
        let place = || in_tensor(&info.name);
        let Some((dtype, _)) = DTYPES.iter().find(|(_, format)| *format == info.format) else {
            return Err(Error::unsupported(place(), "a format with a name in safetensors", info.format));
        };
        let found = info.shape.len();
        if found > MAX_DIMENSIONS {
            return Err(Error::malformed(place(), format_args!("at most {MAX_DIMENSIONS} dimensions"), found));
        }
        let end = offset.saturating_add(info.size()?);
        let field = serde_json::json!({ "dtype": dtype, "shape": info.shape, "data_offsets": [offset, end] });
        offset = end;
        if fields.insert(info.name.clone(), field).is_some() {
            return Err(Error::duplicate(place()));
        }
    }
    let mut json = serde_json::Value::Object(fields).to_string().into_bytes();
    json.resize((json.len() + 8).next_multiple_of(64) - 8, b' ');
    Ok([&(json.len() as u64).to_le_bytes(), json.as_slice()].concat())
}
