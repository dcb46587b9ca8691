//! Writing a model as several files.

use crate::{Error, Result, Writer};
use std::path::PathBuf;

/// Writes the tensors of a model to one file or several, one after another, as [`Writer`] does. All of them appear when
/// [`ShardedWriter::finish`] is called.
pub struct ShardedWriter {
    /// With the number of tensors of each.
    writers: Vec<(Writer, usize)>,
    current: usize,
    /// Tensors of the current file that are written.
    written: usize,
}

impl ShardedWriter {
    pub(crate) fn new(writers: Vec<(Writer, usize)>) -> ShardedWriter {
        ShardedWriter { writers, current: 0, written: 0 }
    }

    fn writer(&mut self) -> Result<&mut Writer> {
        if self.writers.get(self.current).is_some_and(|(_, count)| self.written == *count) {
            (self.current, self.written) = (self.current + 1, 0);
        }
        let none = || Error::malformed("the files", "the tensors of their headers", "more");
        self.writers.get_mut(self.current).map(|(writer, _)| writer).ok_or_else(none)
    }

    /// As [`Writer::hole`].
    ///
    /// # Errors
    /// As [`Writer::hole`].
    pub fn hole(&mut self) -> Result<()> {
        self.writer()?.hole()?;
        self.written += 1;
        Ok(())
    }

    /// As [`Writer::tensor`].
    ///
    /// # Errors
    /// As [`Writer::tensor`].
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer()?.tensor(bytes)?;
        self.written += 1;
        Ok(())
    }

    /// As [`Writer::part`].
    ///
    /// # Errors
    /// As [`Writer::part`].
    pub fn part(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer()?.part(bytes)
    }

    /// As [`Writer::end_tensor`].
    ///
    /// # Errors
    /// As [`Writer::end_tensor`].
    pub fn end_tensor(&mut self) -> Result<()> {
        self.writer()?.end_tensor()?;
        self.written += 1;
        Ok(())
    }

    /// Flushes all files to disk and moves them to their paths, which are returned. The first, without which none can be opened, comes last.
    ///
    /// # Errors
    /// As [`Writer::finish`].
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        let paths = self.writers.iter().map(|(writer, _)| writer.path().to_owned()).collect();
        self.writers.into_iter().rev().try_for_each(|(writer, _)| writer.finish())?;
        Ok(paths)
    }
}
