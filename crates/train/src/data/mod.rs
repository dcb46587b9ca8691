//! What a model learns from: documents, their tokens, and sequences into which they are packed.

mod cache;
mod documents;
mod packing;
mod split;
mod tokenize;
mod tokens;

pub(crate) use cache::{hex, language};
pub use documents::{Documents, Parting};
pub use packing::{Origin, Packing, Row};
pub use tokens::{Corpus, Tokens};
