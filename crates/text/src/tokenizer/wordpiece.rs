//! WordPiece of BERT (Devlin et al. 2018, arXiv:1810.04805): text is normalized and split into words, and each word is split into the
//! longest tokens from left to right.

use super::encoder::Encoder;
use super::hf::HfEncoder;
use super::normalizer::SPACE;
use super::token_table::TokenTable;
use super::vocab::{TokenType, Vocab};
use crate::{Error, Result};
use serde_json::{Map, Value, json};

/// Loads the GGUF model `bert`, which the tokenizers crate runs. GGUF marks tokens at the start of a word, like `▁sing`, and the crate
/// those that continue a word, like `##ing`.
pub(crate) fn load(vocab: &Vocab, tokens: &TokenTable) -> Result<Box<dyn Encoder>> {
    let file = json(vocab, &tokens.token_types)?;
    let inner = tokenizers::Tokenizer::from_bytes(file.to_string())
        .map_err(|error| Error::vocabulary("tokenizer.ggml.tokens", error.to_string()))?;
    Ok(Box::new(HfEncoder::new(inner, true)))
}

/// The `tokenizer.json` of a vocabulary whose tokens have these types, without what stands around texts.
///
/// # Errors
/// When there is no unknown token.
pub(crate) fn json(vocab: &Vocab, token_types: &[TokenType]) -> Result<Value> {
    let unknown = || token_types.iter().position(|&t| t == TokenType::Unknown).map(|id| id as u32);
    let unk = vocab.unk.or_else(unknown).or_else(|| vocab.named("[UNK]"));
    let unk = unk.ok_or_else(|| Error::token(0, "[UNK]", "expected an unknown token, found none".to_owned()))?;
    let (mut ids, mut added) = (Map::with_capacity(vocab.tokens.len()), Vec::new());
    for ((id, &name), &token_type) in (0u32..).zip(&vocab.tokens).zip(token_types) {
        let name = match (token_type, name.strip_prefix(SPACE)) {
            (TokenType::Normal | TokenType::Unused, Some(word)) if id != unk => word.to_owned(),
            (TokenType::Normal | TokenType::Unused, None) if id != unk => format!("{CONTINUED}{name}"),
            _ => name.to_owned(),
        };
        if !matches!(token_type, TokenType::Normal | TokenType::Unused | TokenType::Byte) && !name.is_empty() {
            added.push(json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": token_type != TokenType::UserDefined}));
        }
        ids.entry(name).or_insert_with(|| id.into());
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": vocab.strip_accents, "lowercase": vocab.lowercase.unwrap_or(true)},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "decoder": {"type": "WordPiece", "prefix": CONTINUED, "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": vocab.tokens[unk as usize], "continuing_subword_prefix": CONTINUED,
            "max_input_chars_per_word": 100, "vocab": ids},
    }))
}

/// The prefix of tokens that continue a word.
const CONTINUED: &str = "##";

/// Tokens that have no space before them in cleaned-up text.
const CLOSE: [&str; 9] = [".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"];

/// Appends the bytes of a token in a GGUF file.
pub(crate) fn gguf(name: &str, token_type: TokenType, piece: &mut Vec<u8>) {
    match (token_type, name.strip_prefix(SPACE)) {
        (TokenType::Normal | TokenType::Unused, Some(word)) => clean(word, token_type, piece),
        _ => piece.extend_from_slice(name.as_bytes()),
    }
}

/// Appends the bytes of a token, without the space before punctuation.
pub(crate) fn clean(name: &str, token_type: TokenType, piece: &mut Vec<u8>) {
    if CLOSE.contains(&name) {
        piece.extend_from_slice(name.as_bytes());
    } else {
        plain(name, token_type, piece);
    }
}

/// Appends the bytes of a token, with a space before the start of a word.
pub(crate) fn plain(name: &str, token_type: TokenType, piece: &mut Vec<u8>) {
    match (token_type, name.strip_prefix(CONTINUED)) {
        (TokenType::Normal | TokenType::Unused, Some(rest)) => piece.extend_from_slice(rest.as_bytes()),
        (TokenType::Normal | TokenType::Unused | TokenType::UserDefined, _) => {
            piece.push(b' ');
            piece.extend_from_slice(name.as_bytes());
        }
        _ => piece.extend_from_slice(name.as_bytes()),
    }
}
