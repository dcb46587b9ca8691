//! Text from standard input and files.

use anyhow::{Context, Result, anyhow};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use trine_train::data::{DocumentFormat, Documents};

/// The documents of a file, or of standard input for `-`.
pub fn documents(path: &Path, format: DocumentFormat) -> Result<Documents> {
    if path == Path::new("-") {
        return Ok(Documents::read(std::io::stdin(), Path::new("standard input"), format));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    Ok(Documents::read(file, path, format))
}

/// Standard input, without its last newline, which `echo` and editors add, and without a byte order mark, which other editors put first.
pub fn text() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes).with_context(|| "standard input".to_owned())?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        anyhow!(
            "standard input: expected UTF-8, found an invalid byte at position {}",
            error.utf8_error().valid_up_to()
        )
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
