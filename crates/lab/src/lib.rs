//! Making, rewriting, examining and measuring models, and having them write.

pub mod bench;
pub mod crossval;
pub mod doctor;
pub mod generate;
pub mod perplexity;
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
    NotGguf { path: String },
    /// The new file would take the place of the old one.
    #[error("{path}: the new file must have another name than the old one")]
    SameFile { path: String },
    /// What the new file would replace is a folder or a device.
    #[error("{path}: expected the name of a new or an old file, found something else")]
    NotAFile { path: String },
    /// Weights that are damaged.
    #[error("tensor `{tensor}`: expected finite weights, found {found}")]
    NotFinite {
        tensor: String,
        /// The first such weight.
        found: f32,
    },
    /// A format that no file can hold.
    #[error("format {format} cannot be written to a GGUF file")]
    NotStorable { format: &'static str },
    /// Weights that a ternary format would destroy.
    #[error(
        "tensor `{tensor}`: {format} holds ternary weights, found others: {worst} where {nearest} is the nearest it can hold"
    )]
    NotTernary {
        tensor: String,
        format: &'static str,
        /// The weight furthest from what the format can hold.
        worst: f32,
        /// What would stand in its place.
        nearest: f32,
    },
    /// Another program that does not do what it should.
    #[error("{reference}: {problem}")]
    Reference { reference: String, problem: String },
    /// The engine, or what it cannot do with these logits.
    #[error(transparent)]
    Engine(#[from] trine_engine::Error),
    /// A model that cannot be loaded, or computes nonsense.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The device.
    #[error(transparent)]
    Backend(#[from] trine_backend::Error),
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io { path: String, source: std::io::Error },
    /// A file that would be overwritten.
    #[error("{path}: expected the name of a new file, found one")]
    Exists { path: String },
    /// A line of JSONL that is something else.
    #[error("{path}: line {line}: expected {expected}, found {found}")]
    Line {
        path: String,
        /// Counted from 1.
        line: usize,
        expected: String,
        found: String,
    },
    /// A text of which a tokenizer leaves something out, or changes it.
    #[error(
        "document {document}: the model's tokens cannot spell `{text}` at byte {at}: its bits per byte would be those of another text"
    )]
    Spelling {
        /// Counted from 1.
        document: usize,
        /// Bytes before what is not spelled.
        at: usize,
        text: String,
    },
    /// Windows that a model cannot have.
    #[error("a {what} of {found} tokens: expected {least} to {most}")]
    Window {
        /// The context or the stride.
        what: &'static str,
        found: usize,
        /// The least that makes sense.
        least: usize,
        most: usize,
    },
    /// A text too short to predict anything in it.
    #[error("nothing can be scored in a text of {tokens} tokens with a context of {context}: it is too short")]
    NothingToScore {
        /// Tokens of all documents.
        tokens: usize,
        /// Tokens that the model reads at once.
        context: usize,
    },
    /// No tensor can be held in this format.
    #[error("no tensor of {path} can be held in {format}: its rows must be multiples of {block} weights")]
    Nothing { path: String, format: &'static str, block: usize },
}

/// Refuses what a new file must not take the place of: a folder, or a device.
fn replaceable(path: &std::path::Path) -> Result<(), Error> {
    if path.exists() && !path.is_file() {
        return Err(Error::NotAFile { path: path.display().to_string() });
    }
    Ok(())
}
