use hashbrown::HashMap;

/// Bytes of a word that is worth remembering.
const SHORT: usize = 64;
/// Words that are remembered at once.
const MOST: usize = 1 << 16;
/// Bytes of a word that is taken whole, so that places in it have 32 bits.
const LONGEST: usize = 1 << 30;

/// The words of a text that have been seen, and where among the ids their tokens are.
#[derive(Debug, Default)]
pub(crate) struct Words<'a>(HashMap<&'a str, (usize, usize)>);

impl<'a> Words<'a> {
    /// Appends the tokens of a word: what `encode` makes of it, or those that it had before. A word of more than 2^30 bytes is cut.
    pub fn encode(&mut self, word: &'a str, ids: &mut Vec<u32>, mut encode: impl FnMut(&str, &mut Vec<u32>)) {
        if word.len() > SHORT {
            let mut rest = word;
            while !rest.is_empty() {
                let (first, behind) = rest.split_at(rest.floor_char_boundary(LONGEST));
                encode(first, ids);
                rest = behind;
            }
        } else if let Some(&(start, end)) = self.0.get(word) {
            ids.extend_from_within(start..end);
        } else {
            let start = ids.len();
            encode(word, ids);
            if self.0.len() == MOST {
                self.0.clear();
            }
            self.0.insert(word, (start, ids.len()));
        }
    }
}
