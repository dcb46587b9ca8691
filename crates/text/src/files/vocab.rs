//! A vocabulary that was read from a file.

use crate::tokenizer::normalizer::SPACE;
use crate::{Error, Result, Templates, TokenType, Vocab};

/// A vocabulary of a file that is not GGUF, in the terms of GGUF.
#[derive(Debug, Clone)]
pub struct OwnedVocab {
    /// Everything except the other fields.
    pub(crate) rest: Vocab<'static>,
    pub(crate) tokens: Vec<String>,
    pub(crate) merges: Vec<String>,
    pub(crate) templates: Templates,
    pub(crate) warnings: Vec<String>,
}

impl OwnedVocab {
    /// Converts the vocabulary to what a GGUF file can hold: user-defined tokens are matched before a text is normalized, so their names have
    /// spaces and not U+2581.
    ///
    /// # Errors
    /// When a BPE vocabulary of SentencePiece has normalization rules, which GGUF has only for Unigram.
    pub fn for_gguf(mut self) -> Result<OwnedVocab> {
        let normalization = &mut self.rest.normalization;
        if self.rest.model == "llama" && (!normalization.charsmap.is_empty() || normalization.remove_extra_whitespaces)
        {
            let problem = "normalizer_spec: expected none of the rules that a GGUF file cannot hold for BPE, found precompiled_charsmap or \
                remove_extra_whitespaces";
            return Err(Error::vocabulary("tokenizer.model", problem));
        }
        let pieces = std::mem::take(&mut normalization.pieces);
        let names = self.tokens.iter_mut().zip(&*self.rest.token_types).take(pieces);
        for (name, _) in names.filter(|(_, kind)| **kind == TokenType::UserDefined.number()) {
            *name = name.replace(SPACE, " ");
        }
        Ok(self)
    }

    /// The vocabulary, as [`crate::Tokenizer::new`] takes it.
    pub fn vocab(&self) -> Vocab<'_> {
        Vocab {
            tokens: self.tokens.iter().map(String::as_str).collect(),
            merges: self.merges.iter().map(String::as_str).collect(),
            ..self.rest.clone()
        }
    }

    /// The chat templates of `tokenizer_config.json`.
    pub fn templates(&self) -> &Templates {
        &self.templates
    }
}
