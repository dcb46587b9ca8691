//! What a file says that nothing here does.

use super::files::FileKeys;
use super::ignored::is_ignored;
use crate::{Error, Result};
use serde_json::{Map, Value};

impl FileKeys {
    /// Warnings about keys that are unknown.
    ///
    /// # Errors
    /// When a key has a value that would change what is computed.
    pub fn strict(&self, keys: &Map<String, Value>) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        for (key, value, is_known) in self.not_applied(keys) {
            if is_known {
                let expected = "a value that changes nothing, since Trine does not do what it says";
                return Err(Error::bad(format!("{key}` of `{}", self.file), expected, value));
            }
            warnings.push(self.unknown(key));
        }
        Ok(warnings)
    }

    /// Warnings about keys that are unknown, or have a value that would change what is computed.
    pub fn check(&self, keys: &Map<String, Value>) -> Vec<String> {
        let warning = |(key, value, is_known): (&str, &Value, bool)| match is_known {
            true => format!("{}: `{key}` = {} is not applied", self.file, short(value)),
            false => self.unknown(key),
        };
        self.not_applied(keys).map(warning).collect()
    }

    /// Keys that nothing follows, with whether they are known.
    fn not_applied<'a>(&self, keys: &'a Map<String, Value>) -> impl Iterator<Item = (&'a str, &'a Value, bool)> {
        let is_read = |name: &&str, key: &str| match name.split_once('*') {
            Some((begin, end)) => key.starts_with(begin) && key.ends_with(end),
            None => *name == key,
        };
        let read = move |key: &str| self.read.iter().any(|name| is_read(name, key));
        keys.iter().filter(move |(key, value)| !value.is_null() && !is_ignored(self.ignored, key)).filter_map(
            move |(key, value)| match self.neutral.iter().find(|(name, _)| name == key) {
                Some((_, neutral)) => (!neutral(value)).then_some((key.as_str(), value, true)),
                None => (!read(key)).then_some((key.as_str(), value, false)),
            },
        )
    }

    fn unknown(&self, key: &str) -> String {
        unknown(self.file, key)
    }
}

/// The warning about a key of a file that nothing reads.
pub(crate) fn unknown(file: &str, key: &str) -> String {
    format!("{file}: the key `{key}` is not known, and not applied")
}

/// A value, shortened.
fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(40) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}
