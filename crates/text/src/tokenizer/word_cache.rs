//! A cache for the tokens of words.

use hashbrown::HashMap;

/// Maximum length of a cached word, in bytes.
const MAX_CACHED_LEN: usize = 64;
/// Maximum number of cached words.
const MAX_CACHED: usize = 1 << 16;
/// Maximum length of a word, in bytes, so that offsets in it have 32 bits.
const MAX_LEN: usize = 1 << 30;

/// The words of a text so far, and the range of their tokens in its ids.
#[derive(Debug, Default)]
pub(crate) struct WordCache<'a>(HashMap<&'a str, (usize, usize)>);

impl<'a> WordCache<'a> {
    /// Appends the tokens of a word, from the cache or by `encode`. A word of more than 2^30 bytes is split.
    pub fn encode(&mut self, word: &'a str, ids: &mut Vec<u32>, mut encode: impl FnMut(&str, &mut Vec<u32>)) {
        if word.len() > MAX_CACHED_LEN {
            let mut rest = word;
            while !rest.is_empty() {
                let (first, after) = rest.split_at(rest.floor_char_boundary(MAX_LEN));
                encode(first, ids);
                rest = after;
            }
        } else if let Some(&(start, end)) = self.0.get(word) {
            ids.extend_from_within(start..end);
        } else {
            let start = ids.len();
            encode(word, ids);
            if self.0.len() == MAX_CACHED {
                self.0.clear();
            }
            self.0.insert(word, (start, ids.len()));
        }
    }
}
