//! Writing a file.

use std::path::{Path, PathBuf};

use super::header::{TableRow, check_dimensions, check_name};
use super::{MAGIC, ShardedWriter, alignment, groups, id, shards, type_ids};
use crate::error::{in_key, in_tensor};
use crate::receipt::{Receipt, Sign};
use crate::sharded::Headers;
use crate::writer::{Writer, write_all};
use crate::{Array, Error, Metadata, Result, TensorInfo, Value, View};

/// Writes a file of version 3. It replaces an old file only when it is complete and on disk.
pub fn write(path: impl AsRef<Path>, metadata: &Metadata, tensors: &[View]) -> Result<()> {
    write_all(create(path, metadata, tensors.iter().map(View::info).collect())?, tensors)
}

/// Creates a file of version 3 with this metadata. The bytes of the tensors are then written to the [`Writer`], in the same order.
/// The alignment is the value of `general.alignment`, or 32 bytes.
pub fn create(path: impl AsRef<Path>, metadata: &Metadata, tensors: Vec<TensorInfo>) -> Result<Writer> {
    let path = path.as_ref();
    let (header, alignment) = header(metadata, &tensors).map_err(|e| e.at(path))?;
    Writer::create(path, &header, tensors, alignment)
}

/// As [`create`], but as several files of about `max` bytes each, which [`crate::File::open`] opens as one: `path` without its extension, and
/// `-00001-of-00003.gguf` and so on, as llama.cpp names them. One file of the name `path` if that is enough. All shards have a hash of the content of
/// all, so that none can be opened with one of another model or of another run. The first file has the receipt, if there is one, whose hashes are
/// found as tensors are written.
pub fn create_shards(
    path: impl AsRef<Path>,
    metadata: &Metadata,
    tensors: Vec<TensorInfo>,
    max: u64,
    receipt: Option<(Receipt, Option<Box<Sign>>)>,
) -> Result<ShardedWriter> {
    let path = path.as_ref();
    let parts = groups(&tensors, max).map_err(|e| e.at(path))?;
    // The first describes the layouts of the tensors of all.
    let metadata = type_ids::describe(metadata, &tensors).map_err(|e| e.at(path))?;
    let count = parts.len();
    let headers = Headers::new(metadata, parts.clone(), receipt).map_err(|e| e.at(path))?;
    let mut writers = Vec::new();
    for (no, part) in parts.into_iter().enumerate() {
        let path = if count > 1 { shards::path(path, no, count) } else { path.to_owned() };
        let (header, alignment) = headers.header(no).map_err(|e| e.at(&path))?;
        let len = if count > 1 { part.len() } else { usize::MAX };
        writers.push((Writer::create(&path, &header, part, alignment)?, len));
    }
    Ok(ShardedWriter::new(writers, Some(headers)))
}

/// A writer that writes nothing, for the hashes of the tensors in its receipt.
pub fn rehearse(tensors: Vec<TensorInfo>) -> ShardedWriter {
    let headers = Headers::new(Metadata::new(), vec![tensors], Some((Receipt::default(), None)));
    ShardedWriter::new(Vec::new(), Some(headers.expect("one file has no header yet")))
}

/// The header of a shard, with its number, how many there are, the tensors of all, and what tells them from others; of a file that is alone,
/// without these.
pub(crate) fn shard_header(
    mut metadata: Metadata,
    tensors: &[TensorInfo],
    (no, count, all, id): (usize, usize, usize, &str),
) -> Result<(Vec<u8>, usize)> {
    if count == 1 {
        // What describes layouts comes after a receipt.
        return header(&metadata, tensors);
    }
    shards::describe(&mut metadata, no, count, all, id);
    header_as_is(&metadata, tensors)
}

/// Everything of a file but the bytes of tensors.
pub(crate) struct Layout {
    /// Everything before the data section, padded.
    pub header: Vec<u8>,
    /// Where each part of the header ends.
    pub places: Vec<(usize, String)>,
    /// Names, sizes, and sizes with padding.
    pub tensors: Vec<(String, u64, u64)>,
}

/// Lays a file out.
pub(crate) fn layout(metadata: &Metadata, infos: &[TensorInfo]) -> Result<Layout> {
    let metadata = type_ids::describe(metadata, infos)?;
    let (header, alignment) = header_as_is(&metadata, infos)?;
    // Magic, version and counts; the length of a name, dimensions, type and offset.
    let mut end = 24;
    let mut places = vec![(end, "the header".to_owned())];
    for (key, value) in metadata.iter() {
        end += 8 + key.len() + value_bytes(value).len();
        places.push((end, in_key(key)));
    }
    let mut tensors = Vec::new();
    for info in infos {
        end += 8 + info.name.len() + 4 + 8 * info.shape.len() + 12;
        places.push((end, in_tensor(&info.name)));
        let size = info.size()?;
        let padded = size.checked_next_multiple_of(alignment as u64).ok_or_else(|| info.overflow())?;
        tensors.push((info.name.clone(), size, padded));
    }
    Ok(Layout { header, places, tensors })
}

/// A value as a file has it, after its type.
pub(crate) fn value_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_value(&mut out, value);
    out
}

/// The files that [`create_shards`] writes.
///
/// # Errors
/// When a format cannot hold one of the tensors.
pub fn shard_paths(path: &Path, tensors: &[TensorInfo], max: u64) -> Result<Vec<PathBuf>> {
    let count = groups(tensors, max)?.len();
    let paths = |count| (0..count).map(|no| shards::path(path, no, count)).collect();
    Ok(if count < 2 { vec![path.to_owned()] } else { paths(count) })
}

/// Everything before the data section, padded, and the alignment.
fn header(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<(Vec<u8>, usize)> {
    header_as_is(&type_ids::describe(metadata, tensors)?, tensors)
}

/// [`header`] with metadata that describes the layouts of tensors already.
fn header_as_is(metadata: &Metadata, tensors: &[TensorInfo]) -> Result<(Vec<u8>, usize)> {
    let alignment = alignment(metadata)? as u64;
    let mut offset = 0u64;
    let mut rows = Vec::new();
    for info in tensors {
        let unknown = || Error::unsupported(in_tensor(&info.name), "a format with a type number in GGUF", info.format);
        let id = info.format.id.ok_or_else(unknown)?;
        let shape = info.shape.iter().map(|&n| n as u64).collect();
        rows.push(TableRow { name: info.name.clone(), shape, id, offset });
        offset = info
            .size()?
            .checked_next_multiple_of(alignment)
            .and_then(|size| offset.checked_add(size))
            .ok_or_else(|| info.overflow())?;
    }
    Ok((encode(metadata, &rows, alignment as usize)?, alignment as usize))
}

/// The bytes of a header, padded.
pub(super) fn encode(metadata: &Metadata, table: &[TableRow], alignment: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(3u32.to_le_bytes());
    out.extend((table.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata.iter() {
        put_name(&mut out, key)?;
        put_value(&mut out, value);
    }
    let mut names = std::collections::HashSet::new();
    for TableRow { name, shape, id, offset } in table {
        if !names.insert(name) {
            return Err(Error::duplicate(in_tensor(name)));
        }
        check_dimensions(name, shape.len())?;
        put_name(&mut out, name)?;
        out.extend((shape.len() as u32).to_le_bytes());
        for n in shape.iter().rev() {
            out.extend(n.to_le_bytes());
        }
        out.extend(id.to_le_bytes());
        out.extend(offset.to_le_bytes());
    }
    out.resize(out.len().next_multiple_of(alignment), 0);
    Ok(out)
}

fn put_name(out: &mut Vec<u8>, name: &str) -> Result<()> {
    check_name(name.as_bytes(), || format!("the name {:?}...", name.chars().take(40).collect::<String>()))?;
    put_string(out, name.as_bytes());
    Ok(())
}

fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    out.extend((string.len() as u64).to_le_bytes());
    out.extend(string);
}

fn put_strings<'a>(out: &mut Vec<u8>, strings: impl ExactSizeIterator<Item = &'a [u8]>) {
    out.extend(id::STRING.to_le_bytes());
    out.extend((strings.len() as u64).to_le_bytes());
    strings.for_each(|string| put_string(out, string));
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
            put_string(out, x.as_bytes());
        }
        Value::Bytes(x) => {
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
        Array::String(v) => put_strings(out, v.iter().map(str::as_bytes)),
        Array::Bytes(v) => put_strings(out, v.iter().map(Vec::as_slice)),
    }
}
