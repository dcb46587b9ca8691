//! Reading the small files that come with a model.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

pub(crate) const LFS_POINTER: &str = "a pointer of Git LFS: get the file itself (`git lfs pull`)";

/// Whether these are the bytes of a pointer that Git LFS puts in the place of a large file.
pub(crate) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
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
