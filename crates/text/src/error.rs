use thiserror::Error;

/// What can be wrong with a vocabulary, a `tokenizer.json` or a chat template.
#[derive(Debug, Error)]
pub enum Error {
    /// `tokenizer.ggml.model` names a kind of tokenizer that is not known.
    #[error("tokenizer.ggml.model: expected one of {known}, found `{found}`")]
    UnknownModel {
        /// The name in the file.
        found: String,
        /// The names that are known.
        known: String,
    },
    /// `tokenizer.ggml.pre` names a pre-tokenizer that is not known.
    #[error("tokenizer.ggml.pre: expected one of {known}, found `{found}`")]
    UnknownPre {
        /// The name in the file.
        found: String,
        /// The names that are known.
        known: String,
    },
    /// Two arrays that must be as long as each other are not.
    #[error("{key}: expected {expected} entries, one for each token, found {found}")]
    Length {
        /// The metadata key.
        key: &'static str,
        /// The number of tokens.
        expected: usize,
        /// The length of the array.
        found: usize,
    },
    /// A special token's id is beyond the vocabulary.
    #[error("{key}: expected an id below {len}, the size of the vocabulary, found {id}")]
    BeyondVocabulary {
        /// The metadata key.
        key: &'static str,
        /// The id in the file.
        id: u32,
        /// The size of the vocabulary.
        len: usize,
    },
    /// One token of the vocabulary is not what it must be.
    #[error("tokenizer.ggml.tokens: token {id} (`{name}`): {problem}")]
    Token {
        /// The token.
        id: usize,
        /// Its spelling in the vocabulary.
        name: String,
        /// What was expected, and what was found.
        problem: String,
    },
    /// One merge of a byte-pair vocabulary is not what it must be.
    #[error("tokenizer.ggml.merges: merge {index} (`{merge}`): {problem}")]
    Merge {
        /// The place in the list.
        index: usize,
        /// The merge as it is written.
        merge: String,
        /// What was expected, and what was found.
        problem: String,
    },
    /// The rules that rewrite characters are damaged.
    #[error("precompiled_charsmap: {problem}")]
    Charsmap {
        /// What was expected, and what was found.
        problem: String,
    },
    /// A `tokenizer.model` cannot be read.
    #[error("tokenizer.model: {problem}")]
    Model {
        /// What was expected, and what was found.
        problem: String,
    },
    /// A `tokenizer.json` or `tokenizer_config.json` cannot be read.
    #[error("{file}: {problem}")]
    Json {
        /// Which of the two.
        file: &'static str,
        /// What was expected, and what was found.
        problem: String,
    },
    /// A tokenizer cannot be trained.
    #[error("training a tokenizer: {problem}")]
    Training {
        /// What was expected, and what was found.
        problem: String,
    },
    /// A chat template cannot be compiled or rendered.
    #[error("chat template: {0}")]
    Template(String),
}

/// A result whose error is this crate's.
pub type Result<T> = std::result::Result<T, Error>;
