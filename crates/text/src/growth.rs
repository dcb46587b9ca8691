//! How much longer the normaliser of a `tokenizer.json` may make a text: one that replaces a letter by ten, six times over, makes a million.

use serde::Deserialize;
use serde_json::Value;

/// Bytes that one byte of text may become.
const LIMIT: usize = 64;

/// The part of a `tokenizer.json` that changes texts.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
}

/// Refuses a `tokenizer.json` that can blow up a text, and says which step does.
pub(crate) fn check(tokenizer_json: &[u8]) -> Result<(), String> {
    let parts: Parts = serde_json::from_slice(tokenizer_json).map_err(|error| error.to_string())?;
    match growth(&parts.normalizer) {
        0..=LIMIT => Ok(()),
        found => Err(format!(
            "normalizer: expected steps that make a text at most {LIMIT} times as long, found some that make it {found} times as long"
        )),
    }
}

/// How many bytes the replacements make of one, at most.
fn growth(normalizer: &Value) -> usize {
    let steps = normalizer["normalizers"].as_array().into_iter().flatten();
    let content = normalizer["content"].as_str().map_or(0, str::len);
    let here = match (normalizer["type"].as_str(), normalizer["pattern"]["String"].as_str()) {
        (Some("Replace"), Some(pattern)) => content.div_ceil(pattern.len().max(1)).max(1),
        // It may match nothing, before every byte.
        (Some("Replace"), None) => content + 1,
        _ => 1,
    };
    steps.map(growth).fold(here, usize::saturating_mul)
}
