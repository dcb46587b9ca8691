//! A file that is not complete yet.
//!
//! Its bytes stand where they will be, and after them, so that one file says all, how much of each segment is there. Only a complete
//! file loses this end, so a part that is just as long as the file is complete.

use crate::error::{Result, at};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that one connection downloads in order.
const SEGMENT: u64 = 32 << 20;
/// What the end begins with; its number changes with its layout.
const MAGIC: &[u8; 8] = b"trine-p1";

#[derive(Debug)]
pub struct Part {
    pub path: PathBuf,
    pub len: u64,
    file: Mutex<File>,
    /// Bytes at the start of each segment that are there.
    done: Vec<Mutex<u64>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Part {
    /// Opens what an earlier run left, or begins.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn open(path: &Path, len: u64) -> Result<Part> {
        let count = len.div_ceil(SEGMENT);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(path).map_err(at(path))?;
        let mut done = read_done(&mut file, len).map_err(at(path))?;
        if done.len() as u64 != count {
            let zeros = vec![0; 8 * count as usize];
            let mut begin = || {
                file.set_len(0)?;
                file.set_len(len)?;
                file.seek(SeekFrom::Start(len))?;
                file.write_all(&[MAGIC, &zeros[..]].concat())
            };
            begin().map_err(at(path))?;
            done = vec![0; count as usize];
        }
        Ok(Part {
            path: path.to_owned(),
            len,
            file: Mutex::new(file),
            done: done.into_iter().map(Mutex::new).collect(),
        })
    }

    /// Bytes of a file of this length that an earlier run left.
    pub fn left(path: &Path, len: u64) -> u64 {
        let done = File::open(path).and_then(|mut file| read_done(&mut file, len));
        done.map_or(0, |done| done.iter().sum())
    }

    pub fn segments(&self) -> usize {
        self.done.len()
    }

    /// The first byte of a segment that is missing, and the one after its last.
    pub fn missing(&self, segment: usize) -> (u64, u64) {
        let start = segment as u64 * SEGMENT;
        (start + *locked(&self.done[segment]), start + segment_len(self.len, segment as u64))
    }

    /// Bytes that are there.
    pub fn done(&self) -> u64 {
        self.done.iter().map(|done| *locked(done)).sum()
    }

    #[cfg(test)]
    fn is_complete(&self) -> bool {
        self.done() == self.len
    }

    /// Writes bytes at this position, which may be there already. Returns how many were missing.
    ///
    /// # Errors
    /// When the disk is full, for example.
    pub fn write(&self, mut position: u64, mut bytes: &[u8]) -> Result<u64> {
        let mut new = 0;
        while !bytes.is_empty() {
            let segment = position / SEGMENT;
            let offset = position % SEGMENT;
            let n = (bytes.len() as u64).min(segment_len(self.len, segment).saturating_sub(offset));
            let (now, rest) = bytes.split_at(n as usize);
            let mut done = locked(&self.done[segment as usize]);
            let after = (*done).max(offset + n);
            // What follows a gap would count as there when it is filled.
            if n == 0 || offset > *done {
                return Ok(new);
            }
            let mut file = locked(&self.file);
            let mut write = |at: u64, bytes: &[u8]| {
                file.seek(SeekFrom::Start(at))?;
                file.write_all(bytes)
            };
            write(position, now).map_err(at(&self.path))?;
            write(self.len + MAGIC.len() as u64 + 8 * segment, &after.to_le_bytes()).map_err(at(&self.path))?;
            new += after - *done;
            *done = after;
            (position, bytes) = (position + n, rest);
        }
        Ok(new)
    }

    /// Makes a complete part the file that it becomes, whose bytes are on disk before it has its name.
    ///
    /// # Errors
    /// When the disk reports one.
    pub fn finish(self, target: &Path) -> Result<()> {
        let file = self.file.into_inner().unwrap_or_else(PoisonError::into_inner);
        let finish = || {
            file.sync_data()?;
            file.set_len(self.len)?;
            file.sync_data()?;
            std::fs::rename(&self.path, target)
        };
        finish().map_err(at(target))
    }
}

fn segment_len(len: u64, segment: u64) -> u64 {
    len.saturating_sub(segment * SEGMENT).min(SEGMENT)
}

/// How much of each segment is there; nothing if that is not what was written.
fn read_done(file: &mut File, len: u64) -> io::Result<Vec<u64>> {
    let count = len.div_ceil(SEGMENT);
    let found = file.metadata()?.len();
    if found == len {
        return Ok((0..count).map(|i| segment_len(len, i)).collect());
    }
    if found != len + MAGIC.len() as u64 + 8 * count {
        return Ok(Vec::new());
    }
    let mut end = Vec::new();
    file.seek(SeekFrom::Start(len))?;
    file.read_to_end(&mut end)?;
    let Some(numbers) = end.strip_prefix(MAGIC) else { return Ok(Vec::new()) };
    let numbers = numbers.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap_or_default()));
    let done: Vec<u64> = numbers.collect();
    let fits = done.iter().zip(0..).all(|(done, i)| *done <= segment_len(len, i));
    Ok(if fits { done } else { Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_goes_on_where_it_was_left_and_a_damaged_one_starts_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("part");
        let len = 2 * SEGMENT + 5;
        let part = Part::open(&path, len).unwrap();
        assert_eq!((part.segments(), part.missing(2)), (3, (2 * SEGMENT, len)));
        assert_eq!(part.write(SEGMENT, b"abc").unwrap(), 3);
        assert_eq!(part.write(SEGMENT + 1, b"bcd").unwrap(), 1);
        // Across the border of two segments, and after a gap.
        assert_eq!(part.write(2 * SEGMENT - 1, b"xyz").unwrap(), 0);
        assert_eq!(part.write(2 * SEGMENT, b"vwxyz++").unwrap(), 5);
        drop(part);
        let part = Part::open(&path, len).unwrap();
        assert_eq!((part.missing(0).0, part.missing(1).0, part.missing(2)), (0, SEGMENT + 4, (len, len)));
        assert_eq!(part.done(), 9);
        drop(part);
        // Another length is another file.
        assert_eq!(Part::open(&path, len + 1).unwrap().done(), 0);
        std::fs::write(&path, b"junk").unwrap();
        assert_eq!(Part::open(&path, len).unwrap().done(), 0);
    }

    #[test]
    fn a_complete_part_is_renamed_and_has_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("part"), folder.path().join("file"));
        let part = Part::open(&path, 3).unwrap();
        part.write(0, b"abc").unwrap();
        part.finish(&target).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"abc");
        // As if killed before it was renamed.
        std::fs::rename(&target, &path).unwrap();
        assert!(Part::open(&path, 3).unwrap().is_complete());
        let empty = Part::open(&folder.path().join("empty"), 0).unwrap();
        assert!(empty.is_complete() && empty.segments() == 0);
    }
}
