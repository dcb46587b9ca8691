//! Normalization of text by SentencePiece.

use super::charsmap::Charsmap;
use super::special::TokenFinder;
use super::vocab::{Normalization, Vocab};
use crate::{Error, Result};

/// The character of SentencePiece for a space.
pub(crate) const SPACE: &str = "\u{2581}";

/// Normalizes text (SentencePiece's `NormalizerSpec`).
#[derive(Debug)]
pub(crate) struct Normalizer {
    charsmap: Option<Charsmap>,
    /// Whether a space is added before a text.
    pub space_prefix: bool,
    /// Whether that is only done where a text begins, and not also after control tokens in it.
    prefix_once: bool,
    /// Whether no space is added before one, and of those at both ends one stays.
    metaspace: bool,
    /// Whether spaces at both ends, and all but one of each run, are removed.
    remove_extra_spaces: bool,
    /// Tokens that are not normalized, and are matched in the normalized text.
    pub user_defined: Option<TokenFinder>,
}

impl Normalizer {
    pub fn new(vocab: &Vocab, user_defined: Option<TokenFinder>, space_prefix: bool) -> Result<Normalizer> {
        let Normalization { charsmap, remove_extra_whitespaces, prefix_once, metaspace, .. } = &vocab.normalization;
        let problem = |problem: String| Error::vocabulary("precompiled_charsmap", problem);
        let charsmap = if charsmap.is_empty() { None } else { Some(Charsmap::parse(charsmap).map_err(problem)?) };
        let (prefix_once, metaspace, remove_extra_spaces) = (*prefix_once, *metaspace, *remove_extra_whitespaces);
        Ok(Normalizer { charsmap, space_prefix, prefix_once, metaspace, remove_extra_spaces, user_defined })
    }

    /// Normalizes a part of a text, which is the `first` or follows a control token. Spaces become [`SPACE`].
    pub fn normalize(&self, text: &str, first: bool) -> String {
        // Transformers puts no space in front of one where it puts it only once. Of spaces that are removed, one stays.
        let once = || match text.starts_with(' ') {
            true => self.remove_extra_spaces,
            false => first && !text.starts_with(SPACE),
        };
        let prefixed = !self.metaspace && self.space_prefix && !text.is_empty() && (!self.prefix_once || once());
        let prefix = if prefixed { SPACE } else { "" };
        let with_room = String::with_capacity(text.len() + text.len() / 4 + SPACE.len());
        let mut out = NormalizedText { text: with_room, spaced: !self.metaspace };
        out.text.push_str(prefix);
        let mut done = 0;
        for (start, end) in self.user_defined.iter().flat_map(|finder| finder.spans(text)) {
            self.characters(&text[done..start], &mut out);
            out.push(&text[start..end], self.remove_extra_spaces);
            done = end;
        }
        self.characters(&text[done..], &mut out);
        let mut text = out.text;
        if self.metaspace {
            if self.space_prefix && (first || !self.prefix_once) && !text.is_empty() && !text.starts_with(SPACE) {
                text.insert_str(0, SPACE);
            }
        } else if self.remove_extra_spaces {
            // A text of only spaces becomes empty.
            text.truncate(text.trim_end_matches(SPACE).len());
        }
        text
    }

    fn characters(&self, mut text: &str, out: &mut NormalizedText) {
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

struct NormalizedText {
    text: String,
    /// Whether it ends with a space, or is empty.
    spaced: bool,
}

impl NormalizedText {
    /// Appends the replacement of one or more characters.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_spaces_before_a_word_one_stays() {
        let normalize = |text: &str, first: bool, remove_extra_spaces: bool| {
            let (space_prefix, prefix_once, metaspace) = (true, true, false);
            let (charsmap, user_defined) = (None, None);
            let normalizer =
                Normalizer { charsmap, space_prefix, prefix_once, metaspace, remove_extra_spaces, user_defined };
            normalizer.normalize(text, first).replace(SPACE, "_")
        };
        // As SentencePiece normalizes it behind an `<unk>`.
        for (text, first, removed, kept) in [
            ("a", true, "_a", "_a"),
            ("a", false, "a", "a"),
            ("  a  b ", true, "_a_b", "__a__b_"),
            (" a", false, "_a", "_a"),
            (" ", false, "", "_"),
            ("", true, "", ""),
        ] {
            assert_eq!(normalize(text, first, true), removed, "{text:?}");
            assert_eq!(normalize(text, first, false), kept, "{text:?}");
        }
    }
}
