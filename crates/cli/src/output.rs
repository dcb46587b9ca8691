//! Files that the program writes beside a model: whole, or not at all.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file to be, of which nothing is seen before it is whole.
pub struct Output {
    path: PathBuf,
    to: To,
}

enum To {
    /// What takes the place of an old file of this name, or makes a new one.
    File(NamedTempFile),
    /// A pipe or a device, which no file must take the place of.
    Device(File),
}

impl Output {
    /// Makes sure that it can be written, before any work is done for it.
    ///
    /// # Errors
    /// When it cannot, or is a file of the model.
    pub fn new(path: &Path, model: &Path) -> Result<Output> {
        let open = || -> io::Result<To> {
            if path.exists() && !path.is_file() {
                return Ok(To::Device(File::options().write(true).open(path)?));
            }
            let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
            let model = model.canonicalize().unwrap_or_else(|_| model.to_owned());
            let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if target == model || path.exists() && folder == model {
                return Err(io::Error::other("this is a file of the model: give another name"));
            }
            let mut builder = tempfile::Builder::new();
            builder.prefix(".trine-").suffix(".partial");
            #[cfg(unix)]
            builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
            Ok(To::File(builder.tempfile_in(folder)?))
        };
        Ok(Output { path: path.to_owned(), to: open().with_context(|| path.display().to_string())? })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When `body` fails, or the system.
    pub fn write(self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        fn all(file: &File, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
            let mut out = BufWriter::new(file);
            body(&mut out)?;
            out.flush()
        }
        let Output { path, to } = self;
        let write = || match to {
            To::Device(file) => all(&file, body),
            To::File(file) => {
                all(file.as_file(), body)?;
                // Through a symbolic link, it is the file behind it that is replaced.
                file.persist(path.canonicalize().unwrap_or_else(|_| path.clone()))?;
                Ok(())
            }
        };
        write().with_context(|| path.display().to_string())
    }
}
