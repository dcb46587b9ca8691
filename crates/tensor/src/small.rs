//! Reading the small files that come with a model.

use std::fs;
use std::path::Path;

use crate::{Error, Result};

/// Reads a file that comes with a model, such as its `config.json`.
///
/// # Errors
/// When it is not a regular file, cannot be read, or has more than `limit` bytes.
pub fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let read = || {
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(Error::not_a_file());
        }
        let found = metadata.len();
        if found > limit {
            return Err(Error::malformed("the file", format_args!("at most {limit} bytes"), found));
        }
        Ok(fs::read(path)?)
    };
    read().map_err(|e| e.at(path))
}
