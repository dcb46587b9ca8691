use crate::decoder::check_ids;
use crate::{EmbeddingTokenizer, Error, Memory, Options};
use std::ops::ControlFlow;
use std::path::Path;
use trine_model::{Pooling, PoolingHead, Runner, Spec, TextSettings};

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
    pub(crate) tokenizer: EmbeddingTokenizer,
    pub(crate) warnings: Vec<String>,
    /// Maximum tokens of a pass of several texts.
    pub(crate) batch: usize,
    pub(crate) memory: Memory,
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

    /// The embedding of tokens, as [`Embedder::tokens`] gives them.
    ///
    /// # Errors
    /// As [`Embedder::embed`], and when the model has no such token.
    pub fn embed_tokens(&mut self, ids: &[u32]) -> Result<Vec<f32>, Error> {
        Ok(self.embed_all(&[ids])?.remove(0))
    }

    /// The embeddings of texts by their tokens, several in a pass: faster than one by one, and the same bits.
    ///
    /// ```
    /// use trine::prelude::*;
    ///
    /// let mut embedder = Embedder::open(EMBEDDED)?;
    /// let texts = ["The cat sleeps.", "A dog barks at it."].map(|text| embedder.tokens(text));
    /// let embeddings = embedder.embed_all(&texts)?;
    /// assert_eq!(embeddings[1], embedder.embed_tokens(&texts[1])?);
    /// # Ok::<(), trine::Error>(())
    /// ```
    ///
    /// # Errors
    /// When a text is not as [`Embedder::check`] expects, or a pass fails.
    pub fn embed_all<T: AsRef<[u32]>>(&mut self, texts: &[T]) -> Result<Vec<Vec<f32>>, Error> {
        texts.iter().try_for_each(|ids| check_ids(ids.as_ref(), self.spec()))?;
        Ok(self.pooling_head.embed(&mut *self.runner, texts, self.tokenizer.prompt_tokens(), self.batch)?)
    }

    /// Checks the tokens of a text.
    ///
    /// # Errors
    /// When there are none beside those of the prompt, or more than the model's context, or the model has no such token.
    pub fn check(&self, ids: &[u32]) -> Result<(), Error> {
        self.tokenizer.check(ids)
    }

    /// The memory that was planned for it.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Maximum tokens of texts that share a pass: `engine.prefill_chunk` of the [`Options`].
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The tokens of a text after the prompt, with those that the model puts around it, and no more than the folder of the model says.
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        self.tokenizer.tokens(text)
    }

    /// [`Embedder::tokens`], and the number of tokens that were left out at the end of the text, or at its beginning if
    /// [`TextSettings::cut_left`].
    pub fn encode(&self, text: &str) -> (Vec<u32>, usize) {
        self.tokenizer.encode(text)
    }

    /// What makes tokens of texts, for threads that do so while the model is busy. It has the prompt that is chosen now.
    pub fn tokenizer(&self) -> &EmbeddingTokenizer {
        &self.tokenizer
    }

    /// What the files of sentence-transformers say about texts: prompts by their names, and the longest text.
    pub fn texts(&self) -> &TextSettings {
        self.pooling_head.texts()
    }

    /// The text that precedes others; empty if there is none. It is the model's default until another is chosen.
    pub fn prompt(&self) -> &str {
        self.tokenizer.prompt()
    }

    /// Chooses the prompt that precedes texts by its name among [`TextSettings::prompts`], or none.
    ///
    /// # Errors
    /// When the model has no prompt of this name.
    pub fn choose_prompt(&mut self, name: Option<&str>) -> Result<(), Error> {
        self.tokenizer.choose_prompt(name)
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
        &self.warnings
    }
}
