//! Why a model cannot be trained.

use std::io;
use std::path::{Path, PathBuf};

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
        source: io::Error,
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
    /// A text without any document.
    #[error("{}: expected text, found none", path.display())]
    NoText {
        /// The file, the last one of several.
        path: PathBuf,
    },
    /// A checkpoint that is not one, or not any more.
    #[error("{}: {problem}{}", path.display(), earlier.map(|step| format!("; without it, step {step} is the last")).unwrap_or_default())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
        /// The step of the checkpoint before it, if there is one.
        earlier: Option<u64>,
    },
    /// Another run is at work there.
    #[error("{}: expected a folder for this run alone, found another at work in it", folder.display())]
    Busy {
        /// The output folder.
        folder: PathBuf,
    },
    /// Nothing to go on from.
    #[error("{}: expected a checkpoint to resume from, found none", folder.display())]
    NoCheckpoint {
        /// Where they would be.
        folder: PathBuf,
    },
    /// Training has gone astray.
    #[error(
        "step {step}: the gradient of `{tensor}` is not finite (loss {loss}); a lower learning rate or a longer warm-up may help"
    )]
    NotFinite {
        /// The first such weight.
        tensor: String,
        /// The step that was not done.
        step: u64,
        /// Mean loss of the step.
        loss: f64,
    },
    /// Training went astray in its last step.
    #[error("step {step} left `{tensor}` not finite; a lower learning rate or a longer warm-up may help")]
    NotFiniteWeight {
        /// The first such weight.
        tensor: String,
        /// The step.
        step: u64,
    },
    /// Gradients overflow at any scale.
    #[error(
        "step {step}: gradients overflow even with a loss scale of {scale:e} (loss {loss}); a lower learning rate or bf16 may help"
    )]
    Overflow {
        /// The step that was not done.
        step: u64,
        /// What the loss was multiplied by.
        scale: f64,
        /// Mean loss of the step.
        loss: f64,
    },
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// What the system says of a file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), source }
    }
}
