//! Making a folder atomically.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::replacement::{Listed, folder, follow, remove_left, sync_names, temporary_folder};

/// Makes a folder atomically. Files are written to a temporary folder beside its path, which [`NewFolder::finish`] moves there. If it is dropped
/// before, nothing is left.
///
/// The temporary folder is locked, as far as the system locks folders. One that a killed program left is not, and the next new folder or
/// [`Replacement`](crate::Replacement) beside it removes it.
pub struct NewFolder {
    target: PathBuf,
    temporary: TempDir,
    /// Others take an unlocked folder for one that was left.
    lock: Option<File>,
    _listed: Listed,
}

impl NewFolder {
    /// Creates the temporary folder.
    ///
    /// # Errors
    /// When the folder that it will be in is not there, or not writable.
    pub fn new(path: &Path) -> io::Result<NewFolder> {
        // What ends with `/` has the name before it.
        let target: PathBuf = follow(path).components().collect();
        let beside = folder(&target);
        remove_left(beside);
        loop {
            let temporary = temporary_folder(beside).map_err(|error| error.kind())?;
            let lock = File::open(temporary.path()).ok();
            // Another program may have taken it for one that was left, before it was locked.
            let is_taken = |lock: &File| matches!(lock.try_lock(), Err(TryLockError::WouldBlock));
            if !lock.as_ref().is_some_and(is_taken) && temporary.path().exists() {
                let _listed = Listed::new(temporary.path());
                return Ok(NewFolder { target, temporary, lock, _listed });
            }
        }
    }

    /// The temporary folder.
    pub fn path(&self) -> &Path {
        self.temporary.path()
    }

    /// Moves the folder to its path, where nothing may be but an empty folder.
    ///
    /// # Errors
    /// When the system reports one.
    pub fn finish(self) -> io::Result<()> {
        let NewFolder { target, temporary, lock, _listed } = self;
        if target.is_dir() {
            std::fs::remove_dir(&target).map_err(occupied)?;
        }
        // Where an open folder cannot be moved, nobody could lock it.
        drop(lock.filter(|_| cfg!(not(unix))));
        std::fs::rename(temporary.path(), &target).map_err(occupied)?;
        // It is not there any more.
        let _ = temporary.keep();
        sync_names(folder(&target))
    }
}

/// What an error means where another folder is at the path.
fn occupied(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::DirectoryNotEmpty => {
            io::Error::new(kind, "expected no folder or an empty one, found files in it")
        }
        _ => error,
    }
}
