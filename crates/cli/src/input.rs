//! Text from standard input and files.

use anyhow::{Context, Result, anyhow};
use std::io::Read;
use std::path::Path;

/// The content of a file; of standard input for `-`.
pub fn bytes(path: &Path) -> Result<Vec<u8>> {
    if path != Path::new("-") {
        return std::fs::read(path).with_context(|| path.display().to_string());
    }
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// All of it, less the end of its last line, which `echo` and editors put there.
pub fn text() -> Result<String> {
    let mut text = String::from_utf8(bytes(Path::new("-"))?).map_err(|error| {
        anyhow!(
            "standard input: expected UTF-8, found an invalid byte at position {}",
            error.utf8_error().valid_up_to()
        )
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}
