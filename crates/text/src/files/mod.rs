//! Tokenizers in files other than GGUF: `tokenizer.json` of Hugging Face, and `tokenizer.model` of SentencePiece and tiktoken.

pub(crate) mod hf;
mod same;
mod sentencepiece;
mod tiktoken;
pub(crate) mod vocab;

use crate::{Result, Tokenizer};
use hf::config;
use vocab::OwnedVocab;

impl OwnedVocab {
    /// Reads a `tokenizer.json`, as [`Tokenizer::from_json`].
    ///
    /// # Errors
    /// When it is malformed, or is no BPE, WordPiece or Unigram that GGUF can hold.
    pub fn from_json(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<OwnedVocab> {
        let tokenizer = Tokenizer::from_json(tokenizer_json, tokenizer_config)?;
        let inner = hf::parse(tokenizer_json, &config::parse(tokenizer_config)?, &mut Vec::new())?;
        let vocab = match hf::to_gguf::read(&tokenizer, &inner, tokenizer_json)? {
            Some(vocab) => vocab,
            None => hf::bpe::read(&tokenizer, &inner, tokenizer_json)?,
        };
        let added = inner.get_added_vocabulary().get_added_tokens_decoder().values();
        let normalized: Vec<&str> = added.filter(|token| token.normalized).map(|token| &*token.content).collect();
        same::check(&tokenizer, &normalized, &vocab)?;
        Ok(vocab)
    }

    /// Reads a `tokenizer.model`, which is by its content a file of SentencePiece or of tiktoken, and from its
    /// `tokenizer_config.json` added tokens, BOS, EOS, whether they are added, and the chat templates.
    ///
    /// # Errors
    /// As [`OwnedVocab::from_sentencepiece`] and [`OwnedVocab::from_tiktoken`], and when an added token has options that GGUF lacks.
    pub fn from_model(tokenizer_model: &[u8], tokenizer_config: Option<&[u8]>) -> Result<OwnedVocab> {
        let mut vocab = if tiktoken::detect(tokenizer_model) {
            OwnedVocab::from_tiktoken(tokenizer_model)?
        } else {
            OwnedVocab::from_sentencepiece(tokenizer_model)?
        };
        config::apply(&config::parse(tokenizer_config)?, &mut vocab)?;
        Ok(vocab)
    }

    /// Reads a file of tiktoken's ranks, one line per token.
    ///
    /// # Errors
    /// When it is malformed, or is not that of Llama 3. The file has no pre-tokenizer, so only known vocabularies can be read.
    pub fn from_tiktoken(ranks: &[u8]) -> Result<OwnedVocab> {
        tiktoken::read(ranks)
    }

    /// Reads a `tokenizer.model` of SentencePiece with BPE or Unigram.
    ///
    /// # Errors
    /// When it is malformed, or has a feature that is not implemented.
    pub fn from_sentencepiece(tokenizer_model: &[u8]) -> Result<OwnedVocab> {
        sentencepiece::read(tokenizer_model)
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.model`.
    ///
    /// # Errors
    /// As [`OwnedVocab::from_model`].
    pub fn from_model(tokenizer_model: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Tokenizer> {
        let vocab = OwnedVocab::from_model(tokenizer_model, tokenizer_config)?;
        let mut tokenizer = Tokenizer::new(vocab.vocab())?;
        tokenizer.warnings.splice(0..0, vocab.warnings);
        Ok(Tokenizer { templates: vocab.templates, ..tokenizer })
    }

    /// Reads a file of tiktoken's ranks.
    ///
    /// # Errors
    /// As [`OwnedVocab::from_tiktoken`].
    pub fn from_tiktoken(ranks: &[u8]) -> Result<Tokenizer> {
        Tokenizer::new(OwnedVocab::from_tiktoken(ranks)?.vocab())
    }

    /// Reads a `tokenizer.model` of SentencePiece with BPE or Unigram.
    ///
    /// # Errors
    /// As [`OwnedVocab::from_sentencepiece`].
    pub fn from_sentencepiece(tokenizer_model: &[u8]) -> Result<Tokenizer> {
        Tokenizer::new(OwnedVocab::from_sentencepiece(tokenizer_model)?.vocab())
    }
}
