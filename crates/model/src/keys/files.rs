//! The keys of small files: which are read, which change nothing, and which nothing here follows.

use super::ignored::IgnoredKeys;
use serde_json::Value;

/// A key, and whether a value of it changes nothing.
pub type NeutralKey = (&'static str, fn(&Value) -> bool);

/// The keys of a file.
#[derive(Debug)]
pub struct FileKeys {
    /// The name of the file, or the prefix of GGUF keys.
    pub file: &'static str,
    pub read: &'static [&'static str],
    pub ignored: &'static [IgnoredKeys],
    /// Keys that would change what is computed; missing ones and null do not.
    pub neutral: &'static [NeutralKey],
}
