use crate::{Result, Tokenizer, Vocab, byte_level, sentencepiece, tiktoken};

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
    /// As there, and when a GGUF file cannot say what this tokenizer does.
    pub fn from_json(tokenizer_json: &[u8], tokenizer_config: Option<&[u8]>) -> Result<OwnedVocab> {
        byte_level::read(tokenizer_json, tokenizer_config)
    }

    /// Reads a `tokenizer.model`, which is a file of SentencePiece or of tiktoken: what is in it tells which.
    ///
    /// # Errors
    /// As [`OwnedVocab::from_sentencepiece`] and [`OwnedVocab::from_tiktoken`].
    pub fn from_model(tokenizer_model: &[u8]) -> Result<OwnedVocab> {
        if tiktoken::is_it(tokenizer_model) {
            OwnedVocab::from_tiktoken(tokenizer_model)
        } else {
            OwnedVocab::from_sentencepiece(tokenizer_model)
        }
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
    pub fn from_model(tokenizer_model: &[u8]) -> Result<Tokenizer> {
        Tokenizer::new(OwnedVocab::from_model(tokenizer_model)?.vocab())
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
