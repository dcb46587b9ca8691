//! Why a model cannot be trained.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong. Messages name the file, key or tensor, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model file.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// A tensor file.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] trine_text::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] trine_backend::Error),
    /// A file that is not a model.
    #[error("{}: {source}", path.display())]
    Io {
        /// It.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A value of the configuration that cannot be.
    #[error("`{key}`: expected {expected}, found {found}")]
    Config {
        /// Its name, as `train.batch`.
        key: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A text that cannot be learned from.
    #[error("{}: {place}: expected {expected}, found {found}", path.display())]
    Document {
        /// The file that it is in.
        path: PathBuf,
        /// Where in the file.
        place: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
}
