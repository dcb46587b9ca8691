//! Reading the small files that come with a model.

use std::path::Path;
use std::{fs, io};

use crate::{Error, Result};

pub(crate) const LFS_POINTER: &str = "a pointer of Git LFS: get the file itself (`git lfs pull`)";

/// Whether these are the bytes of a pointer that Git LFS puts in the place of a large file.
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// [`read_small`] of a file that need not be there. Whatever else has its name, such as a folder or a link to nothing, is an error.
///
/// # Errors
/// Those of [`read_small`].
pub fn read_optional(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    match fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        _ => read_small(path, limit).map(Some),
    }
}

/// Reads a file that comes with a model, such as its `config.json`.
///
/// # Errors
/// When it is not a regular file, cannot be read, or has more than `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(Error::not_a_file(&metadata));
        }
        let found = metadata.len();
        if found > limit {
            return Err(Error::malformed("the file", format_args!("at most {limit} bytes"), found));
        }
        let bytes = fs::read(path)?;
        if is_lfs_pointer(&bytes) {
            return Err(Error::malformed("the file", "its content", LFS_POINTER));
        }
        Ok(bytes)
    };
    read().map_err(|e| e.at(path))
}
