//! Writing a model file atomically.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sha2::Digest;

use crate::gguf::{Layout, layout};
use crate::receipt::{Receipt, Sha256, Sign};
use crate::{Error, Metadata, Replacement, Result, TensorInfo};

/// Writes the tensors of a new model file one after another, in the order of its header, so that only one of them need be in
/// memory. [`Writer::finish`] puts the file in place. If the writer is dropped before, or the program is killed, an old file
/// stays as it was.
pub struct Writer {
    path: PathBuf,
    /// None if only the receipt is wanted.
    file: Option<Replacement>,
    tensors: Vec<TensorInfo>,
    written: usize,
    /// Bytes of the next tensor that are written.
    found: u64,
    alignment: usize,
    seal: Option<Sealing>,
    /// Of the next tensor, if there is a receipt.
    hash: sha2::Sha256,
}

/// A receipt, and the metadata without it. Hashes have a fixed length, so that the header that is written first has room for them.
pub(crate) struct Sealing {
    pub metadata: Metadata,
    pub receipt: Receipt,
    pub sign: Option<Box<Sign>>,
}

impl Sealing {
    pub fn layout(&self, tensors: &[TensorInfo]) -> Result<Layout> {
        layout(&self.receipt.seal(&self.metadata, self.sign.as_deref()), tensors)
    }
}

impl Writer {
    /// Creates a file with a complete header. Each tensor is padded to `alignment`.
    pub(crate) fn create(
        path: Option<&Path>,
        header: &[u8],
        tensors: Vec<TensorInfo>,
        alignment: usize,
        seal: Option<Sealing>,
    ) -> Result<Writer> {
        let begin = |path: &Path| {
            let mut file = Replacement::new(path)?;
            file.write_all(header)?;
            Ok(file)
        };
        let begin = |path: &Path| begin(path).map_err(|e: std::io::Error| Error::Write(e).at(path));
        let file = path.map(begin).transpose()?;
        let path = path.map(Path::to_path_buf).unwrap_or_default();
        Ok(Writer { path, file, tensors, written: 0, found: 0, alignment, seal, hash: sha2::Sha256::new() })
    }

    /// The receipt of the file, with the hashes of the tensors that are written.
    pub fn receipt(&self) -> Option<&Receipt> {
        self.seal.as_ref().map(|seal| &seal.receipt)
    }

    /// The receipt of the file, for hashes of sources that are known late. Nothing of it may become longer or shorter.
    pub fn receipt_mut(&mut self) -> Option<&mut Receipt> {
        self.seal.as_mut().map(|seal| &mut seal.receipt)
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
        if self.seal.is_some() {
            self.hash.update(bytes);
        }
        self.write(bytes).inspect_err(|_| self.written = usize::MAX)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|e| Error::Write(e).at(&self.path))
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
        self.write(&vec![0; padding])?;
        if let Some(seal) = &mut self.seal {
            seal.receipt.tensors[next - 1].sha256 = Sha256(self.hash.finalize_reset().into());
        }
        self.written = next;
        Ok(())
    }

    /// Leaves out the bytes of the next tensor. They are zeros, for which file systems need no room.
    ///
    /// # Panics
    /// When there is a receipt, or nothing is written.
    pub fn hole(&mut self) -> Result<()> {
        assert!(self.seal.is_none(), "a receipt needs the bytes of all tensors");
        let Some(info) = self.tensors.get(self.written) else {
            return Err(unfinished(self.tensors.len(), self.tensors.len() + 1).at(&self.path));
        };
        let size = info.size()?.next_multiple_of(self.alignment as u64);
        if let Some(last) = size.checked_sub(1) {
            let last = i64::try_from(last).map_err(|_| info.overflow())?;
            let file = self.file.as_mut().expect("only receipts are without a file");
            let skipped = file.seek(SeekFrom::Current(last)).and_then(|_| file.write_all(&[0]));
            skipped.map_err(|e| Error::Write(e).at(&self.path))?;
        }
        self.written += 1;
        Ok(())
    }

    /// Flushes the file to disk and moves it to its path. Refuses when tensors are missing.
    ///
    /// # Panics
    /// When the receipt has become longer or shorter.
    pub fn finish(self) -> Result<()> {
        let Writer { path, file, tensors, written, found, seal, .. } = self;
        if written != tensors.len() || found > 0 {
            return Err(unfinished(tensors.len(), written).at(&path));
        }
        let Some(mut file) = file else { return Ok(()) };
        let header = seal.map(|seal| seal.layout(&tensors)).transpose()?;
        let data: u64 = header.iter().flat_map(|layout| &layout.tensors).map(|(_, _, padded)| padded).sum();
        let finish = || {
            if let Some(Layout { header, .. }) = header {
                let end = file.stream_position()?;
                assert_eq!(header.len() as u64 + data, end, "the receipt keeps its length");
                file.seek(SeekFrom::Start(0))?;
                file.write_all(&header)?;
            }
            file.finish()
        };
        finish().map_err(|e| Error::Write(e).at(&path))
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
