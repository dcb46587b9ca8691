//! The algorithm of a tokenizer.

use super::special::Parse;
use super::token_table::TokenTable;
use std::fmt::Debug;

/// Splits text into tokens. Tokenizers differ in this alone.
pub(crate) trait Encoder: Debug + Send + Sync {
    /// Appends the ids of the tokens of `text` to `ids`.
    fn encode(&self, tokens: &TokenTable, text: &str, parse: Parse, ids: &mut Vec<u32>);

    /// Whether encoding puts a space before a text, which decoding removes.
    fn space_prefix(&self) -> bool;
}
