use super::Error;
use trine_text::{EncodeOptions, Tokenizer};

/// A text cut into chunks of equal length, as llama.cpp cuts it: BOS takes the place of the first token of each if the model uses it, and
/// what follows the second half is predicted. What does not fill a chunk is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    context: usize,
    ids: Vec<u32>,
    bos: Option<u32>,
}

impl Chunks {
    /// At most `most` chunks of `context` tokens of a text. Names of control tokens in the text are plain text.
    ///
    /// # Errors
    /// When the text has too few tokens for one chunk.
    pub fn new(tokenizer: &Tokenizer, text: &str, context: usize, most: usize) -> Result<Chunks, Error> {
        let ids = tokenizer.encode(text, EncodeOptions { add_special: true, parse_special: false });
        Chunks::of_ids(tokenizer, ids, context, most)
    }

    /// The same of tokens.
    pub(super) fn of_ids(
        tokenizer: &Tokenizer,
        mut ids: Vec<u32>,
        context: usize,
        most: usize,
    ) -> Result<Chunks, Error> {
        let chunks = (ids.len() / context.max(1)).min(most);
        if chunks == 0 {
            return Err(Error::TooShort { context, tokens: ids.len() });
        }
        ids.truncate(chunks * context);
        Ok(Chunks { context, ids, bos: tokenizer.bos().filter(|_| tokenizer.adds_bos()) })
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
