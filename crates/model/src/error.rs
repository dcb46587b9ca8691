//! Why a model cannot be run.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

/// What is wrong with a model. Messages name the key or tensor, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The error `source` is about the file or folder at `path`.
    #[error("{}: {source}", path.display())]
    In { path: PathBuf, source: Box<Error> },
    #[error(transparent)]
    File(#[from] trine_tensor::Error),
    #[error(transparent)]
    Text(#[from] trine_text::Error),
    #[error(transparent)]
    Device(#[from] trine_backend::Error),
    /// `found` is the architecture that the file names, `known` a list of the supported ones.
    #[error("architecture `{found}` is not known: expected one of {known}")]
    UnknownArch { found: String, known: String },
    /// A GGUF file with metadata alone, such as that of a tokenizer.
    #[error("expected the weights of a model, found none: the file holds only a tokenizer or other metadata")]
    NoWeights,
    #[error("key `{key}` is missing: expected {expected}")]
    MissingKey { key: String, expected: &'static str },
    /// The error `source` follows from the defaults of keys that `config.json` lacks: `keys` has them.
    #[error("{source}; config.json lacks keys, which have defaults then: {keys}")]
    Defaults { keys: String, source: Box<Error> },
    #[error("key `{key}`: expected {expected}, found {found}")]
    BadKey { key: String, expected: String, found: String },
    /// A tensor does not have the shape that the keys imply. Shapes are row-major.
    #[error("tensor `{tensor}`: expected shape {expected:?}, found {found:?}")]
    Shape { tensor: String, expected: Vec<usize>, found: Vec<usize> },
    /// A packed ternary tensor has the code 3.
    #[error("tensor `{tensor}`: expected codes 0, 1 and 2 of ternary weights, found 3")]
    NotTernary { tensor: String },
    /// A tensor of packed weights has an unexpected element type.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    Dtype { tensor: String, expected: &'static str, found: &'static str },
    /// Integers or 8-bit floats without scales.
    #[error(
        "tensor `{tensor}` has type {found}: expected weights of F32, F16 or BF16, or `quantization_config` in config.json with the \
         scales that belong to {found}"
    )]
    NotWeights { tensor: String, found: &'static str },
    /// A scale, weight or index is out of range or not finite.
    #[error("tensor `{tensor}`: expected {expected}, found {found}")]
    BadWeight { tensor: String, expected: &'static str, found: f32 },
    /// A tensor was not loaded, so the model is not what its keys say.
    #[error("tensor `{tensor}` has no place in {layers} layers of the architecture `{arch}`: it would be ignored")]
    Unused { tensor: String, arch: &'static str, layers: usize },
    /// The tokenizer has more tokens than the embedding has rows.
    #[error("the tokenizer has {tokens} tokens, but the embedding only {rows} rows: they are not of the same model")]
    Vocabulary { tokens: usize, rows: usize },
    #[error("no tokenizer: expected {expected}")]
    NoTokenizer { expected: &'static str },
    /// No tokens, or more than the context holds.
    #[error("{tokens} tokens, but the model reads 1 to {most}")]
    Length { tokens: usize, most: usize },
    /// A folder of safetensors lacks `config.json`.
    #[error("{} is missing: a folder of safetensors says in it what the model is", path.display())]
    NoConfig { path: PathBuf },
    /// The progress callback returned [`ControlFlow::Break`](std::ops::ControlFlow::Break).
    #[error("loading was cancelled")]
    Cancelled,
    /// [`ModelOptions::stop`](crate::ModelOptions::stop) was set while a batch ran.
    #[error("stopped")]
    Stopped,
    /// The logit of `token` is NaN or infinite; without logits, this element of a hidden state.
    #[error(
        "the model's outputs are not finite ({found} at index {token}): its weights are damaged, or of another architecture than `{arch}`"
    )]
    NotFinite { found: f32, token: usize, arch: &'static str },
    /// The model is an encoder, or was loaded without its head.
    #[error("expected a model with logits, found `{arch}` without an output head")]
    NoLogits { arch: &'static str },
    /// A [`Want::Top`](crate::runner::Want::Top) does not fit its batch or the vocabulary.
    #[error("edits of logits: expected {expected}, found {found}")]
    BadEdit { expected: String, found: String },
    #[error("adapter {adapter}: expected one that is loaded, found none of this number")]
    UnknownAdapter { adapter: u32 },
    #[error("device `{found}`: expected {expected}")]
    UnknownDevice { found: String, expected: String },
}

impl Error {
    /// Names the file or folder, unless the error already does.
    pub fn at(self, path: &Path) -> Error {
        let is_named = |error: &Error| {
            matches!(error, Error::In { .. } | Error::NoConfig { .. } | Error::File(trine_tensor::Error::In { .. }))
        };
        match self {
            Error::Defaults { ref source, .. } if is_named(source) => self,
            named if is_named(&named) => named,
            source => Error::In { path: path.to_owned(), source: Box::new(source) },
        }
    }

    /// A small file of a model does not hold what it should.
    pub(crate) fn content(path: &Path, expected: &str, found: impl std::fmt::Display) -> Error {
        let (place, expected, found) = ("the file".to_owned(), expected.to_owned(), found.to_string());
        Error::from(trine_tensor::Error::Malformed { place, expected, found }).at(path)
    }

    pub(crate) fn bad(key: impl Into<String>, expected: impl Into<String>, found: impl std::fmt::Display) -> Error {
        Error::BadKey { key: key.into(), expected: expected.into(), found: found.to_string() }
    }
}
