//! A rendered chat, which keeps apart what its template wrote and what its messages say.

/// Where a name of a token must not be read. It stands inside texts while a template carries them, and is no character of Unicode's: texts
/// lose it before.
pub(crate) const BREAK: char = '\u{fdd0}';

/// A [`BREAK`] for names of control tokens alone.
pub(crate) const CONTROL_BREAK: char = '\u{fdd1}';

/// Whether `c` is one of the breaks.
pub(crate) fn is_break(c: char) -> bool {
    matches!(c, BREAK | CONTROL_BREAK)
}

/// A prompt that [`Template::render_chat`](crate::Template::render_chat) rendered, for
/// [`Tokenizer::encode_chat`](crate::Tokenizer::encode_chat).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    pub(crate) text: String,
    /// Places in the text over which no name of a special token reaches, in ascending order.
    pub(crate) breaks: Vec<usize>,
}

impl Rendered {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Shortens the text to `len` bytes.
    ///
    /// # Panics
    /// When `len` is inside a character.
    pub fn truncate(&mut self, len: usize) {
        self.text.truncate(len);
        self.breaks.retain(|&at| at < len);
    }

    /// Adds a text of the program's own, in which names of control tokens are these tokens.
    pub fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    pub fn into_text(self) -> String {
        self.text
    }
}
