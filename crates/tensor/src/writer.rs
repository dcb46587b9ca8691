//! Writing a model file so that it appears whole or not at all.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Entry, Error, Replacement, Result};

/// A model file in the making. The header is in place; tensors follow one by one in the order it announced, so that
/// only one of them need be in memory. [`Writer::finish`] puts the file in place; dropped before, or killed, it leaves
/// the old file as it was.
pub struct Writer {
    path: PathBuf,
    file: Replacement,
    tensors: Vec<Entry>,
    written: usize,
    alignment: usize,
}

impl Writer {
    /// Begins a file with a complete header; each tensor is padded to `alignment`.
    pub(crate) fn create(path: &Path, header: &[u8], tensors: Vec<Entry>, alignment: usize) -> Result<Writer> {
        let begin = || {
            let mut file = Replacement::new(path)?;
            file.write_all(header)?;
            Ok(file)
        };
        let file = begin().map_err(|e: std::io::Error| Error::Io(e).at(path))?;
        Ok(Writer { path: path.to_path_buf(), file, tensors, written: 0, alignment })
    }

    /// Writes the bytes of the next tensor. Refuses more or fewer bytes than its entry says.
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        match self.tensors.get(self.written) {
            Some(entry) if entry.size()? != bytes.len() as u64 => Err(entry.wrong_length(bytes.len()).at(&self.path)),
            _ => self.tensor_in_parts([bytes]),
        }
    }

    /// As [`Writer::tensor`], for bytes that need not be in memory together. After an error the file cannot be finished.
    pub fn tensor_in_parts<T: AsRef<[u8]>>(&mut self, parts: impl IntoIterator<Item = T>) -> Result<()> {
        let count = self.tensors.len();
        let Some(entry) = self.tensors.get(self.written) else {
            return Err(Error::Unfinished { expected: count, found: count + 1 }.at(&self.path));
        };
        let expected = entry.size()?;
        let next = std::mem::replace(&mut self.written, usize::MAX) + 1;
        let mut found = 0;
        for part in parts {
            let part = part.as_ref();
            found += part.len() as u64;
            if found > expected {
                break;
            }
            self.file.write_all(part).map_err(|e| Error::Io(e).at(&self.path))?;
        }
        if found != expected {
            return Err(entry.wrong_length(found as usize).at(&self.path));
        }
        let padding = (expected.next_multiple_of(self.alignment as u64) - expected) as usize;
        self.file.write_all(&vec![0; padding]).map_err(|e| Error::Io(e).at(&self.path))?;
        self.written = next;
        Ok(())
    }

    /// Puts the file in place, on disk and under its name. Refuses when tensors are missing.
    pub fn finish(self) -> Result<()> {
        let Writer { path, file, tensors, written, .. } = self;
        if written != tensors.len() {
            return Err(Error::Unfinished { expected: tensors.len(), found: written }.at(&path));
        }
        file.finish().map_err(|e| Error::Io(e).at(&path))
    }
}

/// Writes the tensors that the header announced, and finishes the file.
pub(crate) fn write_all(mut writer: Writer, tensors: &[crate::View]) -> Result<()> {
    for view in tensors {
        writer.tensor(&view.stored()?)?;
    }
    writer.finish()
}
