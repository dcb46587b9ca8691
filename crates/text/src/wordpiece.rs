//! WordPiece, of BERT (Devlin et al. 2018, arXiv:1810.04805): a text is cleaned and split into words, and of each word the longest token
//! that it begins with is taken, again and again.

use crate::hub::Hub;
use crate::normalize::SPACE;
use crate::tokenizer::Model;
use crate::tokens::Tokens;
use crate::{Error, Kind, Result, Vocab};
use serde_json::{Map, json};

/// GGUF model `bert`, run by the library that defines it: it writes tokens that go on with a word as `##ing`, GGUF those that begin one
/// as `▁sing`.
pub(crate) fn load(vocab: &Vocab, tokens: &Tokens) -> Result<Box<dyn Model>> {
    let wrong = |problem| Error::Token { id: 0, name: "[UNK]".to_owned(), problem };
    let of_kind = |wanted| tokens.kinds.iter().position(|&kind| kind == wanted).map(|id| id as u32);
    let named = || tokens.id(b"[UNK]");
    let unk = vocab.unk.or_else(|| of_kind(Kind::Unknown)).or_else(named);
    let unk = unk.ok_or_else(|| wrong("expected an unknown token, found none".to_owned()))?;
    let (mut ids, mut added) = (Map::with_capacity(vocab.tokens.len()), Vec::new());
    for ((id, &name), &kind) in (0u32..).zip(&vocab.tokens).zip(&tokens.kinds) {
        let name = match (kind, name.strip_prefix(SPACE)) {
            (Kind::Normal | Kind::Unused, Some(word)) if id != unk => word.to_owned(),
            (Kind::Normal | Kind::Unused, None) if id != unk => format!("{CONTINUED}{name}"),
            _ => name.to_owned(),
        };
        if !matches!(kind, Kind::Normal | Kind::Unused | Kind::Byte) && !name.is_empty() {
            added.push(json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": kind != Kind::UserDefined}));
        }
        ids.entry(name).or_insert_with(|| id.into());
    }
    let file = json!({
        "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": vocab.strip_accents, "lowercase": vocab.lowercase.unwrap_or(true)},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "model": {"type": "WordPiece", "unk_token": vocab.tokens[unk as usize], "continuing_subword_prefix": CONTINUED,
            "max_input_chars_per_word": 100, "vocab": ids},
    });
    let inner = tokenizers::Tokenizer::from_bytes(file.to_string()).map_err(|error| wrong(error.to_string()))?;
    Ok(Box::new(Hub::new(inner, true)))
}

/// What a token begins with that goes on with a word.
const CONTINUED: &str = "##";

/// Tokens without a space in front of them in a text that is cleaned up.
const CLOSE: [&str; 9] = [".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"];

/// Appends what a token of a GGUF file stands for.
pub(crate) fn gguf(name: &str, kind: Kind, piece: &mut Vec<u8>) {
    match (kind, name.strip_prefix(SPACE)) {
        (Kind::Normal | Kind::Unused, Some(word)) => clean(word, kind, piece),
        _ => piece.extend_from_slice(name.as_bytes()),
    }
}

/// Appends what a token stands for, without the spaces that tokens bring before punctuation.
pub(crate) fn clean(name: &str, kind: Kind, piece: &mut Vec<u8>) {
    if CLOSE.contains(&name) {
        piece.extend_from_slice(name.as_bytes());
    } else {
        plain(name, kind, piece);
    }
}

/// Appends what a token stands for: with a space before it where it begins a word.
pub(crate) fn plain(name: &str, kind: Kind, piece: &mut Vec<u8>) {
    match (kind, name.strip_prefix(CONTINUED)) {
        (Kind::Normal | Kind::Unused, Some(rest)) => piece.extend_from_slice(rest.as_bytes()),
        (Kind::Normal | Kind::Unused | Kind::UserDefined, _) => {
            piece.push(b' ');
            piece.extend_from_slice(name.as_bytes());
        }
        _ => piece.extend_from_slice(name.as_bytes()),
    }
}
