//! SentencePiece: BPE by scores, and Unigram.

use super::encoder::Encoder;
use super::merger::{Merger, NONE, Symbol};
use super::normalizer::{Normalizer, SPACE};
use super::special::{self, Parse, SpecialTokens, TokenFinder};
use super::token_table::{NameIndex, TokenTable};
use super::unigram::{Lattice, Unigram};
use super::vocab::{TokenType, Vocab, byte, covers_utf8};
use super::word_cache::WordCache;
use crate::rendered::BREAK;
use crate::{Error, Result};
use std::borrow::Cow;

/// SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226): text is normalized, with U+2581 for spaces, and split into tokens by BPE
/// or Unigram. Unknown characters fall back to bytes.
#[derive(Debug)]
pub(crate) struct Spm {
    specials: SpecialTokens,
    normalizer: Normalizer,
    model: SpmModel,
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    /// Whether words are encoded separately: no token has a space after another character, and the space is not unknown.
    by_words: bool,
}

#[derive(Debug)]
enum SpmModel {
    /// GGUF model `llama`: the neighbours with the highest score of their merged token are merged first.
    Bpe(ScoreBpe),
    /// GGUF model `t5`.
    Unigram(Unigram),
}

#[derive(Debug)]
struct ScoreBpe {
    /// Tokens that plain text may become, by name.
    spelled: NameIndex,
    /// The score of each token as an integer, in reverse order.
    ranks: Vec<u32>,
    /// The length of the longest name in `spelled`, in bytes.
    longest: usize,
}

/// Buffers for encoding words.
#[derive(Default)]
struct SpmScratch {
    merger: Merger,
    lattice: Lattice,
}

impl Spm {
    pub fn bpe(vocab: &Vocab, tokens: &TokenTable, warnings: &mut Vec<String>) -> Result<Box<dyn Encoder>> {
        check_scores(vocab, |score| !score.is_nan(), "a number")?;
        let mut spelled = NameIndex::with_capacity(vocab.tokens.len());
        let mut longest = 0;
        for (id, name) in tokens.spelled() {
            spelled.insert(&tokens.names, id);
            longest = longest.max(name.len());
        }
        let ranks = vocab.scores.iter().map(|&score| rank(score)).collect();
        Spm::load(vocab, tokens, SpmModel::Bpe(ScoreBpe { spelled, ranks, longest }), true, warnings)
    }

    pub fn unigram(vocab: &Vocab, tokens: &TokenTable, warnings: &mut Vec<String>) -> Result<Box<dyn Encoder>> {
        check_scores(vocab, f32::is_finite, "a finite number")?;
        Spm::load(vocab, tokens, SpmModel::Unigram(Unigram::new(vocab, tokens)?), false, warnings)
    }

    fn load(
        vocab: &Vocab,
        tokens: &TokenTable,
        model: SpmModel,
        space_prefix: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Box<dyn Encoder>> {
        let mut bytes = [None; 256];
        for ((id, &name), &token_type) in (0u32..).zip(&vocab.tokens).zip(&tokens.token_types) {
            if let (TokenType::Byte, Some(byte)) = (token_type, byte(name)) {
                bytes[usize::from(byte)].get_or_insert(id);
            }
        }
        let unknown =
            || tokens.token_types.iter().position(|&token_type| token_type == TokenType::Unknown).map(|id| id as u32);
        let unk = vocab.unk.or_else(unknown);
        let spells_all = covers_utf8(&bytes);
        if unk.is_none() && !spells_all {
            warnings.push(
                "the vocabulary has neither all byte tokens nor an unknown token: unknown characters are left out"
                    .to_owned(),
            );
        }
        let pieces = vocab.normalization.pieces.min(vocab.tokens.len());
        let mut token_types = tokens.token_types.clone();
        let user_defined = TokenFinder::new(&vocab.tokens[..pieces], &token_types, &[TokenType::UserDefined]);
        for token_type in token_types[..pieces].iter_mut().filter(|kind| **kind == TokenType::UserDefined) {
            *token_type = TokenType::Normal;
        }
        let spells_space = spells_all || tokens.spelled().any(|(_, name)| name == SPACE.as_bytes());
        let crosses = |name: &[u8]| {
            let name = String::from_utf8_lossy(name);
            name.trim_start_matches(SPACE).contains(SPACE)
        };
        Ok(Box::new(Spm {
            specials: SpecialTokens::new(&vocab.tokens, &token_types),
            normalizer: Normalizer::new(vocab, user_defined, vocab.add_space_prefix.unwrap_or(space_prefix))?,
            model,
            bytes,
            unk,
            by_words: spells_space && !tokens.spelled().any(|(_, name)| crosses(name)),
        }))
    }

    /// Appends the bytes of a token.
    pub fn piece(name: &str, token_type: TokenType, piece: &mut Vec<u8>) {
        match token_type {
            TokenType::Byte => piece.extend(byte(name)),
            TokenType::Normal | TokenType::Unused | TokenType::UserDefined => {
                piece.extend_from_slice(name.replace(SPACE, " ").as_bytes())
            }
            TokenType::Unknown | TokenType::Control => piece.extend_from_slice(name.as_bytes()),
        }
    }

    /// Appends the tokens of a normalized text.
    fn plain<'a>(
        &self,
        tokens: &TokenTable,
        mut text: &'a str,
        cache: &mut WordCache<'a>,
        scratch: &mut SpmScratch,
        ids: &mut Vec<u32>,
    ) {
        while !text.is_empty() {
            let (word, after) = text.split_at(if self.by_words { word_len(text) } else { text.len() });
            cache.encode(word, ids, |word, ids| self.word(tokens, word, scratch, ids));
            text = after;
        }
    }

    /// Appends the tokens of a normalized text, or of one word of it.
    fn word(&self, tokens: &TokenTable, word: &str, scratch: &mut SpmScratch, ids: &mut Vec<u32>) {
        let start = ids.len();
        let mut take = |id: u32, name: &[u8]| {
            if id != NONE {
                return ids.push(id);
            }
            if name.iter().all(|&byte| self.bytes[usize::from(byte)].is_some()) {
                ids.extend(name.iter().filter_map(|&byte| self.bytes[usize::from(byte)]));
            } else if ids.len() == start || ids.last().copied() != self.unk {
                // A run of unknown characters is one unknown token.
                ids.extend(self.unk);
            }
        };
        match &self.model {
            SpmModel::Bpe(merges) => merges.word(tokens, word.as_bytes(), &mut scratch.merger, take),
            SpmModel::Unigram(unigram) => unigram.word(word, &mut scratch.lattice, &mut take),
        }
    }
}

impl ScoreBpe {
    fn word(&self, tokens: &TokenTable, word: &[u8], merger: &mut Merger, mut take: impl FnMut(u32, &[u8])) {
        let find = |name: &[u8]| if name.len() > self.longest { None } else { self.spelled.find(&tokens.names, name) };
        let mut rest = word;
        while let Some(first) = rest.first() {
            // The first byte of a character begins with one bit per byte, or with 0 in ASCII.
            let (c, after) = rest.split_at(first.leading_ones().max(1) as usize);
            merger.push(find(c).unwrap_or(NONE), c.len());
            rest = after;
        }
        let pair = |left: &Symbol, right: &Symbol| find(left.with(right, word)).map(|id| (self.ranks[id as usize], id));
        merger.finish(pair, |symbol| take(symbol.id, symbol.of(word)));
    }
}

impl Encoder for Spm {
    fn encode(&self, tokens: &TokenTable, text: &str, parse: Parse, ids: &mut Vec<u32>) {
        let mut scratch = SpmScratch::default();
        self.specials.encode(text, parse, ids, |text, start, ids| {
            let marked = parse.mark(text, start);
            let broken = matches!(marked, Cow::Owned(_));
            let text = self.normalizer.normalize(&marked, start == 0);
            let mut cache = WordCache::default();
            special::encode(&self.normalizer.user_defined, &text, &[], ids, |text, _, ids| {
                if broken {
                    let text = text.replace(BREAK, "");
                    // It does not live as long as the words in the cache.
                    return self.plain(tokens, &text, &mut WordCache::default(), &mut scratch, ids);
                }
                self.plain(tokens, text, &mut cache, &mut scratch, ids);
            });
        });
    }

    fn space_prefix(&self) -> bool {
        self.normalizer.space_prefix
    }
}

fn check_scores(vocab: &Vocab, fine: fn(f32) -> bool, expected: &str) -> Result<()> {
    let len = vocab.tokens.len();
    if vocab.scores.len() != len {
        return Err(Error::length("tokenizer.ggml.scores", len, vocab.scores.len()));
    }
    match vocab.scores.iter().position(|&score| !fine(score)) {
        None => Ok(()),
        Some(id) => {
            let problem = format!("expected {expected} as its score, found {}", vocab.scores[id]);
            Err(Error::token(id, vocab.tokens[id], problem))
        }
    }
}

/// The length of the first word in bytes: leading spaces, and the text up to the next space.
fn word_len(text: &str) -> usize {
    let first = text.len() - text.trim_start_matches(SPACE).len();
    text[first..].find(SPACE).map_or(text.len(), |len| first + len)
}

/// Converts scores to integers in reverse order.
fn rank(score: f32) -> u32 {
    // Adding zero turns -0 into 0.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}
