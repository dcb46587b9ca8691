//! What SentencePiece does to a text before it looks for tokens.

use crate::charsmap::Charsmap;
use crate::special::Finder;
use crate::{Error, Normalization, Result, Vocab};

/// What SentencePiece writes for a space.
pub(crate) const SPACE: &str = "\u{2581}";

/// Rewrites texts as the vocabulary was trained to see them (SentencePiece's `NormalizerSpec`).
#[derive(Debug)]
pub(crate) struct Normalizer {
    charsmap: Option<Charsmap>,
    /// Whether a space is put before a text.
    pub space_prefix: bool,
    /// Whether spaces at both ends go away, and all but one of each run.
    remove_extra_spaces: bool,
    /// The tokens that are kept as they are, and found once more in what was rewritten.
    pub user_defined: Option<Finder>,
}

impl Normalizer {
    pub fn new(vocab: &Vocab, user_defined: Option<Finder>, space_prefix: bool) -> Result<Normalizer> {
        let Normalization { charsmap, remove_extra_whitespaces, .. } = &vocab.normalization;
        let problem = |problem| Error::Charsmap { problem };
        let charsmap = if charsmap.is_empty() { None } else { Some(Charsmap::parse(charsmap).map_err(problem)?) };
        Ok(Normalizer { charsmap, space_prefix, remove_extra_spaces: *remove_extra_whitespaces, user_defined })
    }

    /// Rewrites a text; spaces are then [`SPACE`].
    pub fn normalize(&self, text: &str) -> String {
        let prefix = if self.space_prefix && !text.is_empty() { SPACE } else { "" };
        let mut out = Out { text: String::with_capacity(text.len() + text.len() / 4 + prefix.len()), spaced: true };
        out.text.push_str(prefix);
        let mut done = 0;
        for (start, end) in self.user_defined.iter().flat_map(|finder| finder.spans(text)) {
            self.characters(&text[done..start], &mut out);
            out.push(&text[start..end], self.remove_extra_spaces);
            done = end;
        }
        self.characters(&text[done..], &mut out);
        let mut text = out.text;
        if self.remove_extra_spaces {
            // Of nothing but spaces nothing is left.
            text.truncate(text.trim_end_matches(SPACE).len());
        }
        text
    }

    fn characters(&self, mut text: &str, out: &mut Out) {
        if self.charsmap.is_none() && !self.remove_extra_spaces {
            return out.push(text, false);
        }
        while let Some(first) = text.chars().next() {
            let same = || (first.len_utf8(), &text[..first.len_utf8()]);
            let (len, new) = self.charsmap.as_ref().and_then(|charsmap| charsmap.replace(text)).unwrap_or_else(same);
            out.push(new, self.remove_extra_spaces);
            text = &text[len..];
        }
    }
}

/// A rewritten text as it grows.
struct Out {
    text: String,
    /// Whether it ends with a space, or has not begun.
    spaced: bool,
}

impl Out {
    /// Appends what takes the place of a character or more.
    fn push(&mut self, new: &str, remove_extra_spaces: bool) {
        let new = if remove_extra_spaces && self.spaced { new.trim_start_matches(' ') } else { new };
        let mut words = new.split(' ');
        self.text.push_str(words.next().unwrap_or_default());
        for word in words {
            self.text.push_str(SPACE);
            self.text.push_str(word);
        }
        if !new.is_empty() {
            self.spaced = new.ends_with(' ');
        }
    }
}
