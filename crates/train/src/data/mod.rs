//! What a model learns from: documents, their tokens, and sequences into which they are packed.

mod documents;

pub use documents::Documents;
