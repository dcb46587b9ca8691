//! Errors of training.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// Why training fails. Messages name the file, key or tensor, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    #[error(transparent)]
    Text(#[from] trine_text::Error),
    #[error(transparent)]
    Device(#[from] trine_backend::Error),
    /// A file that is not a model cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// A value of the configuration is invalid.
    #[error("`{key}`: expected {expected}, found {found}")]
    Config {
        /// Such as `train.batch`.
        key: String,
        expected: String,
        found: String,
    },
    /// A document cannot be read.
    #[error("{}: {place}: expected {expected}, found {found}", path.display())]
    Document {
        path: PathBuf,
        /// Such as `line 7`.
        place: String,
        expected: String,
        found: String,
    },
    /// There is no document in any file.
    #[error("{}: expected text, found none", path.display())]
    NoText {
        /// The last of the files.
        path: PathBuf,
    },
    /// A checkpoint is damaged, or of another run.
    #[error("{}: {problem}{}", path.display(), earlier.map(|step| format!("; without it, step {step} is the last")).unwrap_or_default())]
    Checkpoint {
        path: PathBuf,
        problem: String,
        /// The step of the checkpoint before it, if there is one.
        earlier: Option<u64>,
    },
    /// Another run uses the output folder.
    #[error("{}: expected a folder for this run alone, found another run in it", folder.display())]
    Busy { folder: PathBuf },
    /// There is no checkpoint to resume from.
    #[error("{}: expected a checkpoint to resume from, found none", folder.display())]
    NoCheckpoint { folder: PathBuf },
    /// The gradient of a step is NaN or infinite. The weights are those before the step.
    #[error(
        "step {step}: the gradient of `{tensor}` is not finite (loss {loss}); a lower learning rate or a longer warmup may help"
    )]
    NotFinite {
        /// The first weight with such a gradient.
        tensor: String,
        step: u64,
        /// Mean loss of the step.
        loss: f64,
    },
    /// A weight is NaN or infinite after a step.
    #[error("step {step} left `{tensor}` not finite; a lower learning rate or a longer warmup may help")]
    NotFiniteWeight {
        /// The first such weight.
        tensor: String,
        step: u64,
    },
    /// Float16 gradients overflow with every loss scale. The weights are those before the step.
    #[error(
        "step {step}: gradients overflow even with a loss scale of {scale:e} (loss {loss}); a lower learning rate or bf16 may help"
    )]
    Overflow {
        step: u64,
        scale: f64,
        /// Mean loss of the step.
        loss: f64,
    },
    /// [`Tape::backward`](crate::Tape::backward) was called with activations that its tape has not recorded in the current pass.
    #[error("backward: expected activations of the current forward pass, found a constant or those of an earlier pass")]
    NotRecorded,
    /// The caller cancelled the work.
    #[error("cancelled")]
    Cancelled,
}

impl Error {
    /// For `map_err` on operations with a file.
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { path: path.to_owned(), source }
    }
}
