use crate::Tokenizer;
use crate::vocab::Kind;

/// Tokens to text one at a time, as they are generated: only whole UTF-8 comes out.
#[derive(Debug, Clone)]
pub struct Stream {
    /// Bytes that do not make a character yet: fewer than four between two calls.
    pending: Vec<u8>,
    /// What the last call gave.
    text: String,
    special: bool,
    /// Whether a space at the beginning is the one that encoding puts there.
    strip: bool,
}

impl Stream {
    /// From the beginning of a text: all that is pushed is what [`Tokenizer::decode`] gives for the same tokens.
    pub fn new(tokenizer: &Tokenizer) -> Stream {
        Stream { pending: Vec::new(), text: String::new(), special: false, strip: tokenizer.space_prefix() }
    }

    /// As [`Stream::new`], with the names of control tokens, as in [`Tokenizer::decode_with_special`].
    pub fn with_special(tokenizer: &Tokenizer) -> Stream {
        Stream { special: true, ..Stream::new(tokenizer) }
    }

    /// Behind a prompt: a space at the beginning is text, since nothing was put in front of what is generated.
    pub fn behind_prompt(tokenizer: &Tokenizer) -> Stream {
        Stream { strip: false, ..Stream::new(tokenizer) }
    }

    /// Takes a token and gives the text that became whole with it, if any. Allocates nothing once its buffers have
    /// grown to the longest token.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> &str {
        self.text.clear();
        let shown = tokenizer.kind(id).is_some_and(|kind| self.special || kind.is_text());
        let mut piece = tokenizer.piece(id).filter(|_| shown).unwrap_or_default();
        if self.strip && !piece.is_empty() {
            let is_text = !matches!(tokenizer.kind(id), Some(Kind::Control | Kind::Unknown));
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

    /// What is left at the end: U+FFFD for a character that never became whole. The stream is then empty.
    pub fn finish(&mut self) -> &str {
        self.text.clear();
        if !self.pending.is_empty() {
            self.pending.clear();
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        &self.text
    }
}
