//! Why a model cannot be run.

use std::path::PathBuf;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with a model. Messages name the key or tensor, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The error `source` is about the model at `path`.
    #[error("{}: {source}", path.display())]
    In {
        /// File or folder.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// The file itself.
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    /// The tokenizer.
    #[error(transparent)]
    Text(#[from] trine_text::Error),
    /// The device.
    #[error(transparent)]
    Device(#[from] trine_backend::Error),
    /// A file that should be text.
    #[error("{}: expected UTF-8 text", path.display())]
    NotText {
        /// That file.
        path: PathBuf,
    },
    /// An architecture that nobody has written down for us.
    #[error("architecture `{found}` is not known: expected one of {known}")]
    UnknownArch {
        /// What the model says it is.
        found: String,
        /// What we run.
        known: String,
    },
    /// A key that must be there.
    #[error("key `{key}` is missing: {expected} was expected")]
    MissingKey {
        /// Its name.
        key: String,
        /// What it should hold.
        expected: &'static str,
    },
    /// A key with a value that cannot be.
    #[error("key `{key}`: expected {expected}, found {found}")]
    BadKey {
        /// Its name.
        key: String,
        /// What would do.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A tensor of another shape than the keys imply.
    #[error("tensor `{tensor}`: expected shape {expected:?}, found {found:?}")]
    Shape {
        /// Its name.
        tensor: String,
        /// Row-major.
        expected: Vec<usize>,
        /// Row-major.
        found: Vec<usize>,
    },
    /// A ternary tensor with something else than -1, 0 and 1 in it.
    #[error("tensor `{tensor}`: expected codes 0, 1 and 2 of ternary weights, found 3")]
    NotTernary {
        /// Its name.
        tensor: String,
    },
    /// A tensor of other numbers than it can be of.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    Dtype {
        /// Its name.
        tensor: String,
        /// What would do.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// Numbers that are no weights by themselves.
    #[error(
        "tensor `{tensor}` has type {found}: expected weights of F32, F16 or BF16, or `quantization_config` in config.json with the \
         scales that belong to {found}"
    )]
    NotWeights {
        /// Its name.
        tensor: String,
        /// What is there.
        found: &'static str,
    },
    /// A scale, weight or index that no number of a model can be.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    BadWeight {
        /// Its name.
        tensor: String,
        /// What would do.
        expected: &'static str,
        /// What is there.
        found: f32,
    },
    /// A tensor that nothing asked for, so that the model is not what its keys say.
    #[error("tensor `{tensor}` has no place in an `{arch}` model of {layers} layers: it would be ignored")]
    Unused {
        /// Its name.
        tensor: String,
        /// What the model says it is.
        arch: &'static str,
        /// How many layers it says it has.
        layers: usize,
    },
    /// The tokenizer has tokens that the model has no embedding for.
    #[error("the tokenizer has {tokens} tokens, but the embedding only {rows} rows: they are not of the same model")]
    Vocabulary {
        /// Tokens.
        tokens: usize,
        /// Rows.
        rows: usize,
    },
    /// There is no tokenizer.
    #[error("no tokenizer: expected {expected}")]
    NoTokenizer {
        /// Where it should be.
        expected: &'static str,
    },
    /// A text that the model cannot read whole, or one without a token.
    #[error("{tokens} tokens, but the model reads 1 to {most}")]
    Length {
        /// Tokens of the text.
        tokens: usize,
        /// What the model reads.
        most: usize,
    },
    /// There is no configuration.
    #[error("{} is missing: a folder of safetensors says in it what the model is", path.display())]
    NoConfig {
        /// Where it should be.
        path: PathBuf,
    },
    /// Who watched the progress wanted no more.
    #[error("loading was cancelled")]
    Cancelled,
    /// The model computes NaN or infinity.
    #[error(
        "the model's logits are not finite ({found} at token {token}): its weights are damaged, or of another architecture than `{arch}`"
    )]
    NotFinite {
        /// The number.
        found: f32,
        /// Where.
        token: usize,
        /// What it was run as.
        arch: &'static str,
    },
    #[error("adapter {adapter}: expected one that is loaded, found none of this number")]
    UnknownAdapter { adapter: u32 },
    #[error("device `{found}`: expected {expected}")]
    UnknownDevice { found: String, expected: String },
}

impl Error {
    /// This error, about the model at `path`, unless it says already where it is.
    pub fn at(self, path: &std::path::Path) -> Error {
        match self {
            Error::In { .. }
            | Error::NotText { .. }
            | Error::NoConfig { .. }
            | Error::File(trine_tensor::Error::In { .. }) => self,
            source => Error::In { path: path.to_owned(), source: Box::new(source) },
        }
    }

    pub(crate) fn bad(key: impl Into<String>, expected: impl Into<String>, found: impl std::fmt::Display) -> Error {
        Error::BadKey { key: key.into(), expected: expected.into(), found: found.to_string() }
    }
}
