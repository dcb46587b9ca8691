//! Writing a model as several files, with a receipt in the first.

use std::path::PathBuf;

use sha2::Digest;

use crate::gguf::{layout, shard_header};
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
    seal: Option<Sealing>,
}

/// A receipt whose hashes are found while tensors are written. They have a fixed length, so that the header that is written first has room
/// for them.
pub(crate) struct Sealing {
    /// Without the receipt.
    pub metadata: Metadata,
    /// All tensors.
    tensors: Vec<TensorInfo>,
    receipt: Receipt,
    sign: Option<Box<Sign>>,
    /// How many files there are, what tells them from those of other models, and the tensors of the first.
    split: Option<(usize, String, Vec<TensorInfo>)>,
    /// Of the current tensor.
    hash: sha2::Sha256,
    /// Tensors that are hashed.
    done: usize,
}

impl Sealing {
    pub fn new(
        metadata: Metadata,
        tensors: Vec<TensorInfo>,
        mut receipt: Receipt,
        sign: Option<Box<Sign>>,
        split: Option<(usize, String, Vec<TensorInfo>)>,
    ) -> Sealing {
        let sealed = |info: &TensorInfo| SealedTensor { info: info.clone(), sha256: Sha256::default() };
        receipt.tensors = tensors.iter().map(sealed).collect();
        Sealing { metadata, tensors, receipt, sign, split, hash: sha2::Sha256::new(), done: 0 }
    }

    /// The header of the first file.
    pub fn header(&self) -> Result<Vec<u8>> {
        let sealed = self.receipt.seal(&self.metadata, self.sign.as_deref());
        match &self.split {
            None => Ok(layout(&sealed, &self.tensors)?.header),
            Some((count, id, first)) => Ok(shard_header(sealed, first, (0, *count, self.tensors.len(), id))?.0),
        }
    }

    fn end_tensor(&mut self) {
        let sha256 = Sha256(self.hash.finalize_reset().into());
        if let Some(tensor) = self.receipt.tensors.get_mut(self.done) {
            tensor.sha256 = sha256;
        }
        self.done += 1;
    }
}

impl ShardedWriter {
    pub(crate) fn new(writers: Vec<(Writer, usize)>, seal: Option<Sealing>) -> ShardedWriter {
        ShardedWriter { writers, current: 0, written: 0, seal }
    }

    /// The next tensor's file; `None` if nothing is written.
    fn writer(&mut self) -> Result<Option<&mut Writer>> {
        if self.writers.is_empty() && self.seal.is_some() {
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
        self.seal.as_ref().map(|seal| &seal.receipt)
    }

    /// The receipt, for hashes of sources that are known late. Nothing of it may become longer or shorter.
    pub fn receipt_mut(&mut self) -> Option<&mut Receipt> {
        self.seal.as_mut().map(|seal| &mut seal.receipt)
    }

    /// As [`Writer::hole`].
    ///
    /// # Errors
    /// As [`Writer::hole`].
    ///
    /// # Panics
    /// When there is a receipt.
    pub fn hole(&mut self) -> Result<()> {
        assert!(self.seal.is_none(), "a receipt needs the bytes of all tensors");
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
        if let Some(seal) = &mut self.seal {
            seal.hash.update(bytes);
        }
        self.writer()?.map_or(Ok(()), |writer| writer.part(bytes))
    }

    /// As [`Writer::end_tensor`].
    ///
    /// # Errors
    /// As [`Writer::end_tensor`].
    pub fn end_tensor(&mut self) -> Result<()> {
        self.writer()?.map_or(Ok(()), Writer::end_tensor)?;
        self.seal.iter_mut().for_each(Sealing::end_tensor);
        self.written += 1;
        Ok(())
    }

    /// Flushes all files to disk, and then moves them to their paths, which are returned. The first, without which none can be opened, comes last.
    ///
    /// # Errors
    /// As [`Writer::finish`]. No new file is then left.
    pub fn finish(mut self) -> Result<Vec<PathBuf>> {
        if let (Some(seal), Some((first, _))) = (&self.seal, self.writers.first_mut()) {
            first.replace_header(&seal.header()?)?;
        }
        let writers: Vec<Writer> = self.writers.into_iter().map(|(writer, _)| writer).collect();
        let paths = writers.iter().map(|writer| writer.path().to_owned()).collect();
        Writer::finish_all(writers)?;
        Ok(paths)
    }
}
