//! Hashes by which a hub names the content of files.

use crate::error::{Error, Result, at};
use crate::progress::Progress;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// What the content of a file must hash to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Of a file in LFS.
    Sha256(String),
    /// The name of a blob in git: the SHA-1 of a header with the length, and the content.
    GitBlob(String),
}

fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

impl Expected {
    /// The hash that an etag is, if it is one.
    pub fn of(etag: &str) -> Option<Expected> {
        match etag {
            etag if is_hex(etag, 64) => Some(Expected::Sha256(etag.to_owned())),
            etag if is_hex(etag, 40) => Some(Expected::GitBlob(etag.to_owned())),
            _ => None,
        }
    }

    /// Reads the first `len` bytes of a file, and compares.
    ///
    /// # Errors
    /// When the file cannot be read, has other content, or `stop` is set.
    pub fn check(&self, name: &str, path: &Path, len: u64, progress: &Progress, stop: &AtomicBool) -> Result<()> {
        let (kind, expected, found) = match self {
            Expected::Sha256(expected) => ("SHA-256", expected, read(Sha256::new(), path, len, progress, stop)?),
            Expected::GitBlob(expected) => {
                let hash = Sha1::new_with_prefix(format!("blob {len}\0"));
                ("the git hash", expected, read(hash, path, len, progress, stop)?)
            }
        };
        if *expected == found {
            return Ok(());
        }
        Err(Error::Hash { file: name.to_owned(), kind, expected: expected.clone(), found })
    }
}

fn read(mut hash: impl Digest, path: &Path, len: u64, progress: &Progress, stop: &AtomicBool) -> Result<String> {
    let mut file = File::open(path).map_err(at(path))?.take(len);
    let mut buffer = vec![0; 1 << 20];
    loop {
        if stop.load(Relaxed) {
            return Err(Error::Cancelled);
        }
        match file.read(&mut buffer).map_err(at(path))? {
            0 => break,
            n => {
                hash.update(&buffer[..n]);
                progress.check(n as u64);
            }
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
