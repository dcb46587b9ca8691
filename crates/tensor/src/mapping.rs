//! A memory-mapped file.

use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::Mmap;

/// The smallest page of any system.
const PAGE: usize = 4096;

/// A file and its read-only mapping. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Mapping(Arc<Mapped>);

#[derive(Debug)]
struct Mapped {
    bytes: Mmap,
    file: File,
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Mapping {
    /// Maps all of a file.
    pub(crate) fn new(file: File) -> io::Result<Mapping> {
        // SAFETY: the mapping is read-only and read as plain bytes, of which every value is valid. The documentation of
        // `File::open` requires that nothing changes or truncates the file meanwhile.
        let bytes = unsafe { Mmap::map(&file) }?;
        Ok(Mapping(Arc::new(Mapped { bytes, file })))
    }

    /// Whether both are the same mapping.
    pub(crate) fn is(&self, other: &Mapping) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The offset of `bytes` in the file, if they are in the mapping.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
        let start = (bytes.as_ptr() as usize).checked_sub(self.0.bytes.as_ptr() as usize)?;
        (start + bytes.len() <= self.0.bytes.len()).then_some(start)
    }

    /// Reads from the file, not from the mapping.
    pub(crate) fn read(&self, offset: usize, out: &mut [u8]) -> io::Result<()> {
        #[cfg(unix)]
        return std::os::unix::fs::FileExt::read_exact_at(&self.0.file, out, offset as u64);
        #[cfg(not(unix))]
        {
            // Keeps the file open, as elsewhere.
            let _ = &self.0.file;
            out.copy_from_slice(&self.0.bytes[offset..offset + out.len()]);
            Ok(())
        }
    }

    /// Takes all pages from this process. They are read again when they are touched.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        // SAFETY: the mapping is read-only and of a file, so that pages that come back have the content that they had.
        let _ = unsafe { self.0.bytes.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
    }

    /// Brings a range into memory.
    pub(crate) fn prefault(&self, offset: usize, len: usize) {
        #[cfg(target_os = "linux")]
        match self.0.bytes.advise_range(memmap2::Advice::PopulateRead, offset, len) {
            // Older kernels do not know the advice: touch every page.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
            _ => return,
        }
        let touched = self.0.bytes[offset..offset + len].iter().step_by(PAGE);
        std::hint::black_box(touched.fold(0, |sum: u8, &byte| sum.wrapping_add(byte)));
    }
}
