//! Parsing the header of one file: the metadata and the table of tensors.

use std::path::PathBuf;

use super::{MAGIC, MAX_DIMENSIONS, MAX_NAME, alignment, id};
use crate::error::{in_key, in_tensor};
use crate::mapping::Mapping;
use crate::{Array, Bytes, Error, Metadata, Result, Strings, Value};

/// The header of a file, which may be a shard of a split model.
pub(crate) struct Header {
    /// The file's path, if it is a shard.
    pub path: Option<PathBuf>,
    /// 1, 2 or 3.
    pub version: u32,
    pub metadata: Metadata,
    pub(super) table: Vec<TableRow>,
    /// The data section: everything after the header and its padding.
    pub(super) data: Bytes,
    pub(super) alignment: u64,
    /// The mapping that `data` is a range of, if the file is mapped.
    pub(super) mapping: Option<Mapping>,
}

impl Header {
    /// Adds the path of this file to an error, if it is one of several.
    pub(super) fn located(&self, error: Error) -> Error {
        match &self.path {
            Some(path) => error.at(path),
            None => error,
        }
    }
}

/// Reads the header of a file.
pub(crate) fn header(bytes: &Bytes, mapping: Option<Mapping>) -> Result<Header> {
    let mut reader = Reader { rest: bytes, wide: true };
    let magic = reader.take(4, || "the magic number".into())?;
    if magic != MAGIC {
        return Err(Error::NotAModel { found: format!("one that begins with \"{}\"", magic.escape_ascii()) });
    }
    let version = reader.number(|| "the version".into(), u32::from_le_bytes)?;
    match version {
        1 => reader.wide = false,
        2 | 3 => {}
        _ if matches!(version.swap_bytes(), 1..=3) => {
            let expected = "a little-endian file (gguf_convert_endian.py of llama.cpp converts it)";
            return Err(Error::unsupported("GGUF", expected, "a big-endian one"));
        }
        found => return Err(Error::unsupported("GGUF version", "1, 2 or 3", found)),
    }
    // The minimum size of a tensor: an empty name, no dimensions, type and offset; of a key: an empty name, type and a byte.
    let n_tensors = reader.count("tensors", reader.word() + 16)?;
    let n_keys = reader.count("keys", reader.word() + 5)?;
    let mut metadata = Metadata::new();
    for i in 0..n_keys {
        let key = reader.name(|| format!("the name of key {i}"))?;
        if metadata.get(&key).is_some() {
            return Err(Error::duplicate(in_key(&key)));
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

/// A row of the table of tensors.
pub(super) struct TableRow {
    pub name: String,
    /// Row-major, `[.., rows, cols]`.
    pub shape: Vec<u64>,
    /// GGUF's type number.
    pub id: u32,
    /// From the start of the data section, in bytes.
    pub offset: u64,
}

/// The rest of the header. Names of fields are built only for an error.
struct Reader<'a> {
    rest: &'a [u8],
    /// Counts, lengths and dimensions have 64 bits (since version 2), not 32.
    wide: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize, place: impl FnOnce() -> String) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(n) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(Error::Truncated { place: place(), expected: n as u64, found: self.rest.len() as u64 }),
        }
    }

    fn number<T, const N: usize>(&mut self, place: impl FnOnce() -> String, from: fn([u8; N]) -> T) -> Result<T> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N, place)?);
        Ok(from(bytes))
    }

    /// Bytes of a count, length or dimension.
    fn word(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// A count, length or dimension.
    fn size(&mut self, place: impl FnOnce() -> String) -> Result<u64> {
        if self.wide {
            self.number(place, u64::from_le_bytes)
        } else {
            self.number(place, u32::from_le_bytes).map(u64::from)
        }
    }

    /// A count of items that take at least `least` bytes each.
    fn count(&mut self, what: &'static str, least: usize) -> Result<u64> {
        let place = || format!("the number of {what}");
        let found = self.size(place)?;
        self.check_room(place, found, least)
    }

    /// Refuses a number of items, of at least `least` bytes each, that the rest of the file has no room for.
    fn check_room(&self, place: impl Fn() -> String, found: u64, least: usize) -> Result<u64> {
        let room = (self.rest.len() / least) as u64;
        let expected = || format!("at most {room}, for which the file has room");
        let found_text = || format!("{found}: the file is cut short, or damaged here");
        if found <= room { Ok(found) } else { Err(Error::malformed(place(), expected(), found_text())) }
    }

    /// The bytes of a string.
    fn bytes(&mut self, place: impl Fn() -> String) -> Result<&'a [u8]> {
        let len = self.size(&place)?;
        let len = self.check_room(|| format!("the length of {}", place()), len, 1)?;
        self.take(len as usize, &place)
    }

    fn name(&mut self, place: impl Fn() -> String) -> Result<String> {
        let bytes = self.bytes(&place)?;
        check_name(bytes, &place)?;
        let invalid = |e: std::str::Utf8Error| format!("an invalid byte at position {}", e.valid_up_to());
        let name = std::str::from_utf8(bytes).map_err(|e| Error::malformed(place(), "UTF-8", invalid(e)))?;
        Ok(name.to_owned())
    }

    /// As in C, any number but 0 is true.
    fn bool(&mut self, key: &str) -> Result<bool> {
        Ok(self.number(|| value_of(key), u8::from_le_bytes)? != 0)
    }

    fn value(&mut self, key: &str) -> Result<Value> {
        let place = || value_of(key);
        Ok(match self.number(|| format!("the type of {}", in_key(key)), u32::from_le_bytes)? {
            id::U8 => Value::U8(self.number(place, u8::from_le_bytes)?),
            id::I8 => Value::I8(self.number(place, i8::from_le_bytes)?),
            id::U16 => Value::U16(self.number(place, u16::from_le_bytes)?),
            id::I16 => Value::I16(self.number(place, i16::from_le_bytes)?),
            id::U32 => Value::U32(self.number(place, u32::from_le_bytes)?),
            id::I32 => Value::I32(self.number(place, i32::from_le_bytes)?),
            id::U64 => Value::U64(self.number(place, u64::from_le_bytes)?),
            id::I64 => Value::I64(self.number(place, i64::from_le_bytes)?),
            id::F32 => Value::F32(self.number(place, f32::from_le_bytes)?),
            id::F64 => Value::F64(self.number(place, f64::from_le_bytes)?),
            id::BOOL => Value::Bool(self.bool(key)?),
            id::STRING => {
                let bytes = self.bytes(place)?.to_vec();
                String::from_utf8(bytes).map_or_else(|error| Value::Bytes(error.into_bytes()), Value::String)
            }
            id::ARRAY => Value::Array(self.array(key)?),
            found => return Err(unknown_type(key, found)),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array> {
        let kind = self.number(|| format!("the element type of {}", in_key(key)), u32::from_le_bytes)?;
        let n = self.size(|| format!("the length of {}", in_key(key)))?;
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
                // Grows with the strings that are found, since the count may be far too large.
                let mut strings = Strings::default();
                let mut invalid: Option<Vec<Vec<u8>>> = None;
                for i in 0..n {
                    let bytes = self.bytes(|| format!("element {i} of {}", in_key(key)))?;
                    match (&mut invalid, std::str::from_utf8(bytes)) {
                        (None, Ok(string)) => strings.push(string),
                        (None, Err(_)) => {
                            let before = strings.iter().map(|string| string.as_bytes().to_vec());
                            invalid = Some(before.chain([bytes.to_vec()]).collect());
                        }
                        (Some(all), _) => all.push(bytes.to_vec()),
                    }
                }
                invalid.map_or(Array::String(strings), Array::Bytes)
            }
            id::ARRAY => {
                return Err(Error::unsupported(
                    in_key(key),
                    "an array of numbers, booleans or strings",
                    "an array of arrays",
                ));
            }
            found => return Err(unknown_type(key, found)),
        })
    }

    fn numbers<T, const N: usize>(&mut self, key: &str, n: u64, from: fn([u8; N]) -> T) -> Result<Vec<T>> {
        let n = self.fits(key, n, N)?;
        let bytes = self.take(n * N, || value_of(key))?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| from(bytes)).collect())
    }

    /// An array's length, after checking that the file has room for `n` elements of at least `least` bytes.
    fn fits(&self, key: &str, n: u64, least: usize) -> Result<usize> {
        Ok(self.check_room(|| format!("the length of {}", in_key(key)), n, least)? as usize)
    }

    fn tensor(&mut self, i: u64, alignment: u64) -> Result<TableRow> {
        let name = self.name(|| format!("the name of tensor {i}"))?;
        let field = |field: &str| format!("the {field} of {}", in_tensor(&name));
        let n_dims = self.number(|| field("dimensions"), u32::from_le_bytes)?;
        check_dimensions(&name, n_dims as usize)?;
        let mut shape = Vec::with_capacity(n_dims as usize);
        for _ in 0..n_dims {
            shape.push(self.size(|| field("dimensions"))?);
        }
        shape.reverse();
        let id = self.number(|| field("type"), u32::from_le_bytes)?;
        let offset = self.number(|| field("offset"), u64::from_le_bytes)?;
        if offset % alignment != 0 {
            let expected = format_args!("a multiple of the alignment {alignment}");
            return Err(Error::malformed(field("offset"), expected, offset));
        }
        Ok(TableRow { name, shape, id, offset })
    }
}

fn value_of(key: &str) -> String {
    format!("the value of {}", in_key(key))
}

fn unknown_type(key: &str, found: u32) -> Error {
    Error::malformed(format!("the type of {}", in_key(key)), "0 to 12", found)
}

/// Refuses a tensor with more dimensions than GGUF allows.
pub(super) fn check_dimensions(tensor: &str, found: usize) -> Result<()> {
    let expected = || format!("at most {MAX_DIMENSIONS} dimensions");
    if found <= MAX_DIMENSIONS { Ok(()) } else { Err(Error::malformed(in_tensor(tensor), expected(), found)) }
}

/// Refuses a name of no bytes, or of more than GGUF allows.
pub(super) fn check_name(name: &[u8], place: impl FnOnce() -> String) -> Result<()> {
    match name.len() {
        1..=MAX_NAME => Ok(()),
        found => Err(Error::malformed(place(), format_args!("1 to {MAX_NAME} bytes"), found)),
    }
}
