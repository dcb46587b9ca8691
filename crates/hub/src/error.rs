//! What can go wrong.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name of a repository, a revision or a file is refused.
    #[error("{what}: expected {expected}, found {found:?}")]
    Name { what: &'static str, expected: &'static str, found: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// No connection is made.
    #[error("cannot reach {host}: {problem}")]
    Unreachable { host: String, problem: String },
    /// The connection breaks again and again.
    #[error("{host}: {problem}")]
    Connection { host: String, problem: String },
    /// The hub answers what its protocol does not allow.
    #[error("{what}: expected {expected}, found {found}")]
    Answer { what: String, expected: String, found: String },
    #[error("{what}: HTTP status {status}{}", after_colon(message))]
    Status { what: String, status: u16, message: String },
    /// A token is missing, or has no access.
    #[error("{what}: access denied, HTTP status {status}{}", after_colon(message))]
    Denied { what: String, status: u16, has_token: bool, message: String },
    #[error("{what}: not found{}", Near(near))]
    NotFound { what: String, near: Vec<String> },
    /// The repository has no model that can be run, or none of this name.
    #[error("{repo}: expected {expected}, found {}", Listed(found))]
    NoModel { repo: String, expected: String, found: Vec<String> },
    /// The content of a file is not what the hub has.
    #[error("{file}: expected {kind} {expected}, found {found}")]
    Hash { file: String, kind: &'static str, expected: String, found: String },
    #[error("{}: expected {} of free space, found {}", path.display(), Bytes(*needed), Bytes(*free))]
    Space { path: PathBuf, needed: u64, free: u64 },
    /// Stopped by [`crate::Hub::stop`]. What was downloaded is kept.
    #[error("cancelled")]
    Cancelled,
}

/// Names the file of an error of the system.
pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

fn after_colon(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}

struct Near<'a>(&'a [String]);

impl fmt::Display for Near<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; similar: {}", self.0.join(", ")) }
    }
}

/// Names that an error lists.
const SHOWN: usize = 12;

struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let (shown, rest) = self.0.split_at(self.0.len().min(SHOWN));
        match (shown, rest) {
            ([], _) => f.write_str("no files"),
            (_, []) => f.write_str(&shown.join(", ")),
            _ => write!(f, "{} and {} more", shown.join(", "), rest.len()),
        }
    }
}

struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 as f64 / f64::from(1 << 30) {
            gib if gib < 0.1 => write!(f, "{:.2} MiB", gib * 1024.0),
            gib => write!(f, "{gib:.2} GiB"),
        }
    }
}
