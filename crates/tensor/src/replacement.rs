//! A file that appears whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file in the making. Its bytes go to a temporary file in the same folder, which takes the place of the old file, or of none, in
/// [`Replacement::finish`]; dropped before, or killed, it leaves the old file as it was. Through a symbolic link, it is the file behind it that is
/// replaced.
pub struct Replacement {
    target: PathBuf,
    file: BufWriter<NamedTempFile>,
}

impl Replacement {
    /// Begins a file.
    ///
    /// # Errors
    /// When none can be made in this folder.
    pub fn new(path: &Path) -> io::Result<Replacement> {
        let target = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
        let mut builder = tempfile::Builder::new();
        builder.prefix(".trine-").suffix(".partial");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = BufWriter::with_capacity(1 << 20, builder.tempfile_in(folder(&target))?);
        Ok(Replacement { target, file })
    }

    /// Puts the file in place, on disk and under its name.
    ///
    /// # Errors
    /// When the system cannot; the old file is then as it was.
    pub fn finish(self) -> io::Result<()> {
        let file = self.file.into_inner()?;
        file.as_file().sync_all()?;
        file.persist(&self.target)?;
        // The new name is safe from a power failure only when the folder is on disk, too.
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

/// Where a file is.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
