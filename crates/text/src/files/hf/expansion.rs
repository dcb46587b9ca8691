//! A limit for the expansion of text by the normalizer of a `tokenizer.json`. Six steps that replace a letter by ten make a million.

use serde::Deserialize;
use serde_json::Value;

/// Maximum number of bytes that one byte of text may become.
const LIMIT: usize = 64;

#[derive(Deserialize)]
struct Normalized {
    #[serde(default)]
    normalizer: Value,
}

/// Refuses a `tokenizer.json` whose normalizer may expand a text beyond the limit.
pub(crate) fn check(tokenizer_json: &[u8]) -> Result<(), String> {
    let parts: Normalized = serde_json::from_slice(tokenizer_json).map_err(|error| error.to_string())?;
    match expansion(&parts.normalizer) {
        0..=LIMIT => Ok(()),
        found => Err(format!(
            "normalizer: expected steps that expand a text at most {LIMIT} times, found an expansion of {found} times"
        )),
    }
}

/// Maximum number of bytes that the replacements make of one.
fn expansion(normalizer: &Value) -> usize {
    let steps = normalizer["normalizers"].as_array().into_iter().flatten();
    let content = normalizer["content"].as_str().map_or(0, str::len);
    let here = match (normalizer["type"].as_str(), normalizer["pattern"]["String"].as_str()) {
        (Some("Replace"), Some(pattern)) => content.div_ceil(pattern.len().max(1)).max(1),
        // A regular expression may match the empty string before every byte.
        (Some("Replace"), None) => content + 1,
        _ => 1,
    };
    steps.map(expansion).fold(here, usize::saturating_mul)
}
