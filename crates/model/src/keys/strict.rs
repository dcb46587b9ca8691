//! Files whose keys must not say what nothing here does.

use super::files::FileKeys;
use crate::{Error, Result};
use serde_json::{Map, Value};

impl FileKeys {
    /// Warnings about keys that are unknown.
    ///
    /// # Errors
    /// When a key has a value that would change what is computed.
    pub fn strict(&self, keys: &Map<String, Value>) -> Result<Vec<String>> {
        let mut warnings = Vec::new();
        let ignored = |key: &str| self.ignored.iter().any(|row| row.keys.contains(&key));
        for (key, value) in keys.iter().filter(|(key, value)| !value.is_null() && !ignored(key)) {
            match self.neutral.iter().find(|(name, _)| name == key) {
                Some((_, neutral)) if neutral(value) => {}
                Some(_) => {
                    let expected = "a value that changes nothing, since Trine does not do what it says";
                    return Err(Error::bad(format!("{key}` of `{}", self.file), expected, value));
                }
                None if self.read.contains(&&**key) => {}
                None => warnings.push(format!("{}: the key `{key}` is not known, and not applied", self.file)),
            }
        }
        Ok(warnings)
    }
}
