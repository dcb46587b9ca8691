//! Writing a file atomically.

use std::fs::{File, TryLockError};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

const PREFIX: &str = ".trine-";
const SUFFIX: &str = ".partial";

/// Creates or replaces a file atomically. Bytes are written to a temporary file in the same folder, which [`Replacement::finish`] moves to
/// its path. If it is dropped before, or the program is killed, an old file stays as it was. A symbolic link is followed.
///
/// A temporary file is locked while it is written. One that a killed program left is not, and the next replacement in its folder removes it.
pub struct Replacement {
    target: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl Replacement {
    /// Creates the temporary file.
    ///
    /// # Errors
    /// When the folder is not writable, or the path is that of a folder or a device.
    pub fn new(path: &Path) -> io::Result<Replacement> {
        let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        if target.exists() && !target.is_file() {
            let problem = "expected the name of a new or an existing file, found something else";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        remove_left(folder(&target));
        let file = loop {
            let file = temporary(folder(&target))?;
            // Another program may have taken it for one that was left, before it was locked.
            if !matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock)) && file.path().exists() {
                break file;
            }
        };
        Ok(Replacement { target, file: BufWriter::with_capacity(1 << 20, file) })
    }

    /// Flushes the file to disk and moves it to its path.
    ///
    /// # Errors
    /// When the system reports one. An old file then stays as it was.
    pub fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner()?;
        file.as_file().sync_all()?;
        file.persist(&self.target)?;
        // The new name survives a power failure only if the folder is on disk too.
        #[cfg(unix)]
        File::open(folder(&self.target))?.sync_all()?;
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Replacement {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

fn temporary(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

/// Removes the temporary files in a folder that nobody writes any more. What cannot be removed stays.
fn remove_left(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_temporary = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        if is_temporary
            && let Ok(file) = File::options().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
