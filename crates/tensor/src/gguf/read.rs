//! Reading and checking the header.

use std::path::PathBuf;

use indexmap::IndexMap;
use indexmap::map::Entry as Slot;

use super::dialect::{self, Hints, Notes, Settled};
use super::{MAGIC, MAX_DIMENSIONS, MAX_NAME, alignment, id};
use crate::mapping::Mapping;
use crate::{Array, Bytes, Entry, Error, Metadata, Result, Strings, Value, View};

/// What a GGUF file holds.
#[derive(Debug)]
pub struct Contents {
    /// 1, 2 or 3.
    pub version: u32,
    /// Its keys, without those that say what type numbers mean.
    pub metadata: Metadata,
    /// Its tensors, ranges of the bytes that were read, in the order of the file's table.
    pub tensors: IndexMap<String, View>,
    /// What was made of type numbers with several meanings, and why.
    pub notes: Notes,
}

/// Reads and checks the header. Allocates no more than a small multiple of what the header occupies.
pub fn read(bytes: &Bytes) -> Result<Contents> {
    contents(vec![header(bytes, None)?], Hints::default())
}

/// The header of a file, which may be a piece of a split model.
pub(crate) struct Header {
    /// Where it is, of a piece.
    pub path: Option<PathBuf>,
    /// 1, 2 or 3.
    pub version: u32,
    /// Its keys.
    pub metadata: Metadata,
    pub(super) table: Vec<Stored>,
    /// What is behind the header.
    pub(super) data: Bytes,
    pub(super) alignment: u64,
    /// What the bytes are a part of, where they are mapped.
    pub(super) mapping: Option<Mapping>,
}

impl Header {
    /// An error in this file, of which its name is said where it is one of several.
    pub(super) fn located(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => error.at(path),
            None => error,
        }
    }
}

/// What the pieces of a model hold together: the keys of the first, and the tensors of all, whose type numbers mean the same in each.
pub(crate) fn contents(mut pieces: Vec<Header>, hints: Hints) -> Result<Contents> {
    let first = &mut pieces[0];
    let (version, metadata) = (first.version, std::mem::take(&mut first.metadata));
    let (tables, notes) = dialect::settle(&pieces, &metadata, hints)?;
    let mut tensors = IndexMap::new();
    for (piece, table) in pieces.iter().zip(tables) {
        place(table, piece, &mut tensors).map_err(|error| piece.located(error))?;
    }
    Ok(Contents { version, metadata: dialect::without(metadata), tensors, notes })
}

/// Reads the header of a file, which is mapped or not.
pub(crate) fn header(bytes: &Bytes, mapping: Option<Mapping>) -> Result<Header> {
    let mut reader = Reader { rest: bytes, wide: true };
    let magic = reader.take(4, || "the magic number".into())?;
    if magic != MAGIC {
        return Err(Error::NotAModel { found: format!("{}", magic.escape_ascii()) });
    }
    let version = reader.number(|| "the version".into(), u32::from_le_bytes)?;
    match version {
        1 => reader.wide = false,
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => return Err(Error::BigEndian),
        found => return Err(Error::Version { found }),
    }
    // The least a tensor takes: an empty name, no dimensions, type and offset; and a key: an empty one, type and a byte.
    let n_tensors = reader.count("tensors", reader.word() + 16)?;
    let n_keys = reader.count("keys", reader.word() + 5)?;
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
    let data = bytes.slice(start..);
    Ok(Header { path: None, version, metadata, table, data, alignment, mapping })
}

/// A row of the table of tensors; its offset counts from the start of the data section.
pub(super) struct Stored {
    pub name: String,
    /// Rows before columns.
    pub shape: Vec<u64>,
    /// The type number.
    pub id: u32,
    pub offset: u64,
}

/// Gives every tensor of a piece its bytes, after checking that each is inside of it and none shares bytes with another.
fn place(table: Vec<Settled>, piece: &Header, tensors: &mut IndexMap<String, View>) -> Result<()> {
    let Header { data, mapping, .. } = piece;
    let mut order: Vec<usize> = (0..table.len()).collect();
    order.sort_unstable_by_key(|&i| table[i].offset);
    for pair in order.windows(2) {
        let (first, second) = (&table[pair[0]], &table[pair[1]]);
        if first.offset.saturating_add(first.size) > second.offset {
            return Err(Error::Overlap { first: first.entry.name.clone(), second: second.entry.name.clone() });
        }
    }
    for Settled { entry: Entry { name, format, shape }, size, offset, order } in table {
        let found = data.len() as u64;
        if offset.checked_add(size).is_none_or(|end| end > found) {
            return Err(Error::PastEnd { tensor: name, offset, expected: size, found });
        }
        let bytes = data.slice(offset as usize..(offset + size) as usize);
        match tensors.entry(name.clone()) {
            Slot::Occupied(_) => return Err(Error::DuplicateTensor { tensor: name }),
            Slot::Vacant(slot) => slot.insert(View { name, format, shape, bytes, mapping: mapping.clone(), order }),
        };
    }
    Ok(())
}

/// What is left of the header. Names of fields are made only when there is an error to tell.
struct Reader<'a> {
    rest: &'a [u8],
    /// Counts, lengths and dimensions have 64 bits, since version 2.
    wide: bool,
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

    /// Bytes of a count, length or dimension.
    fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// A count, length or dimension.
    fn size(&mut self, what: impl FnOnce() -> String) -> Result<u64> {
        if self.wide {
            self.number(what, u64::from_le_bytes)
        } else {
            self.number(what, u32::from_le_bytes).map(u64::from)
        }
    }

    /// A count of things that take at least `least` bytes each.
    fn count(&mut self, what: &'static str, least: usize) -> Result<u64> {
        let found = self.size(|| format!("the number of {what}"))?;
        let room = (self.rest.len() / least) as u64;
        if found <= room { Ok(found) } else { Err(Error::Count { what, found, room }) }
    }

    fn str(&mut self, what: impl Fn() -> String) -> Result<&'a str> {
        let found = self.size(&what)?;
        let left = self.rest.len() as u64;
        if found > left {
            return Err(Error::StringLength { what: what(), found, left });
        }
        let bytes = self.take(found as usize, &what)?;
        std::str::from_utf8(bytes).map_err(|e| Error::Utf8 { what: what(), at: e.valid_up_to() })
    }

    fn name(&mut self, what: impl Fn() -> String) -> Result<String> {
        let name = self.str(&what)?;
        match name.len() {
            1..=MAX_NAME => Ok(name.to_owned()),
            found => Err(Error::NameLength { what: what(), found: found as u64 }),
        }
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
            id::STRING => Value::String(self.str(what)?.to_owned()),
            id::ARRAY => Value::Array(self.array(key)?),
            found => return Err(Error::ValueType { key: key.to_string(), found }),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array> {
        let kind = self.number(|| format!("the element type of key {key:?}"), u32::from_le_bytes)?;
        let n = self.size(|| format!("the length of key {key:?}"))?;
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
                let n = self.fits(key, n, self.word())?;
                // Grows as strings are found, since the announced count may be far more than there are.
                let mut strings = Strings::default();
                for i in 0..n {
                    strings.push(self.str(|| format!("element {i} of key {key:?}"))?);
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
            shape.push(self.size(|| field("dimensions"))?);
        }
        shape.reverse();
        let id = self.number(|| field("type"), u32::from_le_bytes)?;
        let offset = self.number(|| field("offset"), u64::from_le_bytes)?;
        if offset % alignment != 0 {
            return Err(Error::Misaligned { tensor: name, offset, alignment });
        }
        Ok(Stored { name, shape, id, offset })
    }
}

fn value_of(key: &str) -> String {
    format!("the value of key {key:?}")
}
