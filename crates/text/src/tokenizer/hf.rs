//! Tokenizers that the `tokenizers` crate of Hugging Face runs.

use super::encoder::Encoder;
use super::special::Parse;
use super::token_table::TokenTable;
use crate::rendered::BREAK;
use std::borrow::Cow;
use tokenizers::{AddedVocabulary, Encoding, OffsetType, PreTokenizer};

/// A tokenizer that is run by the `tokenizers` crate.
#[derive(Debug)]
pub(crate) struct HfEncoder {
    inner: tokenizers::Tokenizer,
    /// The added tokens without the special ones, whose names are then plain text.
    without_special: AddedVocabulary,
    space_prefix: bool,
}

impl HfEncoder {
    pub fn new(inner: tokenizers::Tokenizer, space_prefix: bool) -> HfEncoder {
        let mut without_special = inner.get_added_vocabulary().clone();
        without_special.set_encode_special_tokens(true);
        HfEncoder { inner, without_special, space_prefix }
    }
}

impl Encoder for HfEncoder {
    fn encode(&self, _: &TokenTable, text: &str, parse: Parse, ids: &mut Vec<u32>) {
        let added = if parse.control { self.inner.get_added_vocabulary() } else { &self.without_special };
        let text = parse.mark(text, 0);
        let mut pieces = added.extract_and_normalize(self.inner.get_normalizer(), &text);
        if matches!(text, Cow::Owned(_)) {
            let _ = pieces.normalize(|piece| {
                piece.filter(|c| c != BREAK);
                Ok(())
            });
        }
        if let Some(splitter) = self.inner.get_pre_tokenizer() {
            // If a pre-tokenizer fails, the pieces that it has made so far are used.
            let _ = splitter.pre_tokenize(&mut pieces);
        }
        let model = self.inner.get_model();
        let spelled = pieces.tokenize(|piece| Ok(tokenizers::Model::tokenize(model, piece.get()).unwrap_or_default()));
        let encoding = spelled.and_then(|()| pieces.into_encoding(None, 0, OffsetType::None));
        ids.extend(encoding.iter().flat_map(Encoding::get_ids));
    }

    fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}
