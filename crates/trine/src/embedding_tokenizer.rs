use crate::Error;
use crate::decoder::check_ids;
use std::sync::Arc;
use trine_model::{PoolingHead, Spec, TextSettings};
use trine_text::{EncodeOptions, Tokenizer};

/// Makes the tokens of texts as an [`Embedder`](crate::Embedder) does, on any thread, while that is busy.
///
/// ```
/// use trine::prelude::*;
///
/// let mut embedder = Embedder::open(EMBEDDED)?;
/// let tokenizer = embedder.tokenizer().clone();
/// let ids = std::thread::spawn(move || tokenizer.tokens("The cat sleeps.")).join().unwrap();
/// assert_eq!(embedder.embed_tokens(&ids)?, embedder.embed("The cat sleeps.")?);
/// # Ok::<(), trine::Error>(())
/// ```
#[derive(Clone)]
pub struct EmbeddingTokenizer {
    tokenizer: Arc<Tokenizer>,
    texts: TextSettings,
    spec: Spec,
    /// Precedes every text.
    prompt: String,
    /// Tokens of the prompt that take no part in pooling.
    prompt_tokens: usize,
}

impl EmbeddingTokenizer {
    /// With the default prompt of the model.
    pub(crate) fn new(tokenizer: Tokenizer, texts: TextSettings, spec: Spec) -> Result<EmbeddingTokenizer, Error> {
        let default_prompt = texts.default_prompt.clone();
        let mut own =
            EmbeddingTokenizer { tokenizer: Arc::new(tokenizer), texts, spec, prompt: String::new(), prompt_tokens: 0 };
        if let Some(name) = default_prompt {
            own.choose_prompt(Some(&name))?;
        }
        Ok(own)
    }

    /// [`Embedder::tokens`](crate::Embedder::tokens).
    pub fn tokens(&self, text: &str) -> Vec<u32> {
        self.encode(text).0
    }

    /// [`Embedder::encode`](crate::Embedder::encode).
    pub fn encode(&self, text: &str) -> (Vec<u32>, usize) {
        let TextSettings { lowercase, max_tokens, cut_left, .. } = self.texts;
        let mut text = format!("{}{text}", self.prompt);
        if lowercase {
            text = text.chars().flat_map(char::to_lowercase).collect();
        }
        let mut ids = self.ids(&text, true);
        let Some(cut) = max_tokens.and_then(|most| ids.len().checked_sub(most)).filter(|&cut| cut > 0) else {
            return (ids, 0);
        };
        // The tokens around the text stay.
        let own = self.ids(&text, false);
        let start = (0..=ids.len().saturating_sub(own.len())).find(|&start| ids[start..].starts_with(&own));
        let (start, end) = start.map_or((0, ids.len()), |start| (start, start + own.len()));
        ids.drain(if cut_left { start..end.min(start + cut) } else { end.saturating_sub(cut)..end });
        (ids, cut)
    }

    fn ids(&self, text: &str, add_special: bool) -> Vec<u32> {
        self.tokenizer.encode(text, EncodeOptions { parse_special: true, add_special })
    }

    /// [`Embedder::check`](crate::Embedder::check).
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, ids: &[u32]) -> Result<(), Error> {
        check_ids(ids, &self.spec)?;
        Ok(PoolingHead::check_length(&self.spec, ids.len(), self.prompt_tokens)?)
    }

    /// The text that precedes others; empty if there is none.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    pub(crate) fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    pub(crate) fn choose_prompt(&mut self, name: Option<&str>) -> Result<(), Error> {
        let known = &self.texts.prompts;
        self.prompt = match name {
            None => String::new(),
            Some(name) => match known.iter().find(|(known, _)| known == name) {
                Some((_, prompt)) => prompt.clone(),
                None => {
                    let names = known.iter().map(|(name, _)| name.clone()).collect();
                    return Err(Error::UnknownPrompt { found: name.to_owned(), known: names });
                }
            },
        };
        // As sentence-transformers counts them: with the tokens before the prompt, and without the one after it.
        let outside = !self.texts.include_prompt && !self.prompt.is_empty();
        let ids = if outside { self.ids(&self.prompt, true) } else { Vec::new() };
        let after = ids.last().is_some_and(|last| !self.ids(&self.prompt, false).ends_with(&[*last]));
        self.prompt_tokens = ids.len() - usize::from(after);
        Ok(())
    }
}
