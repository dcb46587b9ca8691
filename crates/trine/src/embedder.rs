use crate::decoder::check_ids;
use crate::{Error, Options};
use std::ops::ControlFlow;
use std::path::Path;
use trine_model::{Language, Pooling, PoolingHead, Runner, Spec};
use trine_text::EncodeOptions;

/// A model that makes embeddings: unit-length vectors; their dot product is the cosine similarity.
///
/// ```
/// use trine::prelude::*;
///
/// let mut embedder = Embedder::open(EMBEDDED)?; // or bert, nomic-bert, qwen3-embedding, gemma-embedding, ...
/// let [cat, dog] = ["The cat sleeps.", "The dog sleeps."].map(|text| embedder.embed(text));
/// let (cat, dog) = (cat?, dog?);
/// let likeness: f32 = cat.iter().zip(&dog).map(|(a, b)| a * b).sum();
/// # assert!(cat.len() == embedder.width() && likeness <= 1.0 + 1e-6);
/// # assert!(embedder.embed("").is_err() || embedder.tokens("").len() > 0);
/// # Ok::<(), trine::Error>(())
/// ```
pub struct Embedder {
    pub(crate) runner: Box<dyn Runner>,
    pub(crate) pooling_head: PoolingHead,
    pub(crate) language: Language,
}

impl Embedder {
    /// Loads a model with default [`Options`].
    ///
    /// # Errors
    /// When the file cannot be opened or makes no sense.
    pub fn open(path: impl AsRef<Path>) -> Result<Embedder, Error> {
        Options::default().load_embedder(path, &mut |_| ControlFlow::Continue(()))
    }

    /// The embedding of a text.
    ///
    /// # Errors
    /// When it has no tokens, or more than the model's context.
    pub fn embed(&mut self, text: &str) -> Result<Vec<f32>, Error> {
        let ids = self.tokens(text);
        self.embed_tokens(&ids)
    }

    /// The embedding of tokens.
    ///
    /// # Errors
    /// As [`Embedder::embed`], and when the model has no such token.
    pub fn embed_tokens(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        check_ids(ids, self.spec())?;
        Ok(self.pooling_head.embed(&mut *self.runner, ids)?)
    }

    /// The tokens of a text, with those that the model puts around it.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        self.language.tokenizer.encode(text, EncodeOptions { parse_special: false, add_special: true })
    }

    /// Numbers of an embedding.
    pub fn width(&self) -> usize {
        self.pooling_head.width()
    }

    /// What becomes of the states of a text's tokens.
    pub fn pooling(&self) -> Pooling {
        self.pooling_head.pooling()
    }

    /// What the model is.
    pub fn spec(&self) -> &Spec {
        self.runner.spec()
    }

    /// What was assumed about the model, and why.
    pub fn warnings(&self) -> &[String] {
        &self.language.warnings
    }
}
