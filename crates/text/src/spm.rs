use crate::merge::{Merger, NONE, Symbol};
use crate::normalize::{Normalizer, SPACE};
use crate::special::{self, Finder, Specials};
use crate::tokenizer::Model;
use crate::tokens::{Index, Tokens};
use crate::unigram::{Lattice, Unigram};
use crate::vocab::{byte, spells_utf8};
use crate::words::Words;
use crate::{Error, Kind, Result, Vocab};

/// SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226): a text is rewritten, with a visible character for spaces, and cut into
/// tokens, by merging or by what is most probable. What the vocabulary cannot spell falls back to bytes.
#[derive(Debug)]
pub(crate) struct Spm {
    specials: Specials,
    normalizer: Normalizer,
    pieces: Pieces,
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    /// No token has a space behind another character, and no word begins with an unknown one: words can be cut one by one.
    by_words: bool,
}

/// How a word is cut into tokens.
#[derive(Debug)]
enum Pieces {
    /// GGUF model `llama`: neighbours merge into the token of the highest score.
    Bpe(Merges),
    /// GGUF model `t5`.
    Unigram(Unigram),
}

#[derive(Debug)]
struct Merges {
    /// The tokens that plain text may become, by their names.
    spelled: Index,
    /// For each token the rank of its score: 0 for the highest.
    ranks: Vec<u32>,
    /// Bytes of the longest name of a token that plain text may become.
    longest: usize,
}

/// What cutting words needs room for.
#[derive(Default)]
struct Room {
    merger: Merger,
    lattice: Lattice,
}

impl Spm {
    pub fn bpe(vocab: &Vocab, tokens: &Tokens, warnings: &mut Vec<String>) -> Result<Box<dyn Model>> {
        check_scores(vocab, |score| !score.is_nan(), "a number")?;
        let mut spelled = Index::with_capacity(vocab.tokens.len());
        let mut longest = 0;
        for (id, name) in tokens.spelled() {
            spelled.insert(&tokens.names, id);
            longest = longest.max(name.len());
        }
        let ranks = vocab.scores.iter().map(|&score| rank(score)).collect();
        Spm::load(vocab, tokens, Pieces::Bpe(Merges { spelled, ranks, longest }), true, warnings)
    }

    pub fn unigram(vocab: &Vocab, tokens: &Tokens, warnings: &mut Vec<String>) -> Result<Box<dyn Model>> {
        check_scores(vocab, f32::is_finite, "a finite number")?;
        Spm::load(vocab, tokens, Pieces::Unigram(Unigram::new(vocab, tokens)?), false, warnings)
    }

    fn load(
        vocab: &Vocab,
        tokens: &Tokens,
        pieces: Pieces,
        space_prefix: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Box<dyn Model>> {
        let mut bytes = [None; 256];
        for ((id, &name), &kind) in (0u32..).zip(&vocab.tokens).zip(&tokens.kinds) {
            if let (Kind::Byte, Some(byte)) = (kind, byte(name)) {
                bytes[usize::from(byte)].get_or_insert(id);
            }
        }
        let unknown = || tokens.kinds.iter().position(|&kind| kind == Kind::Unknown).map(|id| id as u32);
        let unk = vocab.unk.or_else(unknown);
        let spells_all = spells_utf8(&bytes);
        if unk.is_none() && !spells_all {
            warnings.push(
                "the vocabulary has neither all the byte tokens nor an unknown token: characters that it cannot \
                 spell are left out"
                    .to_owned(),
            );
        }
        let whole = vocab.normalization.whole;
        let user_defined = Finder::new(&vocab.tokens, &tokens.kinds, &[Kind::UserDefined]).filter(|_| whole);
        let specials = if whole { Specials::control } else { Specials::new };
        let spells_space = spells_all || tokens.spelled().any(|(_, name)| name == SPACE.as_bytes());
        let crosses = |name: &[u8]| {
            let name = String::from_utf8_lossy(name);
            name.trim_start_matches(SPACE).contains(SPACE)
        };
        Ok(Box::new(Spm {
            specials: specials(&vocab.tokens, &tokens.kinds),
            normalizer: Normalizer::new(vocab, user_defined, vocab.add_space_prefix.unwrap_or(space_prefix))?,
            pieces,
            bytes,
            unk,
            by_words: spells_space && !tokens.spelled().any(|(_, name)| crosses(name)),
        }))
    }

    /// Appends the bytes that a token of this spelling stands for.
    pub fn piece(name: &str, kind: Kind, piece: &mut Vec<u8>) {
        match kind {
            Kind::Byte => piece.extend(byte(name)),
            Kind::Normal | Kind::Unused | Kind::UserDefined => {
                piece.extend_from_slice(name.replace(SPACE, " ").as_bytes())
            }
            Kind::Unknown | Kind::Control => piece.extend_from_slice(name.as_bytes()),
        }
    }

    /// Appends the tokens of a rewritten text, or of one word of it.
    fn word(&self, tokens: &Tokens, word: &str, room: &mut Room, ids: &mut Vec<u32>) {
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
        match &self.pieces {
            Pieces::Bpe(merges) => merges.word(tokens, word.as_bytes(), &mut room.merger, take),
            Pieces::Unigram(unigram) => unigram.word(word, &mut room.lattice, &mut take),
        }
    }
}

impl Merges {
    fn word(&self, tokens: &Tokens, word: &[u8], merger: &mut Merger, mut take: impl FnMut(u32, &[u8])) {
        let find = |name: &[u8]| if name.len() > self.longest { None } else { self.spelled.find(&tokens.names, name) };
        let mut rest = word;
        while let Some(first) = rest.first() {
            // Bytes of a character begin with as many ones as they are, or a zero when it is one.
            let (c, behind) = rest.split_at(first.leading_ones().max(1) as usize);
            merger.push(find(c).unwrap_or(NONE), c.len());
            rest = behind;
        }
        let pair = |left: &Symbol, right: &Symbol| find(left.with(right, word)).map(|id| (self.ranks[id as usize], id));
        merger.finish(pair, |symbol| take(symbol.id, symbol.of(word)));
    }
}

impl Model for Spm {
    fn encode(&self, tokens: &Tokens, text: &str, special: bool, ids: &mut Vec<u32>) {
        let mut room = Room::default();
        self.specials.encode(text, special, ids, |text, ids| {
            let text = self.normalizer.normalize(text);
            let mut words = Words::default();
            special::encode(&self.normalizer.user_defined, &text, ids, |text, ids| {
                let mut rest = text;
                while !rest.is_empty() {
                    let (word, behind) = rest.split_at(if self.by_words { word_len(rest) } else { rest.len() });
                    words.encode(word, ids, |word, ids| self.word(tokens, word, &mut room, ids));
                    rest = behind;
                }
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
        return Err(Error::Length { key: "tokenizer.ggml.scores", expected: len, found: vocab.scores.len() });
    }
    match vocab.scores.iter().position(|&score| !fine(score)) {
        None => Ok(()),
        Some(id) => {
            let problem = format!("expected {expected} as its score, found {}", vocab.scores[id]);
            Err(Error::Token { id, name: vocab.tokens[id].to_owned(), problem })
        }
    }
}

/// Bytes of the first word: spaces, and what follows up to the next space.
fn word_len(text: &str) -> usize {
    let first = text.len() - text.trim_start_matches(SPACE).len();
    text[first..].find(SPACE).map_or(text.len(), |len| first + len)
}

/// Orders scores as unsigned integers, the highest first.
fn rank(score: f32) -> u32 {
    // Adding zero makes the two zeros one.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}
