//! The keys of small files: which are read, which change nothing, and which nothing here follows.

use super::ignored::IgnoredKeys;
use serde_json::Value;

/// The keys of a file.
#[derive(Debug)]
pub struct FileKeys {
    /// The name of the file, or the prefix of GGUF keys.
    pub file: &'static str,
    pub read: &'static [&'static str],
    pub ignored: &'static [IgnoredKeys],
    /// Keys that would change what is computed, with the values that change nothing, which missing and null do not either.
    pub neutral: &'static [(&'static str, fn(&Value) -> bool)],
}
