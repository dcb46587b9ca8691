//! Writing a file.

use std::path::Path;

use super::header::{check_dimensions, check_name};
use super::type_ids::describe;
use super::{MAGIC, alignment, id};
use crate::error::{in_key, in_tensor};
use crate::receipt::{Receipt, SealedTensor, Sha256, Sign};
use crate::writer::{Sealing, Writer, write_all};
use crate::{Array, Error, Metadata, Result, TensorInfo, Value, View};

/// Writes a file of version 3. It replaces an old file only when it is complete and on disk.
pub fn write(path: impl AsRef<Path>, metadata: &Metadata, tensors: &[View]) -> Result<()> {
    write_all(create(path, metadata, tensors.iter().map(View::info).collect())?, tensors)
}

/// Creates a file of version 3 with this metadata. The bytes of the tensors are then written to the [`Writer`], in the same order.
/// The alignment is the value of `general.alignment`, or 32 bytes.
pub fn create(path: impl AsRef<Path>, metadata: &Metadata, tensors: Vec<TensorInfo>) -> Result<Writer> {
    let path = path.as_ref();
    let Layout { header, alignment, .. } = layout(metadata, &tensors).map_err(|e| e.at(path))?;
    Writer::create(Some(path), &header, tensors, alignment, None)
}

/// As [`create`], with a receipt, which gets the hashes of all tensors. Without a path nothing is written, and [`Writer::receipt`] is what
/// the file would have.
pub fn create_with_receipt(
    path: Option<&Path>,
    metadata: &Metadata,
    tensors: Vec<TensorInfo>,
    mut receipt: Receipt,
    sign: Option<Box<Sign>>,
) -> Result<Writer> {
    receipt.tensors =
        tensors.iter().map(|info| SealedTensor { info: info.clone(), sha256: Sha256::default() }).collect();
    let seal = Sealing { metadata: describe(metadata, &tensors)?, receipt, sign };
    let Layout { header, alignment, .. } = seal.layout(&tensors)?;
    Writer::create(path, &header, tensors, alignment, Some(seal))
}

/// Everything of a file but the bytes of tensors.
pub(crate) struct Layout {
    /// Everything before the data section, padded.
    pub header: Vec<u8>,
    /// Where each part of the header ends.
    pub places: Vec<(usize, String)>,
    pub alignment: usize,
    /// Names, sizes, and sizes with padding.
    pub tensors: Vec<(String, u64, u64)>,
}

/// Lays a file out.
pub(crate) fn layout(metadata: &Metadata, infos: &[TensorInfo]) -> Result<Layout> {
    let metadata = &describe(metadata, infos)?;
    let alignment = alignment(metadata)? as u64;
    let (mut out, mut places, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
    out.extend(MAGIC);
    out.extend(3u32.to_le_bytes());
    out.extend((infos.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    places.push((out.len(), "the header".to_owned()));
    for (key, value) in metadata.iter() {
        put_name(&mut out, key)?;
        put_value(&mut out, value);
        places.push((out.len(), in_key(key)));
    }
    let mut names = std::collections::HashSet::new();
    let mut offset = 0u64;
    for info in infos {
        if !names.insert(&info.name) {
            return Err(Error::duplicate(in_tensor(&info.name)));
        }
        check_dimensions(&info.name, info.shape.len())?;
        let unknown = || Error::unsupported(in_tensor(&info.name), "a format with a type number in GGUF", info.format);
        let id = info.format.id.ok_or_else(unknown)?;
        put_name(&mut out, &info.name)?;
        out.extend((info.shape.len() as u32).to_le_bytes());
        for &n in info.shape.iter().rev() {
            out.extend((n as u64).to_le_bytes());
        }
        out.extend(id.to_le_bytes());
        out.extend(offset.to_le_bytes());
        places.push((out.len(), in_tensor(&info.name)));
        let size = info.size()?;
        let padded = size.checked_next_multiple_of(alignment).ok_or_else(|| info.overflow())?;
        tensors.push((info.name.clone(), size, padded));
        offset = offset.checked_add(padded).ok_or_else(|| info.overflow())?;
    }
    out.resize(out.len().next_multiple_of(alignment as usize), 0);
    Ok(Layout { header: out, places, alignment: alignment as usize, tensors })
}

/// A value as a file has it, after its type.
pub(crate) fn value_bytes(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    put_value(&mut out, value);
    out
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
