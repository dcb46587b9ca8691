//! Changing what a receipt states.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use super::{Receipt, Sign, check_layout};
use crate::gguf;
use crate::{Error, File, Replacement, Result, TensorInfo};

/// Changes the receipt of a GGUF file in one piece, and seals and signs it again. The tensors are copied; the file is replaced once the new
/// one is complete.
///
/// # Errors
/// When the file has no receipt, or is not as that says, or cannot be read or written.
pub fn update_receipt(path: &Path, sign: Option<&Sign>, change: impl FnOnce(&mut Receipt)) -> Result<()> {
    let file = File::open(path)?;
    let none = || Error::malformed("the file", "a receipt", "none").at(path);
    let mut receipt = Receipt::of(file.metadata()).map_err(|error| error.at(path))?.ok_or_else(none)?;
    let [path] = file.files() else {
        let expected = "a model in one file, whose receipt can be changed";
        return Err(Error::malformed("the model", expected, format_args!("{} shards", file.files().len())).at(path));
    };
    if let Some(flaw) = check_layout(&file)?.into_iter().next() {
        return Err(Error::malformed(flaw.place, "what the receipt says of it", flaw.problem).at(path));
    }
    change(&mut receipt);
    let infos: Vec<TensorInfo> = file.tensors().map(crate::View::info).collect();
    let metadata = gguf::describe(file.metadata(), &infos)?;
    let old = gguf::layout(file.metadata(), &infos)?.header.len() as u64;
    let header = gguf::layout(&receipt.seal(&metadata, sign), &infos)?.header;
    let write = || -> io::Result<()> {
        let mut input = std::fs::File::open(path)?;
        input.seek(SeekFrom::Start(old))?;
        let mut output = Replacement::new(path)?;
        output.write_all(&header)?;
        io::copy(&mut input, &mut output)?;
        output.finish()
    };
    write().map_err(|error| Error::Write(error).at(path))
}
