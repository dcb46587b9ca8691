//! Writing a file atomically.

use crate::error::{Error, Result, what_is_no_file};
use std::fs::{File, Metadata, TryLockError};
use std::io::{self, BufWriter, ErrorKind, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use tempfile::{NamedTempFile, TempDir, TempPath};

const PREFIX: &str = ".trine-";
const SUFFIX: &str = ".partial";

/// The temporary files and folders of this program. They are global, as the end of a program is that drops nothing.
static OPEN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn open() -> MutexGuard<'static, Vec<PathBuf>> {
    OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A temporary file or folder that is among [`OPEN`].
pub(crate) struct Listed(PathBuf);

impl Listed {
    pub fn new(path: &Path) -> Listed {
        open().push(path.to_owned());
        Listed(path.to_owned())
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        open().retain(|path| *path != self.0);
    }
}

/// Creates or replaces a file atomically. Bytes are written to a temporary file in the same folder, which [`Replacement::finish`] moves to
/// its path. If it is dropped before, or the program is killed, an old file stays as it was.
///
/// Where [`std::fs::write`] fails, this does, too. Like that, it follows symbolic links, also one to a file that does not exist yet, and a
/// new file has the permissions of the one that it replaces.
///
/// A temporary file is locked while it is written. One that a killed program left is not, and the next replacement in its folder removes it.
pub struct Replacement {
    target: PathBuf,
    file: BufWriter<File>,
    temporary: TempPath,
    _listed: Listed,
}

impl Replacement {
    /// Creates the temporary file.
    ///
    /// # Errors
    /// When there is no such folder, or it is not writable; when the path is that of a folder or a device, or of a file that is not writable.
    pub fn new(path: &Path) -> io::Result<Replacement> {
        let old = match path.metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            old => Some(old?),
        };
        let target = follow(path);
        let folder = folder(&target);
        match &old {
            Some(old) if old.is_file() => drop(File::options().write(true).open(&target)?),
            Some(other) => return Err(unfit(format!("found {}", what_is_no_file(other)))),
            None if !names_file(&target) => return Err(unfit("found that of a folder".to_owned())),
            None if !folder.is_dir() => {
                let problem = format!("expected a file in an existing folder, found no folder {:?}", folder.display());
                return Err(io::Error::new(ErrorKind::NotFound, problem));
            }
            None => {}
        }
        remove_left(folder);
        let (file, temporary) = loop {
            // The message has the name of the temporary file, which nobody knows.
            let file = temporary(folder, old.as_ref()).map_err(|error| error.kind())?;
            // Another program may have taken it for one that was left, before it was locked.
            if !matches!(file.as_file().try_lock(), Err(TryLockError::WouldBlock)) && file.path().exists() {
                break file.into_parts();
            }
        };
        if let Some(old) = old {
            file.set_permissions(old.permissions())?;
        }
        let _listed = Listed::new(&temporary);
        Ok(Replacement { target, file: BufWriter::with_capacity(1 << 20, file), temporary, _listed })
    }

    /// Removes the temporary files of all replacements that are not finished, and the folders of all [`NewFolder`](crate::NewFolder)s, for a
    /// program that exits without dropping them.
    pub fn remove_unfinished() {
        for path in open().drain(..) {
            // One that was finished meanwhile is not there.
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }

    /// Checks that a file can be written to this path, before long work for it begins.
    ///
    /// # Errors
    /// As [`Replacement::new`]. The error names the path.
    pub fn check(path: &Path) -> Result<()> {
        Replacement::new(path).map(drop).map_err(|error| Error::Write(error).at(path))
    }

    /// Flushes the file to disk and moves it to its path.
    ///
    /// # Errors
    /// When the system reports one. An old file then stays as it was.
    pub fn finish(self) -> io::Result<()> {
        self.complete()?.place(true)
    }

    /// Flushes the file to disk, which then only lacks its name.
    pub(crate) fn complete(self) -> io::Result<Complete> {
        let Replacement { target, file, temporary, _listed } = self;
        let file = file.into_inner()?;
        file.sync_all()?;
        Ok(Complete { target, temporary, _lock: file, _listed })
    }
}

/// A file that is on disk as a whole, under the name of a temporary one.
pub(crate) struct Complete {
    target: PathBuf,
    temporary: TempPath,
    /// Others take an unlocked file for one that was left.
    _lock: File,
    _listed: Listed,
}

impl Complete {
    /// Moves the file to its path, where it replaces an old one only if it may.
    fn place(self, replace: bool) -> io::Result<()> {
        match replace {
            true => self.temporary.persist(&self.target)?,
            false => self.temporary.persist_noclobber(&self.target)?,
        }
        sync_names(folder(&self.target))
    }

    /// Moves files that belong together to their paths, the last one first, where they replace old ones only if they may. An old first one of
    /// several is removed before, as the others are nothing without it. If one cannot be moved, those are removed that were, unless they took
    /// the place of old ones. An error has the number of the file.
    pub fn place_all(files: Vec<Complete>, replace: bool) -> std::result::Result<(), (usize, io::Error)> {
        if let [first, _, ..] = &files[..]
            && replace
            && first.target.is_file()
        {
            let remove = || std::fs::remove_file(&first.target).and_then(|()| sync_names(folder(&first.target)));
            remove().map_err(|error| (0, error))?;
        }
        let mut new: Vec<PathBuf> = Vec::new();
        for (i, file) in files.into_iter().enumerate().rev() {
            let (target, is_new) = (file.target.clone(), !file.target.exists());
            if let Err(error) = file.place(replace) {
                new.iter().for_each(|path| _ = std::fs::remove_file(path));
                return Err((i, error));
            }
            new.extend(is_new.then_some(target));
        }
        Ok(())
    }
}

/// New names in a folder survive a power failure only if the folder is on disk, too.
pub(crate) fn sync_names(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
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

fn unfit(found: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("expected the name of a new or an existing file, {found}"))
}

/// Where symbolic links lead, even if nothing is there.
pub(crate) fn follow(path: &Path) -> PathBuf {
    let mut target = path.to_path_buf();
    // The system follows no more.
    for _ in 0..40 {
        let Ok(link) = target.read_link() else { break };
        target = folder(&target).join(link);
    }
    target
}

/// Whether a path can be that of a file: not with `/`, `.` or `..` at its end.
fn names_file(path: &Path) -> bool {
    let bytes = |name: &std::ffi::OsStr| path.as_os_str().as_encoded_bytes().ends_with(name.as_encoded_bytes());
    path.file_name().is_some_and(bytes)
}

/// A new file in the folder, with no more permissions than the old one that it will replace.
fn temporary(folder: &Path, old: Option<&Metadata>) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(old.map_or(std::os::unix::fs::PermissionsExt::from_mode(0o666), Metadata::permissions));
    #[cfg(not(unix))]
    let _ = old;
    builder.tempfile_in(folder)
}

/// A new folder within another.
pub(crate) fn temporary_folder(folder: &Path) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
    builder.tempdir_in(folder)
}

/// Removes the temporary files and folders in a folder that nobody writes any more. What cannot be removed stays.
pub(crate) fn remove_left(folder: &Path) {
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let (name, path) = (entry.file_name(), entry.path());
        let is_temporary = name.to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        // A folder can be locked where it can be opened like a file.
        let open = || File::options().read(is_folder).write(!is_folder).open(&path);
        if is_temporary
            && let Ok(file) = open()
            && file.try_lock().is_ok()
        {
            let _ = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
}

/// The folder that a path is in.
pub(crate) fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
