//! Writing a model file atomically.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::replacement::Complete;
use crate::{Error, Replacement, Result, TensorInfo};

/// Writes the tensors of a new model file one after another, in the order of its header, so that only one of them need be in
/// memory. [`Writer::finish`] puts the file in place. If the writer is dropped before, or the program is killed, an old file
/// stays as it was.
pub struct Writer {
    path: PathBuf,
    file: Replacement,
    tensors: Vec<TensorInfo>,
    written: usize,
    /// Bytes of the next tensor that are written.
    found: u64,
    alignment: usize,
}

impl Writer {
    /// Creates a file with a complete header. Each tensor is padded to `alignment`.
    pub(crate) fn create(path: &Path, header: &[u8], tensors: Vec<TensorInfo>, alignment: usize) -> Result<Writer> {
        let begin = || {
            let mut file = Replacement::new(path)?;
            file.write_all(header)?;
            Ok(file)
        };
        let file = begin().map_err(|e: std::io::Error| Error::Write(e).at(path))?;
        Ok(Writer { path: path.to_path_buf(), file, tensors, written: 0, found: 0, alignment })
    }

    /// Writes the bytes of the next tensor. Refuses more or fewer bytes than its shape and format need.
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        match self.tensors.get(self.written) {
            Some(info) if info.size()? != bytes.len() as u64 => {
                Err(info.wrong_length(bytes.len() as u64).at(&self.path))
            }
            _ => self.tensor_in_parts([bytes]),
        }
    }

    /// As [`Writer::tensor`], for bytes that are not in memory together.
    pub fn tensor_in_parts<T: AsRef<[u8]>>(&mut self, parts: impl IntoIterator<Item = T>) -> Result<()> {
        for part in parts {
            self.part(part.as_ref())?;
        }
        self.end_tensor()
    }

    /// Writes some more bytes of the next tensor. After an error the file cannot be finished.
    pub fn part(&mut self, bytes: &[u8]) -> Result<()> {
        let count = self.tensors.len();
        let Some(info) = self.tensors.get(self.written) else {
            return Err(unfinished(count, count + 1).at(&self.path));
        };
        self.found += bytes.len() as u64;
        if self.found > info.size()? {
            let error = info.wrong_length(self.found);
            self.written = usize::MAX;
            return Err(error.at(&self.path));
        }
        self.file.write_all(bytes).map_err(|e| {
            self.written = usize::MAX;
            Error::Write(e).at(&self.path)
        })
    }

    /// Ends the tensor whose parts were written. Refuses when bytes are missing.
    pub fn end_tensor(&mut self) -> Result<()> {
        let count = self.tensors.len();
        let Some(info) = self.tensors.get(self.written) else {
            return Err(unfinished(count, count + 1).at(&self.path));
        };
        let (expected, found) = (info.size()?, std::mem::take(&mut self.found));
        if found != expected {
            let error = info.wrong_length(found);
            self.written = usize::MAX;
            return Err(error.at(&self.path));
        }
        let padding = (expected.next_multiple_of(self.alignment as u64) - expected) as usize;
        let next = std::mem::replace(&mut self.written, usize::MAX) + 1;
        self.file.write_all(&vec![0; padding]).map_err(|e| Error::Write(e).at(&self.path))?;
        self.written = next;
        Ok(())
    }

    /// Leaves out the bytes of the next tensor. They are zeros, for which file systems need no room.
    pub fn hole(&mut self) -> Result<()> {
        let Some(info) = self.tensors.get(self.written) else {
            return Err(unfinished(self.tensors.len(), self.tensors.len() + 1).at(&self.path));
        };
        let size = info.size()?.next_multiple_of(self.alignment as u64);
        if let Some(last) = size.checked_sub(1) {
            let last = i64::try_from(last).map_err(|_| info.overflow())?;
            let skipped = self.file.seek(SeekFrom::Current(last)).and_then(|_| self.file.write_all(&[0]));
            skipped.map_err(|e| Error::Write(e).at(&self.path))?;
        }
        self.written += 1;
        Ok(())
    }

    /// Where the file will be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes another header of the same length in place of the first one.
    pub(crate) fn replace_header(&mut self, header: &[u8]) -> Result<()> {
        let mut replace = || {
            let end = self.file.stream_position()?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(header)?;
            self.file.seek(SeekFrom::Start(end))
        };
        replace().map(drop).map_err(|e: std::io::Error| Error::Write(e).at(&self.path))
    }

    /// Flushes the file to disk and moves it to its path. Refuses when tensors are missing.
    pub fn finish(self) -> Result<()> {
        Writer::finish_all(vec![self], true)
    }

    /// Finishes the files of a model, the last one first: all of them are on disk before one is moved to its path. Old ones are replaced, or
    /// refused.
    pub(crate) fn finish_all(writers: Vec<Writer>, replace: bool) -> Result<()> {
        let paths: Vec<PathBuf> = writers.iter().map(|writer| writer.path.clone()).collect();
        let complete = writers.into_iter().map(Writer::complete).collect::<Result<_>>()?;
        Complete::place_all(complete, replace).map_err(|(i, e)| Error::Write(e).at(&paths[i]))
    }

    fn complete(self) -> Result<Complete> {
        let Writer { path, file, tensors, written, found, .. } = self;
        if written != tensors.len() || found > 0 {
            return Err(unfinished(tensors.len(), written).at(&path));
        }
        file.complete().map_err(|e| Error::Write(e).at(&path))
    }
}

fn unfinished(expected: usize, found: usize) -> Error {
    Error::malformed("the file", format_args!("the {expected} tensors of its header"), found)
}

/// Writes all tensors, and finishes the file.
pub(crate) fn write_all(mut writer: Writer, tensors: &[crate::View]) -> Result<()> {
    for view in tensors {
        writer.tensor(&view.stored()?)?;
    }
    writer.finish()
}
