//! What a model learns from: documents, their tokens, and sequences into which they are packed.
