//! Files that grow line by line.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Opens a file to read it and to add to its end, or makes it, and locks it as long as it is open. A pipe or device is opened to write alone, by any
/// number of runs: whoever can read from a pipe never learns that its reader is gone.
///
/// # Errors
/// When it cannot be opened, or another run adds to it.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let is_other = path.exists() && !path.is_file();
    let file = File::options().read(!is_other).append(true).create(!is_other).open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) if !is_other => {
            Err(io::Error::other("expected a file that no other run writes, found one that a run does"))
        }
        // Some file systems have no locks.
        _ => Ok(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_writer_and_a_device_any_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let first = open_to_append(&path).unwrap();
        assert!(open_to_append(&path).unwrap_err().to_string().contains("no other run"));
        drop(first);
        open_to_append(&path).unwrap();
        let null = Path::new("/dev/null");
        if null.exists() {
            let _first = open_to_append(null).unwrap();
            open_to_append(null).unwrap();
        }
    }
}
