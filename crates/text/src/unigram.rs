use crate::merge::NONE;
use crate::tokens::Tokens;
use crate::{Error, Result, Vocab};
use aho_corasick::AhoCorasick;

/// Cuts a word into the tokens that are most probable together (Kudo 2018, arXiv:1804.10959), with the Viterbi algorithm. Every token
/// that ends at a place is found while walking there once, so it takes as many steps as the word has bytes and tokens in it.
#[derive(Debug)]
pub(crate) struct Unigram {
    names: AhoCorasick,
    ids: Vec<u32>,
    /// The logarithmic probability of each name.
    scores: Vec<f32>,
    /// That of a character that is no token.
    unknown: f64,
}

/// By how much an unknown character is less probable than the least probable token.
const PENALTY: f32 = 10.0;

/// The best way to each place in a word.
#[derive(Default)]
pub(crate) struct Lattice(Vec<Best>);

#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// Where the last token of the way begins.
    start: u32,
    id: u32,
}

impl Unigram {
    pub fn new(vocab: &Vocab, tokens: &Tokens) -> Result<Unigram> {
        let (ids, names): (Vec<u32>, Vec<&[u8]>) = tokens.spelled().unzip();
        // All that end at one place are found one after the other, the longest first. Building fails only beyond 2^31 states.
        let names = AhoCorasick::new(&names).map_err(|error| Error::Token {
            id: names.len(),
            name: String::new(),
            problem: error.to_string(),
        })?;
        let scores: Vec<f32> = ids.iter().map(|&id| vocab.scores[id as usize]).collect();
        let least = scores.iter().copied().reduce(f32::min).unwrap_or(0.0);
        Ok(Unigram { names, ids, scores, unknown: f64::from(least - PENALTY) })
    }

    /// Gives `take` the tokens of a word with their bytes: [`NONE`] for an unknown character.
    pub fn word(&self, word: &str, lattice: &mut Lattice, take: &mut dyn FnMut(u32, &[u8])) {
        let best = &mut lattice.0;
        best.clear();
        best.resize(word.len() + 1, Best { score: f64::NEG_INFINITY, start: 0, id: NONE });
        best[0].score = 0.0;
        let mut found = self.names.find_overlapping_iter(word).peekable();
        let mut start = 0;
        for end in word.char_indices().map(|(at, _)| at).skip(1).chain([word.len()]) {
            let mut known = false;
            let mut way = best[end];
            while let Some(token) = found.next_if(|token| token.end() == end) {
                let at = token.pattern().as_usize();
                let score = best[token.start()].score + f64::from(self.scores[at]);
                known |= token.start() == start;
                if score > way.score {
                    way = Best { score, start: token.start() as u32, id: self.ids[at] };
                }
            }
            let score = best[start].score + self.unknown;
            if !known && score > way.score {
                way = Best { score, start: start as u32, id: NONE };
            }
            best[end] = way;
            start = end;
        }
        // From the end back to the beginning; the places are then in order.
        let (mut end, mut count) = (word.len(), 0);
        while end > 0 {
            let Best { start, id, .. } = best[end];
            count += 1;
            let at = best.len() - count;
            best[at] = Best { score: 0.0, start, id };
            end = start as usize;
        }
        let ways = &best[best.len() - count..];
        let ends = ways.iter().skip(1).map(|way| way.start as usize).chain([word.len()]);
        for (way, end) in ways.iter().zip(ends) {
            take(way.id, &word.as_bytes()[way.start as usize..end]);
        }
    }
}
