//! A text as tokens, with how much of it each stands for.

use super::Error;
use trine_text::{EncodeOptions, TokenType, Tokenizer};

/// Documents as a model reads them.
pub struct Text {
    /// What stands in front of every window.
    pub(super) bos: Option<u32>,
    pub(super) documents: Vec<Vec<ScoredToken>>,
    /// Tokens that may end a document; empty when none does.
    ends: Vec<u32>,
}

/// A token, and what of the text it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ScoredToken {
    /// The token; any of [`Text::targets`] at the end of a document.
    pub id: u32,
    /// Whether it is the end of a document.
    pub end: bool,
    pub bytes: u32,
    /// Characters that begin in it.
    pub characters: u32,
}

impl Text {
    /// Tokens of documents, BOS in front where the tokenizer adds it. Names of control tokens in the text are plain text. With `end`, each
    /// document's end is a token, too: any of those at which generation ends ([`Tokenizer::eog_tokens`]), since models do not agree on which one of
    /// them ends a text. No more than `most` tokens are taken, of which the last document may be cut.
    ///
    /// # Errors
    /// [`Error::Spelling`] when tokens are not the whole text, byte by byte: bits per byte would be those of another text.
    pub fn new(tokenizer: &Tokenizer, documents: &[String], end: bool, most: usize) -> Result<Text, Error> {
        let bos = tokenizer.bos().filter(|_| tokenizer.adds_bos());
        let ends: Vec<u32> = tokenizer.eog_tokens().filter(|_| end).collect();
        let mut left = most;
        let mut all = Vec::new();
        for (i, text) in documents.iter().enumerate() {
            let mut tokens = spelled(tokenizer, text).map_err(|at| Error::Spelling {
                document: i + 1,
                at,
                text: text[text.floor_char_boundary(at)..].chars().take(20).collect(),
            })?;
            tokens.extend(ends.first().map(|&id| ScoredToken { id, end: true, bytes: 0, characters: 0 }));
            tokens.truncate(left);
            left -= tokens.len();
            all.push(tokens);
            if left == 0 {
                break;
            }
        }
        Ok(Text { bos, documents: all, ends })
    }

    /// Whether BOS stands in front of windows.
    pub fn has_bos(&self) -> bool {
        self.bos.is_some()
    }

    /// Whether documents' ends are tokens.
    pub fn has_ends(&self) -> bool {
        !self.ends.is_empty()
    }

    /// The tokens that may stand in the place of one.
    pub(super) fn targets<'a>(&'a self, token: &'a ScoredToken) -> &'a [u32] {
        if token.end { &self.ends } else { std::slice::from_ref(&token.id) }
    }

    /// Tokens, less BOS.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(Vec::len).sum()
    }
}

/// The tokens of a text, or the first byte that they do not spell.
fn spelled(tokenizer: &Tokenizer, text: &str) -> Result<Vec<ScoredToken>, usize> {
    let ids = tokenizer.encode(text, EncodeOptions::default());
    let piece = |id: u32| {
        let is_text = !matches!(tokenizer.token_type(id), Some(TokenType::Control | TokenType::Unknown));
        tokenizer.piece(id).filter(|_| is_text).unwrap_or_default()
    };
    // The space that encoding puts in front is no text.
    let added = ids.iter().map(|&id| piece(id).len()).sum::<usize>() == text.len() + 1;
    let (mut at, mut strip) = (0, added);
    let mut tokens = Vec::with_capacity(ids.len() + 1);
    for id in ids {
        let mut bytes = piece(id);
        if strip && !bytes.is_empty() {
            bytes = bytes.strip_prefix(b" ").ok_or(0usize)?;
            strip = false;
        }
        let rest = &text.as_bytes()[at..];
        if !rest.starts_with(bytes) {
            return Err(at + rest.iter().zip(bytes).take_while(|(a, b)| a == b).count());
        }
        at += bytes.len();
        let characters = bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count() as u32;
        tokens.push(ScoredToken { id, end: false, bytes: bytes.len() as u32, characters });
    }
    if at == text.len() { Ok(tokens) } else { Err(at) }
}
