//! Writing a model as several files, with a receipt in the first.

use std::path::PathBuf;

use sha2::Digest;

use crate::gguf::shard_header;
use crate::receipt::{Receipt, SealedTensor, Sha256, Sign};
use crate::{Error, Metadata, Result, TensorInfo, Writer};

/// Writes the tensors of a model to one file or several, one after another, as [`Writer`] does. All of them appear when
/// [`ShardedWriter::finish`] is called.
pub struct ShardedWriter {
    /// With the number of tensors of each. None if only the hashes of a receipt are wanted.
    writers: Vec<(Writer, usize)>,
    current: usize,
    /// Tensors of the current file that are written.
    written: usize,
    headers: Option<Headers>,
}

/// Headers with hashes that are found while tensors are written. They have a fixed length, so that the headers that are written first have room
/// for them.
pub(crate) struct Headers {
    /// Without the receipt.
    metadata: Metadata,
    /// The tensors of each file.
    parts: Vec<Vec<TensorInfo>>,
    receipt: Option<(Receipt, Option<Box<Sign>>)>,
    /// Of the current tensor.
    hash: sha2::Sha256,
    /// Of all headers and tensors: what tells these files from those of any other content.
    all: sha2::Sha256,
    /// Tensors that are hashed.
    done: usize,
}

impl Headers {
    pub fn new(
        metadata: Metadata,
        parts: Vec<Vec<TensorInfo>>,
        receipt: Option<(Receipt, Option<Box<Sign>>)>,
    ) -> Result<Headers> {
        let mut headers =
            Headers { metadata, parts, receipt: None, hash: sha2::Sha256::new(), all: sha2::Sha256::new(), done: 0 };
        if headers.parts.len() > 1 {
            for no in 0..headers.parts.len() {
                let header = headers.header(no)?.0;
                headers.all.update(header);
            }
        }
        headers.receipt = receipt.map(|(mut receipt, sign)| {
            let sealed = |info: &TensorInfo| SealedTensor { info: info.clone(), sha256: Sha256::default() };
            receipt.tensors = headers.parts.iter().flatten().map(sealed).collect();
            (receipt, sign)
        });
        Ok(headers)
    }

    /// The header of a file, and its alignment.
    pub fn header(&self, no: usize) -> Result<(Vec<u8>, usize)> {
        let metadata = match (no, &self.receipt) {
            (0, Some((receipt, sign))) => receipt.seal(&self.metadata, sign.as_deref()),
            (0, None) => self.metadata.clone(),
            _ => Metadata::new(),
        };
        let id = Sha256(self.all.clone().finalize().into()).to_string();
        let all = self.parts.iter().map(Vec::len).sum();
        shard_header(metadata, &self.parts[no], (no, self.parts.len(), all, &id))
    }

    /// Whether bytes of tensors are hashed.
    fn hashes(&self) -> bool {
        self.parts.len() > 1 || self.receipt.is_some()
    }

    fn update(&mut self, bytes: &[u8]) {
        if self.hashes() {
            self.hash.update(bytes);
        }
    }

    fn end_tensor(&mut self) {
        let sha256 = Sha256(self.hash.finalize_reset().into());
        self.all.update(sha256.0);
        if let Some(tensor) = self.receipt.as_mut().and_then(|(receipt, _)| receipt.tensors.get_mut(self.done)) {
            tensor.sha256 = sha256;
        }
        self.done += 1;
    }
}

impl ShardedWriter {
    pub(crate) fn new(writers: Vec<(Writer, usize)>, headers: Option<Headers>) -> ShardedWriter {
        ShardedWriter { writers, current: 0, written: 0, headers }
    }

    /// The next tensor's file; `None` if nothing is written.
    fn writer(&mut self) -> Result<Option<&mut Writer>> {
        if self.writers.is_empty() && self.headers.is_some() {
            return Ok(None);
        }
        if self.writers.get(self.current).is_some_and(|(_, count)| self.written == *count) {
            (self.current, self.written) = (self.current + 1, 0);
        }
        let none = || Error::malformed("the files", "the tensors of their headers", "more");
        self.writers.get_mut(self.current).map(|(writer, _)| Some(writer)).ok_or_else(none)
    }

    /// The receipt, with the hashes of the tensors that are written.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.headers.as_ref()?.receipt.as_ref().map(|(receipt, _)| receipt)
    }

    /// The receipt, for hashes of sources that are known late. Nothing of it may become longer or shorter.
    pub fn receipt_mut(&mut self) -> Option<&mut Receipt> {
        self.headers.as_mut()?.receipt.as_mut().map(|(receipt, _)| receipt)
    }

    /// As [`Writer::hole`].
    ///
    /// # Errors
    /// As [`Writer::hole`].
    ///
    /// # Panics
    /// When the tensors are hashed: there is a receipt, or there are several GGUF files.
    pub fn hole(&mut self) -> Result<()> {
        assert!(!self.headers.as_ref().is_some_and(Headers::hashes), "hashes need the bytes of all tensors");
        self.writer()?.map_or(Ok(()), Writer::hole)?;
        self.written += 1;
        Ok(())
    }

    /// As [`Writer::tensor`].
    ///
    /// # Errors
    /// As [`Writer::tensor`].
    pub fn tensor(&mut self, bytes: &[u8]) -> Result<()> {
        self.part(bytes)?;
        self.end_tensor()
    }

    /// As [`Writer::part`].
    ///
    /// # Errors
    /// As [`Writer::part`].
    pub fn part(&mut self, bytes: &[u8]) -> Result<()> {
        self.headers.iter_mut().for_each(|headers| headers.update(bytes));
        self.writer()?.map_or(Ok(()), |writer| writer.part(bytes))
    }

    /// As [`Writer::end_tensor`].
    ///
    /// # Errors
    /// As [`Writer::end_tensor`].
    pub fn end_tensor(&mut self) -> Result<()> {
        self.writer()?.map_or(Ok(()), Writer::end_tensor)?;
        self.headers.iter_mut().for_each(Headers::end_tensor);
        self.written += 1;
        Ok(())
    }

    /// Flushes all files to disk, and then moves them to their paths, which are returned. The first, without which none can be opened, comes last;
    /// an old first one is removed before, so that a program that is killed meanwhile leaves no mixture.
    ///
    /// # Errors
    /// As [`Writer::finish`]. No new file is then left.
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        self.place(true)
    }

    /// As [`ShardedWriter::finish`], but replaces no file, not even one that appeared after this writer was created.
    ///
    /// # Errors
    /// As [`ShardedWriter::finish`], and [`std::io::ErrorKind::AlreadyExists`] in [`Error::Write`] when there is a file.
    pub fn finish_new(self) -> Result<Vec<PathBuf>> {
        self.place(false)
    }

    fn place(mut self, replace: bool) -> Result<Vec<PathBuf>> {
        for (no, (writer, _)) in self.writers.iter_mut().enumerate() {
            if let Some(headers) = self.headers.as_ref().filter(|headers| headers.hashes()) {
                writer.replace_header(&headers.header(no)?.0)?;
            }
        }
        let writers: Vec<Writer> = self.writers.into_iter().map(|(writer, _)| writer).collect();
        let paths = writers.iter().map(|writer| writer.path().to_owned()).collect();
        Writer::finish_all(writers, replace)?;
        Ok(paths)
    }
}
