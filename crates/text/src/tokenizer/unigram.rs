//! Unigram of SentencePiece.

use super::merger::NONE;
use super::token_table::TokenTable;
use super::vocab::{TokenType, Vocab};
use crate::{Error, Result};
use aho_corasick::AhoCorasick;

/// Splits a word into its most probable sequence of tokens (Kudo 2018, arXiv:1804.10959) with the Viterbi algorithm. One pass finds all
/// tokens by their ends, so the time is linear in the number of bytes and matches.
#[derive(Debug)]
pub(crate) struct Unigram {
    names: AhoCorasick,
    ids: Vec<u32>,
    /// The log-probability of each name.
    scores: Vec<f32>,
    /// The log-probability of an unknown character.
    unknown: f64,
}

/// The difference in log-probability of the least probable token and an unknown character.
const PENALTY: f32 = 10.0;

/// The best path to each offset in a word.
#[derive(Default)]
pub(crate) struct Lattice(Vec<Best>);

#[derive(Clone, Copy)]
struct Best {
    score: f64,
    /// The start of the path's last token.
    start: u32,
    id: u32,
}

impl Unigram {
    pub fn new(vocab: &Vocab, tokens: &TokenTable) -> Result<Unigram> {
        let (ids, names): (Vec<u32>, Vec<&[u8]>) = tokens.spelled().unzip();
        // Matches with the same end come one after another, the longest first. Building fails only for more than 2^31 states.
        let names =
            AhoCorasick::new(&names).map_err(|error| Error::vocabulary("tokenizer.ggml.tokens", error.to_string()))?;
        let scores: Vec<f32> = ids.iter().map(|&id| vocab.scores[id as usize]).collect();
        // As in SentencePiece, of tokens that texts have; unused ones may have any score.
        let normal = ids.iter().zip(&scores).filter(|(id, _)| tokens.token_types[**id as usize] == TokenType::Normal);
        let least = normal.map(|(_, &score)| score).reduce(f32::min).unwrap_or(0.0);
        Ok(Unigram { names, ids, scores, unknown: f64::from(least - PENALTY) })
    }

    /// Calls `take` with each token of a word and its bytes; the token is [`NONE`] for an unknown character.
    pub fn word(&self, word: &str, lattice: &mut Lattice, take: &mut dyn FnMut(u32, &[u8])) {
        let best = &mut lattice.0;
        best.clear();
        best.resize(word.len() + 1, Best { score: f64::NEG_INFINITY, start: 0, id: NONE });
        best[0].score = 0.0;
        let mut found = self.names.find_overlapping_iter(word).peekable();
        let mut start = 0;
        for end in word.char_indices().map(|(at, _)| at).skip(1).chain([word.len()]) {
            let mut known = false;
            let mut path = best[end];
            while let Some(token) = found.next_if(|token| token.end() == end) {
                let at = token.pattern().as_usize();
                let score = best[token.start()].score + f64::from(self.scores[at]);
                known |= token.start() == start;
                if score > path.score {
                    path = Best { score, start: token.start() as u32, id: self.ids[at] };
                }
            }
            let score = best[start].score + self.unknown;
            if !known && score > path.score {
                path = Best { score, start: start as u32, id: NONE };
            }
            best[end] = path;
            start = end;
        }
        // Follow the path back from the end, and store it in order.
        let (mut end, mut count) = (word.len(), 0);
        while end > 0 {
            let Best { start, id, .. } = best[end];
            count += 1;
            let at = best.len() - count;
            best[at] = Best { score: 0.0, start, id };
            end = start as usize;
        }
        let path = &best[best.len() - count..];
        let ends = path.iter().skip(1).map(|token| token.start as usize).chain([word.len()]);
        for (token, end) in path.iter().zip(ends) {
            take(token.id, &word.as_bytes()[token.start as usize..end]);
        }
    }
}
