//! GGUF, versions 2 and 3, little-endian.
//!
//! A header of counts, the metadata, a table of tensors, padding to the alignment, and the tensors' bytes, each at a
//! multiple of the alignment. Specification: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::path::Path;

use indexmap::IndexMap;
use indexmap::map::Entry as Slot;

use crate::format::{self, Format};
use crate::view::size;
use crate::writer::write_all;
use crate::{Array, Bytes, Entry, Error, Metadata, Result, Value, View};

pub use crate::writer::Writer;

/// The first four bytes of every GGUF file.
pub const MAGIC: &[u8; 4] = b"GGUF";

const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_ALIGNMENT: u32 = 1 << 24;
const MAX_DIMENSIONS: usize = 4;
const MAX_NAME: usize = 65535;

/// The type numbers of values, in the order of [`Value`]'s names in the specification.
mod id {
    pub const U8: u32 = 0;
    pub const I8: u32 = 1;
    pub const U16: u32 = 2;
    pub const I16: u32 = 3;
    pub const U32: u32 = 4;
    pub const I32: u32 = 5;
    pub const F32: u32 = 6;
    pub const BOOL: u32 = 7;
    pub const STRING: u32 = 8;
    pub const ARRAY: u32 = 9;
    pub const U64: u32 = 10;
    pub const I64: u32 = 11;
    pub const F64: u32 = 12;
}

/// What a GGUF file holds.
#[derive(Debug)]
pub struct Contents {
    /// 2 or 3.
    pub version: u32,
    /// Its keys.
    pub metadata: Metadata,
    /// Its tensors, ranges of the bytes that were read, in the order of the file's table.
    pub tensors: IndexMap<String, View>,
}

/// Reads and checks the header. Allocates no more than a small multiple of what the header occupies.
pub fn read(bytes: &Bytes) -> Result<Contents> {
    let mut reader = Reader { rest: bytes };
    let magic = reader.take(4, || "the magic number".into())?;
    if magic != MAGIC {
        return Err(Error::NotAModel { found: format!("{}", magic.escape_ascii()) });
    }
    let version = reader.number(|| "the version".into(), u32::from_le_bytes)?;
    match version {
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(Error::BigEndian),
        found => return Err(Error::Version { found }),
    }
    // The least a tensor takes: an empty name, no dimensions, type and offset; and a key: an empty one, type and a byte.
    let n_tensors = reader.count("tensors", 24)?;
    let n_keys = reader.count("keys", 13)?;
    let mut metadata = Metadata::new();
    for i in 0..n_keys {
        let key = reader.name(|| format!("the name of key {i}"))?;
        if metadata.get(&key).is_some() {
            return Err(Error::DuplicateKey { key });
        }
        let value = reader.value(&key)?;
        metadata.insert(key, value);
    }
    let alignment = u64::from(alignment(&metadata)?);
    let mut table = Vec::new();
    for i in 0..n_tensors {
        table.push(reader.tensor(i, alignment)?);
    }
    let header = bytes.len() - reader.rest.len();
    let start = header.next_multiple_of(alignment as usize).min(bytes.len());
    let tensors = place(table, &bytes.slice(start..))?;
    Ok(Contents { version, metadata, tensors })
}

/// A row of the table of tensors; its offset counts from the start of the data section.
struct Stored {
    entry: Entry,
    size: u64,
    offset: u64,
}

/// Gives every tensor its bytes, after checking that each is inside `data` and none shares bytes with another.
fn place(table: Vec<Stored>, data: &Bytes) -> Result<IndexMap<String, View>> {
    let mut order: Vec<usize> = (0..table.len()).collect();
    order.sort_unstable_by_key(|&i| table[i].offset);
    for pair in order.windows(2) {
        let (first, second) = (&table[pair[0]], &table[pair[1]]);
        if first.offset.saturating_add(first.size) > second.offset {
            return Err(Error::Overlap { first: first.entry.name.clone(), second: second.entry.name.clone() });
        }
    }
    let mut tensors = IndexMap::new();
    for Stored { entry: Entry { name, format, shape }, size, offset } in table {
        let found = data.len() as u64;
        if offset.checked_add(size).is_none_or(|end| end > found) {
            return Err(Error::PastEnd { tensor: name, offset, expected: size, found });
        }
        let bytes = data.slice(offset as usize..(offset + size) as usize);
        match tensors.entry(name.clone()) {
            Slot::Occupied(_) => return Err(Error::DuplicateTensor { tensor: name }),
            Slot::Vacant(slot) => slot.insert(View { name, format, shape, bytes }),
        };
    }
    Ok(tensors)
}

/// The alignment the metadata asks for.
fn alignment(metadata: &Metadata) -> Result<u32> {
    let found = metadata.u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    if found.is_power_of_two() && found <= MAX_ALIGNMENT { Ok(found) } else { Err(Error::Alignment { found }) }
}

/// What is left of the header. Names of fields are made only when there is an error to tell.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, what: impl FnOnce() -> String) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Error::Truncated { what: what(), expected: n as u64, found: self.rest.len() as u64 }),
        }
    }

    fn number<T, const N: usize>(&mut self, what: impl FnOnce() -> String, from: fn([u8; N]) -> T) -> Result<T> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, what)?);
        Ok(from(bytes))
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, what: &'static str, least: u64) -> Result<u64> {
        let found = self.number(|| format!("the number of {what}"), u64::from_le_bytes)?;
        let room = self.rest.len() as u64 / least;
        if found <= room { Ok(found) } else { Err(Error::Count { what, found, room }) }
    }

    fn string(&mut self, what: impl Fn() -> String) -> Result<String> {
        let found = self.number(&what, u64::from_le_bytes)?;
        let left = self.rest.len() as u64;
        if found > left {
            return Err(Error::StringLength { what: what(), found, left });
        }
        let bytes = self.take(found as usize, &what)?;
        match std::str::from_utf8(bytes) {
            Ok(string) => Ok(string.to_string()),
            Err(e) => Err(Error::Utf8 { what: what(), at: e.valid_up_to() }),
        }
    }

    fn name(&mut self, what: impl Fn() -> String) -> Result<String> {
        let name = self.string(&what)?;
        if name.len() <= MAX_NAME { Ok(name) } else { Err(Error::LongName { what: what(), found: name.len() as u64 }) }
    }

    fn bool(&mut self, key: &str) -> Result<bool> {
        match self.number(|| value_of(key), u8::from_le_bytes)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Error::Bool { key: key.to_string(), found }),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let what = || value_of(key);
        Ok(match self.number(|| format!("the type of key {key:?}"), u32::from_le_bytes)? {
            id::U8 => Value::U8(self.number(what, u8::from_le_bytes)?),
            id::I8 => Value::I8(self.number(what, i8::from_le_bytes)?),
            id::U16 => Value::U16(self.number(what, u16::from_le_bytes)?),
            id::I16 => Value::I16(self.number(what, i16::from_le_bytes)?),
            id::U32 => Value::U32(self.number(what, u32::from_le_bytes)?),
            id::I32 => Value::I32(self.number(what, i32::from_le_bytes)?),
            id::U64 => Value::U64(self.number(what, u64::from_le_bytes)?),
            id::I64 => Value::I64(self.number(what, i64::from_le_bytes)?),
            id::F32 => Value::F32(self.number(what, f32::from_le_bytes)?),
            id::F64 => Value::F64(self.number(what, f64::from_le_bytes)?),
            id::BOOL => Value::Bool(self.bool(key)?),
            id::STRING => Value::String(self.string(what)?),
            id::ARRAY => Value::Array(self.array(key)?),
            found => return Err(Error::ValueType { key: key.to_string(), found }),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array> {
        let kind = self.number(|| format!("the element type of key {key:?}"), u32::from_le_bytes)?;
        let n = self.number(|| format!("the length of key {key:?}"), u64::from_le_bytes)?;
        Ok(match kind {
            id::U8 => Array::U8(self.numbers(key, n, u8::from_le_bytes)?),
            id::I8 => Array::I8(self.numbers(key, n, i8::from_le_bytes)?),
            id::U16 => Array::U16(self.numbers(key, n, u16::from_le_bytes)?),
            id::I16 => Array::I16(self.numbers(key, n, i16::from_le_bytes)?),
            id::U32 => Array::U32(self.numbers(key, n, u32::from_le_bytes)?),
            id::I32 => Array::I32(self.numbers(key, n, i32::from_le_bytes)?),
            id::U64 => Array::U64(self.numbers(key, n, u64::from_le_bytes)?),
            id::I64 => Array::I64(self.numbers(key, n, i64::from_le_bytes)?),
            id::F32 => Array::F32(self.numbers(key, n, f32::from_le_bytes)?),
            id::F64 => Array::F64(self.numbers(key, n, f64::from_le_bytes)?),
            id::BOOL => Array::Bool((0..self.fits(key, n, 1)?).map(|_| self.bool(key)).collect::<Result<_>>()?),
            id::STRING => {
                let n = self.fits(key, n, 8)?;
                // Grows as strings are found, since the announced count may be far more than there are.
                let mut strings = Vec::new();
                for i in 0..n {
                    strings.push(self.string(|| format!("element {i} of key {key:?}"))?);
                }
                Array::String(strings)
            }
            id::ARRAY => return Err(Error::NestedArray { key: key.to_string() }),
            found => return Err(Error::ValueType { key: key.to_string(), found }),
        })
    }

    fn numbers<T, const N: usize>(&mut self, key: &str, n: u64, from: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let n = self.fits(key, n, N)?;
        let bytes = self.take(n * N, || value_of(key))?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| from(bytes)).collect())
    }

    /// An array's length, after checking that so many elements of at least `least` bytes may follow.
    fn fits(&self, key: &str, n: u64, least: usize) -> Result<usize> {
        let room = self.rest.len() / least;
        if n <= room as u64 {
            Ok(n as usize)
        } else {
            Err(Error::ArrayLength { key: key.to_string(), found: n, room: room as u64 })
        }
    }

    fn tensor(&mut self, i: u64, alignment: u64) -> Result<Stored> {
        let name = self.name(|| format!("the name of tensor {i}"))?;
        let field = |field: &str| format!("the {field} of tensor {name:?}");
        let n_dims = self.number(|| field("dimensions"), u32::from_le_bytes)?;
        if n_dims as usize > MAX_DIMENSIONS {
            return Err(Error::Dimensions { tensor: name, found: n_dims.into(), limit: MAX_DIMENSIONS as u64 });
        }
        let mut shape = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            shape.push(self.number(|| field("dimensions"), u64::from_le_bytes)?);
        }
        shape.reverse();
        let id = self.number(|| field("type"), u32::from_le_bytes)?;
        let offset = self.number(|| field("offset"), u64::from_le_bytes)?;
        let Some(format) = format::by_id(id) else {
            return Err(Error::UnknownFormat { tensor: name, found: id.to_string() });
        };
        let size = size(&name, format, &shape)?;
        if offset % alignment != 0 {
            return Err(Error::Misaligned { tensor: name, offset, alignment });
        }
        let shape = shape.into_iter().map(|n| n as usize).collect();
        Ok(Stored { entry: Entry { name, format, shape }, size, offset })
    }
}

fn value_of(key: &str) -> String {
    format!("the value of key {key:?}")
}

/// Writes a file of version 3. It takes the place of an old one only when it is whole and on disk.
pub fn write(path: impl AsRef<Path>, metadata: &Metadata, tensors: &[View]) -> Result<()> {
    write_all(create(path, metadata, tensors.iter().map(View::entry).collect())?, tensors)
}

/// Begins a file of version 3 with these keys and tensors, whose bytes then go through the [`Writer`] in this order.
/// `general.alignment` among the keys sets the alignment, otherwise it is 32.
pub fn create(path: impl AsRef<Path>, metadata: &Metadata, tensors: Vec<Entry>) -> Result<Writer> {
    let path = path.as_ref();
    let (header, alignment) = header(metadata, &tensors).map_err(|e| e.at(path))?;
    Writer::create(path, &header, tensors, alignment)
}

/// Everything before the data section, padded, and the alignment.
fn header(metadata: &Metadata, tensors: &[Entry]) -> Result<(Vec<u8>, usize)> {
    let alignment = alignment(metadata)? as u64;
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_name(&mut out, key)?;
        put_value(&mut out, value);
    }
    let mut names = std::collections::HashSet::new();
    let mut offset = 0u64;
    for entry in tensors {
        let tensor = || entry.name.clone();
        if !names.insert(&entry.name) {
            return Err(Error::DuplicateTensor { tensor: tensor() });
        }
        if entry.shape.len() > MAX_DIMENSIONS {
            let found = entry.shape.len() as u64;
            return Err(Error::Dimensions { tensor: tensor(), found, limit: MAX_DIMENSIONS as u64 });
        }
        let id = storable(&entry.name, entry.format)?;
        put_name(&mut out, &entry.name)?;
        out.extend((entry.shape.len() as u32).to_le_bytes());
        for &n in entry.shape.iter().rev() {
            out.extend((n as u64).to_le_bytes());
        }
        out.extend(id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset = entry
            .size()?
            .checked_next_multiple_of(alignment)
            .and_then(|size| offset.checked_add(size))
            .ok_or_else(|| too_large(entry))?;
    }
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    Ok((out, alignment as usize))
}

fn storable(name: &str, format: &Format) -> Result<u32> {
    format.id.ok_or_else(|| Error::NotStorable { tensor: name.to_string(), format: format.name, kind: "GGUF" })
}

fn too_large(entry: &Entry) -> Error {
    let shape = entry.shape.iter().map(|&n| n as u64).collect();
    Error::TooLarge { tensor: entry.name.clone(), shape, format: entry.format.name }
}

fn put_name(out: &mut Vec<u8>, name: &str) -> Result<()> {
    if name.len() > MAX_NAME {
        let what = format!("{:?}...", name.chars().take(40).collect::<String>());
        return Err(Error::LongName { what, found: name.len() as u64 });
    }
    put_string(out, name);
    Ok(())
}

fn put_string(out: &mut Vec<u8>, string: &str) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    fn number<const N: usize>(out: &mut Vec<u8>, id: u32, bytes: [u8; N]) {
        out.extend(id.to_le_bytes());
        out.extend(bytes);
    }
    match value {
        Value::U8(x) => number(out, id::U8, x.to_le_bytes()),
        Value::I8(x) => number(out, id::I8, x.to_le_bytes()),
        Value::U16(x) => number(out, id::U16, x.to_le_bytes()),
        Value::I16(x) => number(out, id::I16, x.to_le_bytes()),
        Value::U32(x) => number(out, id::U32, x.to_le_bytes()),
        Value::I32(x) => number(out, id::I32, x.to_le_bytes()),
        Value::U64(x) => number(out, id::U64, x.to_le_bytes()),
        Value::I64(x) => number(out, id::I64, x.to_le_bytes()),
        Value::F32(x) => number(out, id::F32, x.to_le_bytes()),
        Value::F64(x) => number(out, id::F64, x.to_le_bytes()),
        Value::Bool(x) => number(out, id::BOOL, [u8::from(*x)]),
        Value::String(x) => {
            out.extend(id::STRING.to_le_bytes());
            put_string(out, x);
        }
        Value::Array(x) => {
            out.extend(id::ARRAY.to_le_bytes());
            put_array(out, x);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    fn numbers<T: Copy, const N: usize>(out: &mut Vec<u8>, id: u32, v: &[T], to: fn(T) -> [u8; N]) {
        out.extend(id.to_le_bytes());
        out.extend((v.len() as u64).to_le_bytes());
        v.iter().for_each(|&x| out.extend(to(x)));
    }
    match array {
        Array::U8(v) => numbers(out, id::U8, v, u8::to_le_bytes),
        Array::I8(v) => numbers(out, id::I8, v, i8::to_le_bytes),
        Array::U16(v) => numbers(out, id::U16, v, u16::to_le_bytes),
        Array::I16(v) => numbers(out, id::I16, v, i16::to_le_bytes),
        Array::U32(v) => numbers(out, id::U32, v, u32::to_le_bytes),
        Array::I32(v) => numbers(out, id::I32, v, i32::to_le_bytes),
        Array::U64(v) => numbers(out, id::U64, v, u64::to_le_bytes),
        Array::I64(v) => numbers(out, id::I64, v, i64::to_le_bytes),
        Array::F32(v) => numbers(out, id::F32, v, f32::to_le_bytes),
        Array::F64(v) => numbers(out, id::F64, v, f64::to_le_bytes),
        Array::Bool(v) => numbers(out, id::BOOL, v, |x| [u8::from(x)]),
        Array::String(v) => {
            out.extend(id::STRING.to_le_bytes());
            out.extend((v.len() as u64).to_le_bytes());
            v.iter().for_each(|x| put_string(out, x));
        }
    }
}
