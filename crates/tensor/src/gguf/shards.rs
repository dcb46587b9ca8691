//! Models split into several files, `name-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them.
//!
//! The first shard has the metadata of the model; all have `split.no`, `split.count` and `split.tensors.count`. No key names another file,
//! so the others are found by the name of the one that is opened.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::ALIGNMENT;
use super::header::Header;
use crate::error::in_key;
use crate::replacement::folder;
use crate::{Error, Metadata, Result, Value};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";
/// A key of Trine: a hash of the content of all shards, the same in each.
const ID: &str = "split.trine.id";

/// The position of a file in a split model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Counted from 0.
    pub no: u32,
    /// The number of shards, at least 2.
    pub count: u32,
    /// The number of tensors in all shards together.
    pub tensors: u32,
}

impl Shard {
    /// Reads the `split.*` keys; `None` for a model in one file, even if it was split once and merged again.
    ///
    /// # Errors
    /// When the keys contradict each other, or one is missing.
    pub fn of(metadata: &Metadata) -> Result<Option<Shard>> {
        let Some(count) = metadata.u32(COUNT)?.filter(|&count| count > 0) else { return Ok(None) };
        let required =
            |key| metadata.u32(key)?.ok_or_else(|| Error::malformed(in_key(key), "a value in every shard", "none"));
        let no = required(NO)?;
        if no >= count {
            return Err(Error::malformed(in_key(NO), format_args!("a number below {COUNT}, which is {count}"), no));
        }
        if count == 1 { Ok(None) } else { Ok(Some(Shard { no, count, tensors: required(TENSORS)? })) }
    }

    /// The end of the file name of shard `no`, counted from 0.
    fn suffix(no: u32, count: u32) -> String {
        format!("-{:05}-of-{count:05}.gguf", u64::from(no) + 1)
    }

    /// The common prefix of all shards' file names, given the path of this one.
    fn prefix<'a>(&self, path: &'a Path) -> Result<&'a str> {
        let Shard { no, count, .. } = *self;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let suffix = Shard::suffix(no, count);
        let Some(prefix) = name.strip_suffix(&*suffix) else {
            let expected = format_args!("a name that ends in {suffix:?}, by which the other shards are found");
            return Err(Error::malformed(
                format!("shard {} of {count}", u64::from(no) + 1),
                expected,
                format_args!("{name:?}"),
            ));
        };
        if prefix.is_empty() || prefix.contains("..") || prefix.contains(['/', '\\', ':']) {
            return Err(Error::shard_name(name));
        }
        Ok(prefix)
    }
}

/// The path of shard `no` of a model that would be at `path` in one file.
pub(super) fn path(path: &Path, no: usize, count: usize) -> PathBuf {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}{}", Shard::suffix(no as u32, count as u32)))
}

/// Adds the keys of shard `no`, with the types that llama.cpp gives them.
pub(super) fn describe(metadata: &mut Metadata, no: usize, count: usize, tensors: usize, id: &str) {
    metadata.insert(NO, Value::U16(no as u16));
    metadata.insert(COUNT, Value::U16(count as u16));
    metadata.insert(TENSORS, tensors as i32);
    metadata.insert(ID, id);
}

/// Opens all shards of a split model in order, and removes the `split.*` keys from the first. `opened` is the shard at `path`; `open` opens
/// another one.
pub(crate) fn join(
    path: &Path,
    shard: Shard,
    opened: Header,
    mut open: impl FnMut(&Path) -> Result<Header>,
) -> Result<Vec<Header>> {
    let prefix = shard.prefix(path).map_err(|e| e.at(path))?;
    let mut opened = Some(opened);
    let mut shards: Vec<Header> = Vec::new();
    // The count may be wrong, so names are built only as files are found.
    for no in 0..shard.count {
        let path = path.with_file_name(format!("{prefix}{}", Shard::suffix(no, shard.count)));
        let next = match opened.take_if(|_| no == shard.no) {
            Some(opened) => opened,
            None => open(&path).map_err(|error| match error.cause() {
                Error::Io(io) if io.kind() == ErrorKind::NotFound => {
                    Error::MissingShard { no, count: shard.count }.at(&path)
                }
                _ => error,
            })?,
        };
        check(&next.metadata, Shard { no, ..shard }).map_err(|e| e.at(&path))?;
        if let Some(first) = shards.first() {
            check_agreement(first, &next).map_err(|e| e.at(&path))?;
        }
        shards.push(Header { path: Some(path), ..next });
    }
    let found: usize = shards.iter().map(|shard| shard.table.len()).sum();
    if found != shard.tensors as usize {
        let expected = format_args!("as many tensors as all {} shards have, {found}", shard.count);
        return Err(Error::malformed(in_key(TENSORS), expected, shard.tensors).at(path));
    }
    for key in [NO, COUNT, TENSORS, ID] {
        shards[0].metadata.remove(key);
    }
    Ok(shards)
}

/// Refuses a file that is not the shard `expected`.
fn check(metadata: &Metadata, expected: Shard) -> Result<()> {
    let name = |Shard { no, count, tensors }: Shard| {
        format!("shard {} of {count} with {tensors} tensors in all", u64::from(no) + 1)
    };
    let found = match Shard::of(metadata)? {
        Some(found) if found == expected => return Ok(()),
        Some(found) => name(found),
        None => "a model in one file".to_owned(),
    };
    Err(Error::malformed("split", name(expected), found))
}

/// Refuses a shard that contradicts the first one.
fn check_agreement(first: &Header, shard: &Header) -> Result<()> {
    let differs = |key: &str, value: &Value| first.metadata.get(key).is_some_and(|first| first != value);
    let conflict = |key: &str| Err(Error::malformed(in_key(key), "the value of the first shard", "another"));
    let mut keys = shard.metadata.iter().filter(|(key, _)| ![NO, COUNT, TENSORS, ID].contains(key));
    if let Some((key, _)) = keys.find(|(key, value)| differs(key, value)) {
        return conflict(key);
    }
    if first.metadata.get(ID) != shard.metadata.get(ID) {
        return Err(Error::malformed("the shard", "one of the same model and run as the first", "one of another"));
    }
    // The gguf package of PyPI aligns all shards by a key that only the first has; `gguf-split` does not. The files look the same.
    if shard.alignment == first.alignment { Ok(()) } else { conflict(ALIGNMENT) }
}

/// The first of these files, in order, if they are by their names all shards of one model.
pub(crate) fn only_set(files: &[&PathBuf]) -> Option<PathBuf> {
    let mut sets: IndexMap<_, _> = files.iter().rev().map(|&path| (set(path), path)).collect();
    match (sets.pop()?, sets.is_empty()) {
        ((Some(_), first), true) => Some(first.clone()),
        _ => None,
    }
}

/// What the names of all shards of a model have in common: the prefix and the number of shards.
fn set(path: &Path) -> Option<(&str, &str)> {
    numbered(path, ".gguf").map(|(prefix, _, count)| (prefix, count))
}

/// Files beside `path` that are by their names shards of the same model in another number of files than `count`.
///
/// # Errors
/// When the folder cannot be read.
pub fn other_shards(path: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let is_other = |path: &Path| {
        set(path).is_some_and(|(prefix, other)| prefix == name && other.parse() != Ok(count)) && path.is_file()
    };
    let folder = folder(path);
    let mut others = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| Error::Io(error).at(folder))? {
        others.push(entry.map_err(|error| Error::Io(error).at(folder))?.path());
    }
    others.retain(|path| is_other(path));
    others.sort();
    Ok(others)
}

/// Splits the file name `prefix-00001-of-00003.extension` into prefix, number and count.
pub(crate) fn numbered<'a>(path: &'a Path, extension: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, count) = path.file_name()?.to_str()?.strip_suffix(extension)?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    (is_number(no) && is_number(count)).then_some((prefix, no, count))
}
