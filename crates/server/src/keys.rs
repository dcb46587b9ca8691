use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use subtle::ConstantTimeEq;

/// A key by which a client is known, as its file has it: not the key itself, but its hash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    pub name: String,
    /// SHA-256 of the key, in hexadecimal.
    pub sha256: String,
    /// Requests per minute at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute at most, of prompts and answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u32>,
    /// Requests at once at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_concurrency: Option<u32>,
    /// Whether it opens `/admin` and `/debug`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
}

/// What the file of keys is, as TOML.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile {
    #[serde(default)]
    pub key: Vec<Key>,
}

/// Why keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    /// Others may read or change the file.
    #[error("{}: expected mode 600, which keeps it from other users, found {mode:o}: chmod 600 it", path.display())]
    Mode { path: PathBuf, mode: u32 },
    /// The file is no list of keys.
    #[error("{}: {problem}", path.display())]
    Format { path: PathBuf, problem: String },
}

/// The longest file of keys that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

impl KeyFile {
    /// Reads a file that nobody else can read.
    ///
    /// # Errors
    /// When it cannot be read, others can, or it is not a list of keys with different names.
    pub fn read(path: &Path) -> Result<KeyFile, KeyError> {
        let io = |source| KeyError::Io { path: path.to_owned(), source };
        let format = |problem: String| KeyError::Format { path: path.to_owned(), problem };
        let metadata = path.metadata().map_err(io)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let mode = metadata.mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(KeyError::Mode { path: path.to_owned(), mode });
            }
        }
        if metadata.len() > MAX_FILE {
            return Err(format(format!("expected at most {MAX_FILE} bytes, found {}", metadata.len())));
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let file: KeyFile = toml::from_str(&text).map_err(|error| format(without_values(&error, &text)))?;
        let mut names = HashSet::new();
        for key in &file.key {
            if !names.insert(&key.name) {
                return Err(format(format!("two keys are called {:?}", key.name)));
            }
            if key.sha256.len() != 64 || !key.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                return Err(format(format!("the key {:?}: expected 64 hexadecimal digits as its sha256", key.name)));
            }
        }
        Ok(file)
    }

    /// Writes the file, which only its owner can read, as a whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), KeyError> {
        let text = toml::to_string(self).expect("names and numbers have a form in TOML");
        let write = || {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::create_dir_all(folder)?;
            // Temporary files are private.
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| KeyError::Io { path: path.to_owned(), source })
    }
}

/// Where a file is wrong and how, without the line, which may be a key, and without names that may be one.
fn without_values(error: &toml::de::Error, text: &str) -> String {
    /// Letters of a name at most.
    const MOST: usize = 15;
    let before = error.span().map(|span| &text.as_bytes()[..span.start.min(text.len())]);
    let place = before
        .map_or(String::new(), |before| format!("line {}: ", before.iter().filter(|&&byte| byte == b'\n').count() + 1));
    let parts = error.message().split_inclusive(['`', '"']).enumerate().map(|(i, part)| {
        let name = part.trim_end_matches(['`', '"']);
        let secret = i % 2 == 1 && (name.len() > MOST || name.starts_with("sk-"));
        if secret { part.replace(name, "***") } else { part.to_owned() }
    });
    format!("{place}{}", parts.collect::<String>().trim_end())
}

/// The hash by which a file knows a key.
pub fn hash(key: &str) -> String {
    Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The keys that open a server, from a file that may change.
pub struct Keys {
    /// The file, unless there is only one key.
    path: Option<PathBuf>,
    keys: RwLock<Arc<Vec<Arc<Key>>>>,
}

impl Keys {
    /// Reads the file.
    ///
    /// # Errors
    /// Those of [`KeyFile::read`].
    pub fn open(path: &Path) -> Result<Keys, KeyError> {
        let keys = Keys { path: Some(path.to_owned()), keys: RwLock::default() };
        keys.reload()?;
        Ok(keys)
    }

    /// One key without limits, which is no admin's.
    pub fn one(key: &str) -> Keys {
        let key = Key { name: "api-key".to_owned(), sha256: hash(key), ..Key::default() };
        Keys { path: None, keys: RwLock::new(Arc::new(vec![Arc::new(key)])) }
    }

    /// Reads the file again; how many keys it has. What cannot be read leaves the keys as they are.
    ///
    /// # Errors
    /// Those of [`KeyFile::read`].
    pub fn reload(&self) -> Result<usize, KeyError> {
        let Some(path) = &self.path else { return Ok(1) };
        let keys: Vec<Arc<Key>> = KeyFile::read(path)?.key.into_iter().map(Arc::new).collect();
        let count = keys.len();
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        Ok(count)
    }

    /// The entry of a key, if it is known. How long it takes does not tell how much of a hash is right.
    pub fn find(&self, key: &str) -> Option<Arc<Key>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner).clone();
        let hash = hash(key);
        let mut found = None;
        for known in keys.iter() {
            if bool::from(known.sha256.as_bytes().ct_eq(hash.as_bytes())) {
                found = Some(known.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_keys_is_private_and_known_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let key = Key {
            name: "ann".to_owned(),
            sha256: hash("secret"),
            requests_per_minute: Some(60),
            tokens_per_minute: None,
            max_concurrency: None,
            admin: true,
        };
        let write = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            }
            let _ = mode;
        };
        KeyFile { key: vec![key.clone()] }.write(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let keys = Keys::open(&path).unwrap();
        assert_eq!(keys.find("secret").as_deref(), Some(&key));
        assert_eq!(keys.find("Secret"), None);
        let hash = hash("x");
        for (text, mode, expected) in [
            (text.clone(), 0o640, "expected mode 600"),
            ("[[key]]\nname = \"x\"\nsha256 = \"12\"".to_owned(), 0o600, "64 hexadecimal digits"),
            (format!("[[key]]\nname = \"x\"\nsha256 = \"{hash}\"\ncolour = 1"), 0o600, "unknown field `colour`"),
            (format!("{text}\nsk-SECRETRAWKEY"), 0o600, "line 7: "),
            (format!("{text}\nsha256 = sk-SECRETRAWKEY"), 0o600, "line 7: "),
            (format!("{text}\nsk-SECRETRAWKEY = 1"), 0o600, "unknown field `***`"),
            (format!("{text}\n{text}"), 0o600, "two keys are called \"ann\""),
        ] {
            write(&text, mode);
            let error = keys.reload().unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("SECRET"), "{error}");
            assert!(keys.find("secret").is_some(), "what cannot be read changes nothing");
        }
    }
}
