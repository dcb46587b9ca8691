//! Text from standard input.

use anyhow::{Result, anyhow};
use std::io::Read;

/// All of it, less the end of its last line, which `echo` and editors put there.
pub fn text() -> Result<String> {
    let mut bytes = Vec::new();
    std::io::stdin().lock().read_to_end(&mut bytes)?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
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
