//! Training data: documents, their tokens, and the sequences into which they are packed.

mod cache;
mod corpus;
mod documents;
mod packed;
mod tokenize;
mod tokens;
mod validation;

pub(crate) use cache::{hex, tokenizer_hash};
pub use documents::{DocumentFormat, Documents};
pub use packed::{Origin, PackedDataset, PackedRow};
pub use tokenize::Unspelled;
pub use tokens::{Corpus, TokenizedDocuments};
