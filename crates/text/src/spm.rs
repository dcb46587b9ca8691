use crate::merge::{Merger, NONE, Symbol};
use crate::special::Specials;
use crate::tokenizer::Model;
use crate::tokens::{Index, Tokens};
use crate::vocab::{byte, spells_utf8};
use crate::words::Words;
use crate::{Error, Kind, Result, Vocab};

/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

/// SentencePiece's BPE (GGUF model `llama`): neighbours merge into the token of the highest score, and what the
/// vocabulary cannot spell falls back to bytes (Kudo and Richardson 2018, arXiv:1808.06226).
#[derive(Debug)]
pub(crate) struct Spm {
    specials: Specials,
    /// The tokens that plain text may become, by their names.
    spelled: Index,
    /// For each token the rank of its score: 0 for the highest.
    ranks: Vec<u32>,
    /// Bytes of the longest name of a token that plain text may become.
    longest: usize,
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    space_prefix: bool,
    /// No token has a space behind another character, so no merge crosses into a new word.
    by_words: bool,
}

impl Spm {
    pub fn load(vocab: &Vocab, tokens: &Tokens, warnings: &mut Vec<String>) -> Result<Box<dyn Model>> {
        let len = vocab.tokens.len();
        if vocab.scores.len() != len {
            return Err(Error::Length { key: "tokenizer.ggml.scores", expected: len, found: vocab.scores.len() });
        }
        let mut spelled = Index::with_capacity(len);
        let (mut longest, mut by_words) = (0, true);
        let mut bytes = [None; 256];
        for ((id, &name), (&kind, score)) in (0u32..).zip(&vocab.tokens).zip(tokens.kinds.iter().zip(&*vocab.scores)) {
            if score.is_nan() {
                let problem = "expected a number as its score, found NaN".to_owned();
                return Err(Error::Token { id: id as usize, name: name.to_owned(), problem });
            }
            if kind.is_spelled() && !name.is_empty() {
                spelled.insert(&tokens.names, id);
                longest = longest.max(name.len());
                by_words &= !name.trim_start_matches(SPACE).contains(SPACE);
            }
            if let (Kind::Byte, Some(byte)) = (kind, byte(name)) {
                bytes[usize::from(byte)].get_or_insert(id);
            }
        }
        let unknown = || tokens.kinds.iter().position(|&kind| kind == Kind::Unknown).map(|id| id as u32);
        let unk = vocab.unk.or_else(unknown);
        if unk.is_none() && !spells_utf8(&bytes) {
            warnings.push(
                "the vocabulary has neither all the byte tokens nor an unknown token: characters that it cannot \
                 spell are left out"
                    .to_owned(),
            );
        }
        Ok(Box::new(Spm {
            specials: Specials::new(&vocab.tokens, &tokens.kinds),
            spelled,
            ranks: vocab.scores.iter().map(|&score| rank(score)).collect(),
            longest,
            bytes,
            unk,
            space_prefix: vocab.add_space_prefix.unwrap_or(true),
            by_words,
        }))
    }

    /// Appends the bytes that a token of this spelling stands for.
    pub fn piece(name: &str, kind: Kind, piece: &mut Vec<u8>) {
        match kind {
            Kind::Byte => piece.extend(byte(name)),
            Kind::Normal | Kind::Unused => replace(name, SPACE, " ", piece),
            Kind::Unknown | Kind::Control | Kind::UserDefined => piece.extend_from_slice(name.as_bytes()),
        }
    }

    /// Appends the tokens of a word, behind `prefix`. `escaped` is room for both.
    fn word(
        &self,
        tokens: &Tokens,
        prefix: &str,
        word: &str,
        escaped: &mut Vec<u8>,
        merger: &mut Merger,
        ids: &mut Vec<u32>,
    ) {
        escaped.clear();
        escaped.extend_from_slice(prefix.as_bytes());
        replace(word, " ", SPACE, escaped);
        let find = |name: &[u8]| if name.len() > self.longest { None } else { self.spelled.find(&tokens.names, name) };
        let mut rest = &**escaped;
        while let Some(first) = rest.first() {
            // Bytes of a character begin with as many ones as they are, or a zero when it is one.
            let (c, behind) = rest.split_at(first.leading_ones().max(1) as usize);
            merger.push(find(c).unwrap_or(NONE), c.len());
            rest = behind;
        }
        let pair =
            |left: &Symbol, right: &Symbol| find(left.with(right, escaped)).map(|id| (self.ranks[id as usize], id));
        merger.finish(pair, |symbol| {
            if symbol.id != NONE {
                return ids.push(symbol.id);
            }
            let bytes = symbol.of(escaped);
            if bytes.iter().all(|&byte| self.bytes[usize::from(byte)].is_some()) {
                ids.extend(bytes.iter().filter_map(|&byte| self.bytes[usize::from(byte)]));
            } else {
                ids.extend(self.unk);
            }
        });
    }
}

impl Model for Spm {
    fn encode(&self, tokens: &Tokens, text: &str, special: bool, ids: &mut Vec<u32>) {
        let (mut words, mut merger, mut escaped) = (Words::default(), Merger::default(), Vec::new());
        self.specials.encode(text, special, ids, |text, ids| {
            let mut prefix = if self.space_prefix { SPACE } else { "" };
            let mut rest = text;
            while !rest.is_empty() {
                let (word, behind) = rest.split_at(if self.by_words { word_len(rest) } else { rest.len() });
                words.encode(word, prefix.is_empty(), ids, |word, ids| {
                    self.word(tokens, std::mem::take(&mut prefix), word, &mut escaped, &mut merger, ids);
                });
                rest = behind;
            }
        });
    }

    fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}

/// Appends a text in which `to` stands for each `from`.
fn replace(text: &str, from: &str, to: &str, out: &mut Vec<u8>) {
    let mut parts = text.split(from);
    out.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        out.extend_from_slice(to.as_bytes());
        out.extend_from_slice(part.as_bytes());
    }
}

/// Bytes of the first word: spaces, and what follows up to the next space.
fn word_len(text: &str) -> usize {
    let is_space = |c| matches!(c, ' ' | '\u{2581}');
    let first = text.find(|c| !is_space(c)).unwrap_or(text.len());
    text[first..].find(is_space).map_or(text.len(), |len| first + len)
}

/// Orders scores as unsigned integers, the highest first.
fn rank(score: f32) -> u32 {
    // Adding zero makes the two zeros one.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}
