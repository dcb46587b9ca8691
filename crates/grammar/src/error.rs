/// Why an answer cannot be constrained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text of a constraint is not what it should be.
    #[error("invalid {what}: {problem}")]
    Invalid {
        /// The kind of constraint, such as `JSON Schema`.
        what: &'static str,
        problem: String,
    },
    /// A schema uses something that is not supported, or is used wrongly.
    #[error("JSON Schema, {path}: {problem}")]
    Schema {
        /// Where it is, as a JSON pointer such as `#/properties/a/uniqueItems`.
        path: String,
        problem: String,
    },
    /// A constraint takes more than [`Limits`](crate::Limits) allow.
    #[error("the {what} is too large: {limit}")]
    Limit {
        what: &'static str,
        /// The limit and its value.
        limit: String,
    },
    /// Nobody waits for the grammar any more, or it took too long.
    #[error("stopped before the grammar was compiled")]
    Stopped,
    /// The tokenizer of a model does not do for grammars.
    #[error("the vocabulary cannot be constrained: {0}")]
    Vocabulary(String),
}
