use crate::normalize::SPACE;
use crate::{Error, Kind, Result, Tokenizer, Vocab, byte_level, config, of_json, sentencepiece, tiktoken};

/// A vocabulary out of another file than GGUF, as a GGUF file says it.
#[derive(Debug, Clone)]
pub struct OwnedVocab {
    /// All but what lies in the other fields.
    pub(crate) rest: Vocab<'static>,
    pub(crate) tokens: Vec<String>,
    pub(crate) merges: Vec<String>,
    pub(crate) chat_template: Option<String>,
}

impl OwnedVocab {
    /// Reads the files that [`Tokenizer::from_json`] reads.
    ///
    /// # Errors
    /// As there, and when it is not plain byte-level BPE, WordPiece or Unigram.
    pub fn from_json(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<OwnedVocab> {
        let tokenizer = Tokenizer::from_json(tokenizer_json, tokenizer_config)?;
        match of_json::read(&tokenizer, tokenizer_json)? {
            Some(vocab) => Ok(vocab),
            None => byte_level::read(tokenizer, tokenizer_json),
        }
    }

    /// Reads a `tokenizer.model`, which is a file of SentencePiece or of tiktoken (what is in it tells which), and what a
    /// `tokenizer_config.json` adds: tokens, BOS, EOS, whether they are added, and the chat template.
    ///
    /// # Errors
    /// As [`OwnedVocab::from_sentencepiece`] and [`OwnedVocab::from_tiktoken`], and for added tokens that ask for more.
    pub fn from_model(tokenizer_model: &[u8], tokenizer_config: Option<&[u8]>) -> Result<OwnedVocab> {
        let mut vocab = if tiktoken::is_it(tokenizer_model) {
            OwnedVocab::from_tiktoken(tokenizer_model)?
        } else {
            OwnedVocab::from_sentencepiece(tokenizer_model)?
        };
        config::apply(&config::parse(tokenizer_config)?, &mut vocab)?;
        Ok(vocab)
    }

    /// Reads the ranks of tiktoken, a line for each token.
    ///
    /// # Errors
    /// When they are damaged, or not those of Llama 3: the file says nothing of how texts are split into words.
    pub fn from_tiktoken(ranks: &[u8]) -> Result<OwnedVocab> {
        tiktoken::read(ranks)
    }

    /// Reads SentencePiece's own file, `tokenizer.model`.
    ///
    /// # Errors
    /// When it is damaged, or asks for what is not known here.
    pub fn from_sentencepiece(tokenizer_model: &[u8]) -> Result<OwnedVocab> {
        sentencepiece::read(tokenizer_model)
    }

    /// As a GGUF file can say it, where user-defined tokens are found in a text before it is rewritten, and have spaces as they are.
    ///
    /// # Errors
    /// When SentencePiece's BPE rewrites texts: a GGUF file has rules only for its Unigram.
    pub fn for_gguf(mut self) -> Result<OwnedVocab> {
        let normalization = &mut self.rest.normalization;
        if self.rest.model == "llama" && (!normalization.charsmap.is_empty() || normalization.remove_extra_whitespaces)
        {
            let problem = "normalizer_spec: expected none of the rules that a GGUF file cannot hold for BPE, found precompiled_charsmap or \
                remove_extra_whitespaces";
            return Err(Error::Model { problem: problem.to_owned() });
        }
        if std::mem::take(&mut normalization.whole) {
            for (name, _) in self
                .tokens
                .iter_mut()
                .zip(&*self.rest.types)
                .filter(|(_, kind)| **kind == Kind::UserDefined.token_type())
            {
                *name = name.replace(SPACE, " ");
            }
        }
        Ok(self)
    }

    /// What a GGUF file says.
    pub fn vocab(&self) -> Vocab<'_> {
        Vocab {
            tokens: self.tokens.iter().map(String::as_str).collect(),
            merges: self.merges.iter().map(String::as_str).collect(),
            ..self.rest.clone()
        }
    }

    /// The chat template that came with it.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.model`, as [`OwnedVocab::from_model`].
    ///
    /// # Errors
    /// As there.
    pub fn from_model(tokenizer_model: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Tokenizer> {
        let vocab = OwnedVocab::from_model(tokenizer_model, tokenizer_config)?;
        let tokenizer = Tokenizer::new(vocab.vocab())?;
        Ok(Tokenizer { chat_template: vocab.chat_template, ..tokenizer })
    }

    /// Reads the ranks of tiktoken, as [`OwnedVocab::from_tiktoken`].
    ///
    /// # Errors
    /// As there.
    pub fn from_tiktoken(ranks: &[u8]) -> Result<Tokenizer> {
        Tokenizer::new(OwnedVocab::from_tiktoken(ranks)?.vocab())
    }

    /// Reads SentencePiece's own file, `tokenizer.model`: its BPE and its Unigram.
    ///
    /// # Errors
    /// When it is damaged, or asks for what is not known here.
    pub fn from_sentencepiece(tokenizer_model: &[u8]) -> Result<Tokenizer> {
        Tokenizer::new(OwnedVocab::from_sentencepiece(tokenizer_model)?.vocab())
    }
}
