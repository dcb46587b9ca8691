//! Files that grow line by line.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

/// Opens a file to read it and to add to its end, or makes it, and locks it as long as it is open. A pipe is opened to write alone: whoever can
/// read from it never learns that its reader is gone.
///
/// # Errors
/// When it cannot be opened, or another run adds to it.
pub fn open_to_append(path: &Path) -> io::Result<File> {
    let is_other = path.exists() && !path.is_file();
    let file = File::options().read(!is_other).append(true).create(!is_other).open(path)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other("expected a file that no other run writes, found one that a run does"))
        }
        // Pipes and some file systems have no locks.
        _ => Ok(file),
    }
}
