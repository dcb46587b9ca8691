//! Whether a file is what its receipt says, but for the bytes of its tensors.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Receipt, Seal};
use crate::error::in_tensor;
use crate::gguf;
use crate::{Error, File, FileFormat, Result, TensorInfo};

/// What is not as a receipt says, and where.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Flaw {
    pub place: String,
    pub problem: String,
}

/// Checks all of a file with a receipt but the bytes of its tensors: keys, table of tensors, header and padding. What is wrong comes back.
///
/// # Errors
/// When the file has no receipt that can be read, or cannot be read.
pub fn check_layout(file: &File) -> Result<Vec<Flaw>> {
    let metadata = file.metadata();
    let receipt = Receipt::of(metadata).map_err(|error| error.at(file.path()))?;
    let Some(receipt) = receipt else {
        return Err(Error::malformed("the file", "a receipt", "none").at(file.path()));
    };
    let infos: Vec<TensorInfo> = file.tensors().map(crate::View::info).collect();
    let described = gguf::describe(metadata, &infos)?;
    let seal = Seal::of(metadata).map_err(|error| error.at(file.path()))?;
    let mut flaws = seal.check(&described);
    let mut flaw = |place: String, problem: &str| flaws.push(Flaw { place, problem: problem.to_owned() });
    for info in &infos {
        match receipt.tensors.iter().find(|tensor| tensor.info.name == info.name) {
            None => flaw(in_tensor(&info.name), "is not in the receipt"),
            Some(tensor) if tensor.info != *info => {
                let of = |info: &TensorInfo| format!("{} {:?}", info.format, info.shape);
                flaw(in_tensor(&info.name), &format!("is {}, in the receipt {}", of(info), of(&tensor.info)));
            }
            _ => {}
        }
    }
    let lost = receipt.tensors.iter().filter(|tensor| !file.contains(&tensor.info.name));
    lost.for_each(|tensor| flaw(in_tensor(&tensor.info.name), "is in the receipt, and not in the file"));
    if let ([path], FileFormat::Gguf { .. }, true) = (file.files(), file.format(), flaws.is_empty()) {
        flaws.extend(stray(path, &gguf::layout(metadata, &infos)?).map_err(|error| Error::Io(error).at(path))?);
    }
    Ok(flaws)
}

/// The first byte that is neither of a tensor nor what it would be if the file were written again.
fn stray(path: &Path, layout: &gguf::Layout) -> io::Result<Option<Flaw>> {
    let flaw = |place: &str, problem: &str| Ok(Some(Flaw { place: place.to_owned(), problem: problem.to_owned() }));
    let mut file = std::fs::File::open(path)?;
    let mut header = vec![0; layout.header.len()];
    if file.read_exact(&mut header).is_err() {
        return flaw("the header", "is cut short");
    }
    if let Some(at) = (0..header.len()).find(|&at| header[at] != layout.header[at]) {
        let place = layout.places.iter().find(|(end, _)| at < *end).map(|(_, place)| place.as_str());
        let problem = format!("byte {at} of the file is {}, expected {}", header[at], layout.header[at]);
        return flaw(place.unwrap_or("the padding of the header"), &problem);
    }
    let mut end = header.len() as u64;
    for (name, size, padded) in &layout.tensors {
        let (from, len) = (end + size, padded - size);
        end += padded;
        file.seek(SeekFrom::Start(from))?;
        let mut padding = vec![0; len as usize];
        if file.read_exact(&mut padding).is_err() || padding.iter().any(|byte| *byte != 0) {
            return flaw(&format!("the padding after {}", in_tensor(name)), "is not zero");
        }
    }
    if file.seek(SeekFrom::End(0))? == end { Ok(None) } else { flaw("the end of the file", "has bytes of no tensor") }
}
