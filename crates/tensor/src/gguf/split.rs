//! Models in several files, `name-00001-of-00003.gguf` and so on, as llama.cpp's `gguf-split` writes them.
//!
//! The first piece has the keys of the model; all have `split.no`, `split.count` and `split.tensors.count`. Nothing in a file names another:
//! the others are found by the name of the one that is opened.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::{ALIGNMENT, Header};
use crate::{Error, Metadata, Result, Value};

const NO: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Which piece of a split model a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Counted from 0.
    pub no: u32,
    /// The number of pieces, at least 2.
    pub count: u32,
    /// The number of tensors of all pieces together.
    pub tensors: u32,
}

impl Piece {
    /// What the keys say; `None` for a model in one file, also when it was split and merged again.
    ///
    /// # Errors
    /// When the keys contradict each other, or one is missing.
    pub fn of(metadata: &Metadata) -> Result<Option<Piece>> {
        let Some(count) = metadata.u32(COUNT)?.filter(|&count| count > 0) else { return Ok(None) };
        let needed = |key| metadata.u32(key)?.ok_or(Error::SplitKey { key });
        let no = needed(NO)?;
        if no >= count {
            return Err(Error::SplitNumber { no, count });
        }
        if count == 1 { Ok(None) } else { Ok(Some(Piece { no, count, tensors: needed(TENSORS)? })) }
    }

    /// The end of the name of piece `no`, counted from 0.
    pub(crate) fn suffix(no: u32, count: u32) -> String {
        format!("-{:05}-of-{count:05}.gguf", u64::from(no) + 1)
    }

    /// What the names of all pieces begin with, when `path` is this one.
    fn prefix<'a>(&self, path: &'a Path) -> Result<&'a str> {
        let Piece { no, count, .. } = *self;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let prefix = name.strip_suffix(&*Piece::suffix(no, count)).ok_or(Error::SplitName { no, count })?;
        if prefix.is_empty() || prefix.contains("..") || prefix.contains(['/', '\\', ':']) {
            return Err(Error::ShardName { name: name.to_owned() });
        }
        Ok(prefix)
    }
}

/// All pieces of a split model in order, the first without the keys of the splitting: `opened` is the piece at `path`, `open` opens another.
pub(crate) fn join(
    path: &Path,
    piece: Piece,
    opened: Header,
    mut open: impl FnMut(&Path) -> Result<Header>,
) -> Result<Vec<Header>> {
    let prefix = piece.prefix(path).map_err(|e| e.at(path))?;
    let mut opened = Some(opened);
    let mut pieces: Vec<Header> = Vec::new();
    // The count may be a lie: names are made as files are found.
    for no in 0..piece.count {
        let path = path.with_file_name(format!("{prefix}{}", Piece::suffix(no, piece.count)));
        let next = match opened.take_if(|_| no == piece.no) {
            Some(opened) => opened,
            None => open(&path).map_err(|error| match error.cause() {
                Error::Io(io) if io.kind() == ErrorKind::NotFound => {
                    Error::SplitMissing { no, count: piece.count }.at(&path)
                }
                _ => error,
            })?,
        };
        check(&next.metadata, Piece { no, ..piece }).map_err(|e| e.at(&path))?;
        if let Some(first) = pieces.first() {
            agree(first, &next).map_err(|e| e.at(&path))?;
        }
        pieces.push(Header { path: Some(path), ..next });
    }
    let (expected, count, found) = (piece.tensors, piece.count, pieces.iter().map(|piece| piece.table.len()).sum());
    if found != expected as usize {
        return Err(Error::SplitTensors { expected, count, found }.at(path));
    }
    for key in [NO, COUNT, TENSORS] {
        pieces[0].metadata.remove(key);
    }
    Ok(pieces)
}

/// Makes sure that a file says that it is the piece `expected`.
fn check(metadata: &Metadata, expected: Piece) -> Result<()> {
    let found = match Piece::of(metadata)? {
        Some(found) if found == expected => return Ok(()),
        Some(Piece { no, count, tensors }) => {
            format!("piece {} of {count} of one of {tensors}", u64::from(no) + 1)
        }
        None => "a model in one file".to_owned(),
    };
    let Piece { no, count, tensors } = expected;
    Err(Error::SplitPiece { no, count, tensors, found })
}

/// Makes sure that a later piece does not contradict the first.
fn agree(first: &Header, piece: &Header) -> Result<()> {
    let differs = |key: &str, value: &Value| first.metadata.get(key).is_some_and(|first| first != value);
    let mut keys = piece.metadata.iter().filter(|(key, _)| ![NO, COUNT, TENSORS].contains(key));
    if let Some((key, _)) = keys.find(|(key, value)| differs(key, value)) {
        return Err(Error::SplitMixed { key: key.to_owned() });
    }
    // PyPI's writer aligns all pieces by a key that only the first has, `gguf-split` does not: nothing tells them apart.
    match piece.alignment == first.alignment {
        true => Ok(()),
        false => Err(Error::SplitMixed { key: ALIGNMENT.to_owned() }),
    }
}

/// The first of these files, when they are all pieces of one split model by their names, in order.
pub(crate) fn only_set(files: &[&PathBuf]) -> Option<PathBuf> {
    let mut sets: IndexMap<_, _> = files.iter().rev().map(|&path| (set(path), path)).collect();
    match (sets.pop()?, sets.is_empty()) {
        ((Some(_), first), true) => Some(first.clone()),
        _ => None,
    }
}

/// What a file name has in common with those of the other pieces: what it begins with, and the number of pieces.
fn set(path: &Path) -> Option<(&str, &str)> {
    numbered(path, ".gguf").map(|(prefix, _, count)| (prefix, count))
}

/// What the name `prefix-00001-of-00003.extension` of one file of several says: what it begins with, its number, and theirs.
pub(crate) fn numbered<'a>(path: &'a Path, extension: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let is_number = |text: &str| text.len() >= 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, count) = path.file_name()?.to_str()?.strip_suffix(extension)?.rsplit_once("-of-")?;
    let (prefix, no) = rest.rsplit_once('-')?;
    (is_number(no) && is_number(count)).then_some((prefix, no, count))
}
