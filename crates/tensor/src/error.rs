//! What can be wrong with a model file.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why a model file cannot be read or written.
///
/// Every way of being malformed is one variant, [`Error::Malformed`], whose text names the place, what was expected and what was found.
/// The other variants are those that a program may want to tell apart, most often to print a hint.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file in which another error occurred. [`Error::cause`] skips it.
    #[error("{}: {source}", path.display())]
    In { path: PathBuf, source: Box<Error> },
    /// The operating system reported an error.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The operating system reported an error about a file that is written.
    #[error("{0}")]
    Write(std::io::Error),
    /// A format cannot hold the weights of a tensor. `weight` is the one that would change most, or the first that the format has no number for.
    #[error(
        "tensor {tensor:?}: expected weights that {format} can hold, found {weight:e}, which would become {encoded:e}"
    )]
    Lossy { tensor: String, format: &'static str, weight: f32, encoded: f32 },
    /// There is no file or folder at the path.
    #[error("expected a file or a folder, found nothing of this name")]
    NotFound,
    /// The file is neither GGUF nor safetensors.
    #[error("expected a GGUF or safetensors file, found {found}")]
    NotAModel { found: String },
    /// A folder holds no model, or several.
    #[error(
        "expected model.safetensors, model.safetensors.index.json or a single .safetensors or .gguf file in this \
         folder, found {found}"
    )]
    Folder { found: String },
    /// A folder with an adapter of PEFT and no model.
    #[error(
        "expected a model, found an adapter (adapter_config.json), which trine does not apply: merge it into its base model, with PEFT's `merge_and_unload`"
    )]
    Adapter,
    /// The file ends before a field or a tensor does. Sizes are in bytes.
    #[error("{place}: expected {expected} bytes, found {found} before the end of the file")]
    Truncated { place: String, expected: u64, found: u64 },
    /// The file contradicts its specification or itself, or a tensor cannot be stored as requested.
    #[error("{place}: expected {expected}, found {found}")]
    Malformed { place: String, expected: String, found: String },
    /// The file is valid, but this crate does not read it.
    #[error("{place}: expected {expected}, found {found}, which is not supported")]
    Unsupported { place: String, expected: String, found: String },
    /// JSON with a syntax error, or of another structure than expected. `place` is the file or the part of it that holds the JSON.
    #[error("{place}: {source}")]
    Json { place: &'static str, source: serde_json::Error },
    /// A tensor has a type that cannot be read; `hint` lists those that can, or says how to get the model in one of them.
    #[error("tensor {tensor:?}: type {found} is not supported: {hint}")]
    UnknownFormat { tensor: String, found: String, hint: String },
    /// GGUF's type number stands for several formats, and nothing in the file determines which.
    #[error("tensor {tensor:?}: type {id} could be {names}: choose one (--layout NAME)")]
    AmbiguousFormat { tensor: String, id: u32, names: String },
    /// A shard of a split GGUF model is not in the same folder. `no` counts from 0.
    #[error("shard {} of {count} is missing", u64::from(*no) + 1)]
    MissingShard { no: u32, count: u32 },
    /// The file has no tensor of this name; `hint` lists similar names, or names the file that may have it.
    #[error("there is no tensor {tensor:?}: {hint}")]
    NoTensor { tensor: String, hint: String },
}

impl Error {
    pub(crate) fn malformed(place: impl Into<String>, expected: impl Display, found: impl Display) -> Error {
        Error::Malformed { place: place.into(), expected: expected.to_string(), found: found.to_string() }
    }

    pub(crate) fn unsupported(place: impl Into<String>, expected: impl Display, found: impl Display) -> Error {
        Error::Unsupported { place: place.into(), expected: expected.to_string(), found: found.to_string() }
    }

    /// A shard's name has a folder in it, by which it could reach files that are not part of the model.
    pub(crate) fn shard_name(name: &str) -> Error {
        Error::malformed("shard", "the name of a file in the same folder", format_args!("{name:?}"))
    }

    pub(crate) fn duplicate(place: String) -> Error {
        Error::malformed(place, "a unique name", "the same name twice")
    }

    pub(crate) fn overlap(first: &str, second: &str) -> Error {
        Error::malformed(in_tensor(second), "bytes of its own", format_args!("an overlap with {}", in_tensor(first)))
    }

    /// A tensor of `size` bytes begins at `offset` of a data section of `len` bytes, and ends after it.
    pub(crate) fn past_end(tensor: &str, offset: u64, size: u64, len: u64) -> Error {
        let place = format!("{} at byte {offset} of the data section", in_tensor(tensor));
        Error::Truncated { place, expected: size, found: len.saturating_sub(offset) }
    }

    /// The error of a path that cannot be opened.
    pub(crate) fn of_path(error: std::io::Error) -> Error {
        if error.kind() == std::io::ErrorKind::NotFound { Error::NotFound } else { Error::Io(error) }
    }

    /// A tensor begins at `offset` of a data section whose tensors have `all` bytes together, and ends after them.
    pub(crate) fn wrong_offset(tensor: &str, offset: u64, all: u64) -> Error {
        let expected = format_args!("a place within the {all} bytes that all tensors have together");
        Error::malformed(format!("the offset of {}", in_tensor(tensor)), expected, offset)
    }

    /// A shape is too large for its bytes to be counted.
    pub(crate) fn overflow(tensor: &str, shape: &[u64], format: &crate::Format) -> Error {
        Error::malformed(in_tensor(tensor), "a size that fits 63 bits", format_args!("{shape:?} in {format}"))
    }

    /// A path is not that of a file.
    pub(crate) fn not_a_file(found: &std::fs::Metadata) -> Error {
        let text = format!("expected a file, found {}", what_is_no_file(found));
        Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidInput, text))
    }

    /// Adds the path of the file, unless there is one.
    pub fn at(self, path: &Path) -> Error {
        match self {
            located @ Error::In { .. } => located,
            source => Error::In { path: path.to_path_buf(), source: Box::new(source) },
        }
    }

    /// The error itself, without the path of the file.
    pub fn cause(&self) -> &Error {
        match self {
            Error::In { source, .. } => source.cause(),
            cause => cause,
        }
    }
}

/// What a path is that is not that of a file, for messages.
pub(crate) fn what_is_no_file(found: &std::fs::Metadata) -> &'static str {
    if found.is_dir() { "a folder" } else { "a device, a pipe or a socket" }
}

/// The place of an error in a key, for messages.
pub(crate) fn in_key(key: &str) -> String {
    format!("key {key:?}")
}

/// The place of an error in a tensor, for messages.
pub(crate) fn in_tensor(name: &str) -> String {
    format!("tensor {name:?}")
}
