//! Changing the keys of a file.

use super::header::{Header, header};
use super::write::encode;
use super::{MAGIC, alignment};
use crate::mapping::Mapping;
use crate::{Bytes, Error, Metadata, Replacement, Result};
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// How [`edit`] wrote a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edited {
    /// Nothing had to be written.
    Same,
    /// The new header has the size of the old one, with its padding: the bytes that differ were written in place.
    InPlace,
    /// The whole file was written anew.
    Rewritten,
}

/// The bytes of `path` and its header.
fn read(path: &Path) -> Result<(Bytes, Header)> {
    let read = || {
        let mapping = Mapping::new(File::open(path)?)?;
        let bytes = Bytes::from_owner(mapping);
        if !bytes.starts_with(MAGIC) {
            return Err(Error::NotAModel { found: "one that is not GGUF".to_owned() });
        }
        let header = header(&bytes, None)?;
        Ok((bytes, header))
    };
    read().map_err(|error: Error| error.at(path))
}

/// The keys of the GGUF file `path`, those that describe shards and layouts included.
///
/// # Errors
/// When it cannot be read, or is malformed.
pub fn raw_metadata(path: &Path) -> Result<Metadata> {
    Ok(read(path)?.1.metadata)
}

/// Gives the GGUF file `path` other keys. Its tensors stay as they are. Only bytes of the header are written, if it fits; else a new file
/// replaces the old one when it is complete.
///
/// # Errors
/// When the file cannot be read or written, or the keys change where its tensors are.
pub fn edit(path: &Path, metadata: &Metadata) -> Result<Edited> {
    let (bytes, old) = read(path)?;
    let located = |error: Error| error.at(path);
    let found = u64::from(alignment(metadata).map_err(located)?);
    if found != old.alignment {
        let (key, expected) = (super::ALIGNMENT.to_owned(), format!("{}, by which tensors are aligned", old.alignment));
        return Err(located(Error::malformed(format!("key `{key}`"), expected, found)));
    }
    let new = encode(metadata, &old.table, old.alignment as usize).map_err(located)?;
    let start = bytes.len() - old.data.len();
    let write = |error: std::io::Error| located(Error::Write(error));
    if new.len() == start {
        let differs = |(a, b): (&u8, &u8)| a != b;
        let Some(first) = new.iter().zip(bytes.iter()).position(differs) else { return Ok(Edited::Same) };
        let last = start - new.iter().rev().zip(bytes[..start].iter().rev()).position(differs).unwrap_or(0);
        let changed = new[first..last].to_vec();
        // A file that changes must not be mapped.
        drop((bytes, old));
        let mut file = OpenOptions::new().write(true).open(path).map_err(write)?;
        file.seek(SeekFrom::Start(first as u64)).map_err(write)?;
        file.write_all(&changed).and_then(|()| file.sync_all()).map_err(write)?;
        return Ok(Edited::InPlace);
    }
    let replace = || {
        let mut file = Replacement::new(path)?;
        file.write_all(&new)?;
        old.data.chunks(16 << 20).try_for_each(|chunk| file.write_all(chunk))?;
        file.finish()
    };
    replace().map_err(write)?;
    Ok(Edited::Rewritten)
}
