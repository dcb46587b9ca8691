//! Files of GGUF: for each matrix the tensors `NAME.in_sum2`, `[parts, cols]`, and `NAME.counts`, `[parts, 1]`.

use super::{Entry, Error, Imatrix, malformed};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use trine_tensor::format::F32;
use trine_tensor::{Error as FileError, File, Metadata, Strings, TensorInfo, View, gguf};

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";

/// Whether a file is GGUF.
pub(super) fn is(path: &Path) -> Result<bool, Error> {
    let mut start = Vec::new();
    let mut read = || {
        let file = std::fs::File::open(path)?;
        file.take(4).read_to_end(&mut start)
    };
    match read() {
        Ok(_) => Ok(start == b"GGUF"),
        Err(error) => Err(Error::File(FileError::Io(error).at(path))),
    }
}

pub(super) fn read(path: &Path) -> Result<Imatrix, Error> {
    let file = File::open(path)?;
    let metadata = file.metadata();
    if let Some(other) = metadata.str("general.type")?.filter(|kind| *kind != "imatrix") {
        return Err(malformed(path, "general.type", "imatrix", other));
    }
    let number = |key: &str| Ok::<_, Error>(metadata.u32(key)?.unwrap_or(0) as usize);
    let datasets = metadata.strs("imatrix.datasets")?.map(|names| names.iter().map(str::to_owned).collect());
    let mut entries = BTreeMap::new();
    for view in file.tensors() {
        let Some(name) = view.name.strip_suffix(SUMS) else {
            let belongs = view.name.strip_suffix(COUNTS).is_some_and(|name| file.contains(&format!("{name}{SUMS}")));
            if !belongs {
                return Err(malformed(path, &view.name, "tensors NAME.in_sum2 and NAME.counts", "another tensor"));
            }
            continue;
        };
        let counts = file.view(&format!("{name}{COUNTS}"))?;
        if view.format != &F32 || counts.format != &F32 {
            return Err(malformed(path, name, "sums and counts in F32", view.format));
        }
        let entry = Entry { sums: view.decode(), counts: counts.decode() };
        if entry.counts.is_empty() || !entry.sums.len().is_multiple_of(entry.counts.len()) {
            let found = format!("{} counts for {} sums", entry.counts.len(), entry.sums.len());
            return Err(malformed(path, name, "a count for each expert, or one", found));
        }
        entries.insert(name.to_owned(), entry);
    }
    if entries.is_empty() {
        return Err(malformed(path, "in_sum2", "an importance matrix", "none"));
    }
    let [chunks, chunk_size] = [number("imatrix.chunk_count")?, number("imatrix.chunk_size")?];
    Ok(Imatrix { entries, chunks, chunk_size, datasets: datasets.unwrap_or_default() })
}

pub(super) fn write(imatrix: &Imatrix, path: &Path) -> Result<(), Error> {
    let mut metadata = Metadata::new();
    metadata.insert("general.type", "imatrix");
    metadata.insert("imatrix.datasets", Strings::from_iter(&imatrix.datasets));
    metadata.insert("imatrix.chunk_count", imatrix.chunks as u32);
    metadata.insert("imatrix.chunk_size", imatrix.chunk_size as u32);
    let mut views = Vec::new();
    for (name, Entry { sums, counts }) in &imatrix.entries {
        let mut push = |end: &str, numbers: &[f32], cols: usize| {
            let shape = vec![numbers.len() / cols, cols];
            let info = TensorInfo { name: format!("{name}{end}"), format: &F32, shape };
            views.push(View::new(info.name.clone(), info.format, info.shape.clone(), F32.encode(numbers))?);
            Ok::<_, Error>(())
        };
        push(SUMS, sums, sums.len() / counts.len())?;
        push(COUNTS, counts, 1)?;
    }
    Ok(gguf::write(path, &metadata, &views)?)
}
