use std::fmt::Display;

/// Why a tokenizer cannot be loaded or trained, or a chat template cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tokenizer file or vocabulary is malformed, or has a feature that is not implemented. `place` is a file, or a GGUF key.
    #[error("{place}: {problem}")]
    Vocabulary { place: String, problem: String },
    /// A name in a GGUF key is unknown.
    #[error("{key}: expected one of {known}, found `{found}`")]
    UnknownName { key: &'static str, known: String, found: String },
    /// The options or texts to train a tokenizer with are invalid.
    #[error("training a tokenizer: {0}")]
    Training(String),
    /// A chat template cannot be compiled or rendered.
    #[error("chat template: {0}")]
    Template(String),
}

/// A `Result` with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error in a vocabulary, or in the file `place`.
    pub fn vocabulary(place: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Vocabulary { place: place.into(), problem: problem.into() }
    }

    pub(crate) fn unknown_name(key: &'static str, known: &[&str], found: &str) -> Error {
        Error::UnknownName { key, known: known.join(", "), found: found.to_owned() }
    }

    pub(crate) fn token(id: usize, name: &str, problem: impl Display) -> Error {
        Error::vocabulary("tokenizer.ggml.tokens", format!("token {id} (`{name}`): {problem}"))
    }

    /// An array has another number of entries than the vocabulary has tokens.
    pub(crate) fn length(key: &str, expected: usize, found: usize) -> Error {
        Error::vocabulary(key, format!("expected {expected} entries, one for each token, found {found}"))
    }
}
