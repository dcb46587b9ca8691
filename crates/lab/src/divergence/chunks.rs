use super::Error;
use std::cmp::Reverse;
use trine_text::{EncodeOptions, Tokenizer};

/// The least tokens of a chunk of which one is predicted.
pub const LEAST_CONTEXT: usize = 4;

/// Documents cut into chunks of equal length, as llama.cpp cuts a text, but none with tokens of two documents: BOS takes the place of the first
/// token of each if the model uses it, and what follows the second half is predicted. What does not fill a chunk is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    context: usize,
    ids: Vec<u32>,
    bos: Option<u32>,
}

impl Chunks {
    /// At most `most` chunks of `context` tokens. Names of control tokens in the documents are plain text.
    ///
    /// # Errors
    /// When no document has enough tokens for a chunk.
    pub fn new<T: AsRef<str>>(
        tokenizer: &Tokenizer,
        documents: &[T],
        context: usize,
        most: usize,
    ) -> Result<Chunks, Error> {
        Chunks::cut(tokenizer, &tokens(tokenizer, documents), context, most)
    }

    /// The same with a context of at most `context` tokens that documents with three quarters of all tokens fill.
    ///
    /// # Errors
    /// As [`Chunks::new`].
    pub fn fitting<T: AsRef<str>>(
        tokenizer: &Tokenizer,
        documents: &[T],
        context: usize,
        most: usize,
    ) -> Result<Chunks, Error> {
        let documents = tokens(tokenizer, documents);
        let mut lengths: Vec<usize> = documents.iter().map(Vec::len).collect();
        lengths.sort_unstable_by_key(|&length| Reverse(length));
        let (most_of_all, mut sum) = (lengths.iter().sum::<usize>() * 3 / 4, 0);
        let filled = lengths.into_iter().find(|length| {
            sum += length;
            sum > most_of_all
        });
        Chunks::cut(tokenizer, &documents, context.min(filled.unwrap_or(0).max(LEAST_CONTEXT)), most)
    }

    fn cut(tokenizer: &Tokenizer, documents: &[Vec<u32>], context: usize, most: usize) -> Result<Chunks, Error> {
        let chunks = documents.iter().flat_map(|ids| ids.chunks_exact(context.max(1)));
        let ids: Vec<u32> = chunks.take(most).flatten().copied().collect();
        if ids.is_empty() {
            let tokens = documents.iter().map(Vec::len).max().unwrap_or(0);
            return Err(Error::TooShort { context, tokens });
        }
        Ok(Chunks { context, ids, bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()) })
    }

    /// The chunks of a file of logits, of which each has `context` of the tokens.
    pub(super) fn of_ids(tokenizer: &Tokenizer, ids: Vec<u32>, context: usize, most: usize) -> Result<Chunks, Error> {
        Chunks::cut(tokenizer, &[ids], context, most)
    }

    /// Their number.
    pub fn len(&self) -> usize {
        self.ids.len() / self.context
    }

    /// There is at least one.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Tokens of each.
    pub fn context(&self) -> usize {
        self.context
    }

    /// All tokens, `[len, context]`, before BOS took places.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Predictions that are compared in each.
    pub fn scored(&self) -> usize {
        self.context - 1 - self.context / 2
    }

    /// What the model reads of a chunk: all but the last token.
    pub(super) fn inputs(&self, chunk: usize) -> Vec<u32> {
        let mut ids = self.ids[chunk * self.context..][..self.context - 1].to_vec();
        ids[0] = self.bos.unwrap_or(ids[0]);
        ids
    }

    /// The tokens of the text that are predicted.
    pub(super) fn targets(&self, chunk: usize) -> &[u32] {
        &self.ids[chunk * self.context..][self.context / 2 + 1..self.context]
    }
}

fn tokens<T: AsRef<str>>(tokenizer: &Tokenizer, documents: &[T]) -> Vec<Vec<u32>> {
    let options = EncodeOptions { add_special: true, parse_special: false };
    documents.iter().map(|text| tokenizer.encode(text.as_ref(), options)).collect()
}
