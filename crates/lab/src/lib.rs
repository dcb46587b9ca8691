//! Making, rewriting and measuring models.

pub mod bench;
mod quantize;
pub mod synthetic;

pub use quantize::{Report, quantize};

/// Why a model cannot be made, rewritten or measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// Only GGUF files are rewritten.
    #[error("{path}: expected a GGUF file, found safetensors")]
    NotGguf {
        /// The file.
        path: String,
    },
    /// The new file would take the place of the old one.
    #[error("{path}: the new file must have another name than the old one")]
    SameFile {
        /// The file.
        path: String,
    },
    /// What the new file would replace is a folder or a device.
    #[error("{path}: expected the name of a new or an old file, found something else")]
    NotAFile {
        /// It.
        path: String,
    },
    /// Weights that are damaged.
    #[error("tensor `{tensor}`: expected finite weights, found {found}")]
    NotFinite {
        /// Its name.
        tensor: String,
        /// The first such weight.
        found: f32,
    },
    /// A format that no file can hold.
    #[error("format {format} cannot be written to a GGUF file")]
    NotStorable {
        /// Its name.
        format: &'static str,
    },
    /// Weights that a ternary format would destroy.
    #[error(
        "tensor `{tensor}`: {format} holds ternary weights, found others: {worst} where {nearest} is the nearest it can hold"
    )]
    NotTernary {
        /// Its name.
        tensor: String,
        /// The format asked for.
        format: &'static str,
        /// The weight furthest from what the format can hold.
        worst: f32,
        /// What would stand in its place.
        nearest: f32,
    },
    /// No tensor can be held in this format.
    #[error("no tensor of {path} can be held in {format}: its rows must be multiples of {block} weights")]
    Nothing {
        /// The file.
        path: String,
        /// The format asked for.
        format: &'static str,
        /// Weights of a block.
        block: usize,
    },
}

/// Refuses what a new file must not take the place of: a folder, or a device.
fn replaceable(path: &std::path::Path) -> Result<(), Error> {
    if path.exists() && !path.is_file() {
        return Err(Error::NotAFile { path: path.display().to_string() });
    }
    Ok(())
}
