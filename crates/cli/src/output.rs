//! Files that the program writes beside a model: whole, or not at all.

use anyhow::{Context, Result};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use trine::tensor::Replacement;

/// A file to be, of which nothing is seen before it is whole.
pub struct Output {
    path: PathBuf,
    to: To,
}

enum To {
    /// What takes the place of an old file of this name, or makes a new one.
    File(Replacement),
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
            if target == model || path.exists() && target.parent() == Some(&model) {
                return Err(io::Error::other("this is a file of the model: give another name"));
            }
            Ok(To::File(Replacement::new(path)?))
        };
        Ok(Output { path: path.to_owned(), to: open().with_context(|| path.display().to_string())? })
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// When `body` fails, or the system.
    pub fn write(self, body: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
        let Output { path, to } = self;
        let write = || match to {
            To::Device(file) => {
                let mut out = BufWriter::new(file);
                body(&mut out)?;
                out.flush()
            }
            To::File(mut file) => {
                body(&mut file)?;
                file.finish()
            }
        };
        write().with_context(|| path.display().to_string())
    }
}
