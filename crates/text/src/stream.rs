//! Converting tokens to text.

use crate::{TokenType, Tokenizer};

impl Tokenizer {
    /// Converts tokens to text. Control and unknown tokens are left out, bytes that are not UTF-8 become U+FFFD, ids outside the
    /// vocabulary are ignored, and the space that encoding adds at the beginning is removed.
    pub fn decode(&self, ids: &[u32]) -> String {
        DecodeStream::new(self).decode(self, ids)
    }

    /// The text of a token after others: with the space before it, and the names of control tokens.
    pub fn token_text(&self, id: u32) -> String {
        DecodeStream::after_prompt(self).skip_special(false).decode(self, &[id])
    }

    /// As [`Tokenizer::decode`], with the names of control tokens.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        DecodeStream::with_special(self).decode(self, ids)
    }
}

/// Converts tokens to text one at a time, as they are generated. It returns only complete UTF-8 characters.
#[derive(Debug, Clone)]
pub struct DecodeStream {
    /// The bytes of an incomplete character; fewer than four between two calls.
    pending: Vec<u8>,
    /// The result of the last call.
    text: String,
    special: bool,
    /// Whether a space at the beginning is removed.
    strip: bool,
}

impl DecodeStream {
    /// A stream at the beginning of a text. All results together are what [`Tokenizer::decode`] returns.
    pub fn new(tokenizer: &Tokenizer) -> DecodeStream {
        DecodeStream { pending: Vec::new(), text: String::new(), special: false, strip: tokenizer.space_prefix() }
    }

    /// As [`DecodeStream::new`], with the names of control tokens.
    pub fn with_special(tokenizer: &Tokenizer) -> DecodeStream {
        DecodeStream { special: true, ..DecodeStream::new(tokenizer) }
    }

    /// A stream after a prompt. A space at the beginning is kept.
    pub fn after_prompt(tokenizer: &Tokenizer) -> DecodeStream {
        DecodeStream { strip: false, ..DecodeStream::new(tokenizer) }
    }

    /// The same with or without the names of control tokens.
    pub fn skip_special(self, skip: bool) -> DecodeStream {
        DecodeStream { special: !skip, ..self }
    }

    /// Adds a token and returns the text that it completes, which may be empty. Does not allocate once its buffers have the size
    /// of the longest token.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> &str {
        self.text.clear();
        let shown = tokenizer.token_type(id).is_some_and(|kind| self.special || kind.is_text());
        let mut piece = tokenizer.piece(id).filter(|_| shown).unwrap_or_default();
        if self.strip && !piece.is_empty() {
            let is_text = !matches!(tokenizer.token_type(id), Some(TokenType::Control | TokenType::Unknown));
            if is_text {
                piece = piece.strip_prefix(b" ").unwrap_or(piece);
                self.strip = false;
            }
        }
        self.pending.extend_from_slice(piece);
        let mut done = 0;
        loop {
            let rest = &self.pending[done..];
            match str::from_utf8(rest) {
                Ok(text) => {
                    self.text.push_str(text);
                    done = self.pending.len();
                    break;
                }
                Err(error) => {
                    let (valid, broken) = rest.split_at(error.valid_up_to());
                    self.text.push_str(str::from_utf8(valid).unwrap_or_default());
                    done += valid.len();
                    let Some(len) = error.error_len() else { break };
                    self.text.push(char::REPLACEMENT_CHARACTER);
                    done += len.min(broken.len());
                }
            }
        }
        self.pending.drain(..done);
        &self.text
    }

    /// Ends the text and returns the rest: U+FFFD for an incomplete character. The stream is then empty.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        &self.text
    }

    fn decode(mut self, tokenizer: &Tokenizer, ids: &[u32]) -> String {
        let mut text = String::with_capacity(ids.len() * 4);
        for &id in ids {
            text.push_str(self.push(tokenizer, id));
        }
        text.push_str(self.finish());
        text
    }
}
