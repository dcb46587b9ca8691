//! Files of older versions of llama.cpp. Numbers are little-endian, of 32 bits: the number of entries; for each the length of its name, the
//! name, its calls, the number of columns of all parts, and for each mean square times calls; then chunks, and the name of the text.

use super::{Entry, Error, Imatrix, malformed};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use trine_tensor::{Error as FileError, Replacement, read_small};

/// Larger than that of any model, in bytes.
const MOST: u64 = 4 << 30;

/// Reads numbers and names one after another; errors name the entry.
struct Cursor<'a> {
    path: &'a Path,
    rest: &'a [u8],
    entry: String,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(malformed(self.path, &self.entry, &format!("{len} more bytes"), self.rest.len())),
        }
    }

    fn number(&mut self) -> Result<usize, Error> {
        let number = i32::from_le_bytes(self.take(4)?.try_into().expect("4 bytes"));
        usize::try_from(number).map_err(|_| malformed(self.path, &self.entry, "a number of at least 0", number))
    }

    fn name(&mut self) -> Result<String, Error> {
        let len = self.number()?;
        let bytes = self.take(len)?;
        String::from_utf8(bytes.to_vec())
            .map_err(|_| malformed(self.path, &self.entry, "a name in UTF-8", bytes.escape_ascii()))
    }
}

pub(super) fn read(path: &Path) -> Result<Imatrix, Error> {
    let bytes = read_small(path, MOST)?;
    let mut cursor = Cursor { path, rest: &bytes, entry: "0".to_owned() };
    let count = cursor.number()?;
    let mut entries = BTreeMap::new();
    for i in 0..count {
        cursor.entry = i.to_string();
        let name = cursor.name()?;
        let (calls, values) = (cursor.number()?, cursor.number()?);
        let bytes = cursor.take(values.saturating_mul(4))?;
        if calls == 0 || values == 0 {
            let found = format!("{calls} calls, {values} columns");
            return Err(malformed(path, &name, "at least one call and one column", found));
        }
        let sums = bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        entries.insert(name, Entry { sums, counts: vec![calls as f32] });
    }
    if entries.is_empty() {
        return Err(malformed(path, "0", "an importance matrix of llama.cpp", "no entries"));
    }
    let (mut chunks, mut datasets) = (0, Vec::new());
    if !cursor.rest.is_empty() {
        cursor.entry = "the chunks".to_owned();
        chunks = cursor.number()?;
        if !cursor.rest.is_empty() {
            datasets.push(cursor.name()?);
        }
    }
    if !cursor.rest.is_empty() {
        return Err(malformed(path, &cursor.entry, "the end of the file", format!("{} bytes", cursor.rest.len())));
    }
    Ok(Imatrix { entries, chunks, chunk_size: 0, datasets })
}

pub(super) fn write(imatrix: &Imatrix, path: &Path) -> Result<(), Error> {
    let chunk = imatrix.chunk_size.max(1) as f32;
    let (mut body, mut count) = (Vec::new(), 0i32);
    let number = |out: &mut Vec<u8>, n: usize| out.extend((n as i32).to_le_bytes());
    for (name, entry) in &imatrix.entries {
        let most = entry.counts.iter().fold(0f32, |most, &count| most.max(count));
        if most == 0.0 {
            continue;
        }
        count += 1;
        let calls = (most / chunk).ceil();
        number(&mut body, name.len());
        body.extend(name.as_bytes());
        number(&mut body, calls as usize);
        number(&mut body, entry.sums.len());
        entry.importance().iter().for_each(|mean| body.extend((mean * calls).to_le_bytes()));
    }
    let dataset = imatrix.datasets.last().map(String::as_str).unwrap_or_default();
    number(&mut body, imatrix.chunks);
    number(&mut body, dataset.len());
    body.extend(dataset.as_bytes());
    let write = || {
        let mut file = Replacement::new(path)?;
        file.write_all(&count.to_le_bytes())?;
        file.write_all(&body)?;
        file.finish()
    };
    write().map_err(|error| Error::File(FileError::Write(error).at(path)))
}
