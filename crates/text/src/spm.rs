use crate::merge::{Merger, NONE};
use crate::special::Specials;
use crate::tokenizer::Model;
use crate::vocab::{byte, spells_utf8};
use crate::{Error, Kind, Result, Vocab};
use std::collections::HashMap;

/// What SentencePiece writes for a space.
const SPACE: char = '\u{2581}';

/// SentencePiece's BPE (GGUF model `llama`): neighbours merge into the token of the highest score, and what the
/// vocabulary cannot spell falls back to bytes (Kudo and Richardson 2018, arXiv:1808.06226).
#[derive(Debug)]
pub(crate) struct Spm {
    specials: Specials,
    /// The tokens that plain text may become, with the rank of their score: 0 for the highest.
    tokens: HashMap<String, (u32, u32)>,
    /// Bytes of the longest of them.
    longest: usize,
    bytes: [Option<u32>; 256],
    unk: Option<u32>,
    space_prefix: bool,
    /// No token has a space behind another character, so no merge crosses into a new word.
    words: bool,
}

impl Spm {
    pub fn load(vocab: &Vocab, kinds: &[Kind], warnings: &mut Vec<String>) -> Result<Box<dyn Model>> {
        let len = vocab.tokens.len();
        if vocab.scores.len() != len {
            return Err(Error::Length { key: "tokenizer.ggml.scores", expected: len, found: vocab.scores.len() });
        }
        let mut tokens = HashMap::with_capacity(len);
        let mut bytes = [None; 256];
        for (id, name) in vocab.tokens.iter().enumerate() {
            let score = vocab.scores[id];
            if score.is_nan() {
                let problem = "expected a number as its score, found NaN".to_owned();
                return Err(Error::Token { id, name: name.clone(), problem });
            }
            if kinds[id].is_spelled() && !name.is_empty() {
                tokens.entry(name.clone()).or_insert((rank(score), id as u32));
            }
            if let (Kind::Byte, Some(byte)) = (kinds[id], byte(name)) {
                bytes[usize::from(byte)].get_or_insert(id as u32);
            }
        }
        let unk = vocab.unk.or_else(|| kinds.iter().position(|&kind| kind == Kind::Unknown).map(|id| id as u32));
        if unk.is_none() && !spells_utf8(&bytes) {
            warnings.push(
                "the vocabulary has neither all the byte tokens nor an unknown token: characters that it cannot \
                 spell are left out"
                    .to_owned(),
            );
        }
        let longest = tokens.keys().map(String::len).max().unwrap_or(0);
        let crosses = |name: &String| name.trim_start_matches(SPACE).contains(SPACE);
        Ok(Box::new(Spm {
            specials: Specials::new(&vocab.tokens, kinds),
            words: !tokens.keys().any(crosses),
            tokens,
            longest,
            bytes,
            unk,
            space_prefix: vocab.add_space_prefix.unwrap_or(true),
        }))
    }

    /// The bytes that a token of this spelling stands for.
    pub fn piece(name: &str, kind: Kind) -> Vec<u8> {
        match kind {
            Kind::Byte => byte(name).into_iter().collect(),
            Kind::Normal | Kind::Unused => name.replace(SPACE, " ").into_bytes(),
            Kind::Unknown | Kind::Control | Kind::UserDefined => name.as_bytes().to_vec(),
        }
    }

    fn plain(&self, text: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        let mut escaped = String::with_capacity(text.len() + text.len() / 2);
        let prefix = self.space_prefix.then_some(SPACE);
        escaped.extend(prefix.into_iter().chain(text.chars().map(|c| if c == ' ' { SPACE } else { c })));
        let mut rest = &*escaped;
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(if self.words { word_len(rest) } else { rest.len() });
            self.word(word, merger, ids);
            rest = behind;
        }
    }

    fn word(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        for (start, c) in word.char_indices() {
            let len = c.len_utf8();
            merger.push(self.tokens.get(&word[start..start + len]).map_or(NONE, |&(_, id)| id), len);
        }
        let pair = |left: &crate::merge::Symbol, right: &crate::merge::Symbol| {
            let len = left.len + right.len;
            if len > self.longest { None } else { self.tokens.get(&word[left.start..left.start + len]).copied() }
        };
        merger.finish(pair, |symbol| {
            if symbol.id != NONE {
                return ids.push(symbol.id);
            }
            let bytes = &word.as_bytes()[symbol.start..symbol.start + symbol.len];
            if bytes.iter().all(|&byte| self.bytes[usize::from(byte)].is_some()) {
                ids.extend(bytes.iter().filter_map(|&byte| self.bytes[usize::from(byte)]));
            } else {
                ids.extend(self.unk);
            }
        });
    }
}

impl Model for Spm {
    fn encode(&self, text: &str, special: bool, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        self.specials.encode(text, special, ids, |text, ids| self.plain(text, &mut merger, ids));
    }

    fn space_prefix(&self) -> bool {
        self.space_prefix
    }
}

/// Bytes of the first word: spaces, and what follows up to the next space.
fn word_len(text: &str) -> usize {
    let first = text.find(|c| c != SPACE).unwrap_or(text.len());
    text[first..].find(SPACE).map_or(text.len(), |len| first + len)
}

/// Orders scores as unsigned integers, the highest first.
fn rank(score: f32) -> u32 {
    // Adding zero makes the two zeros one.
    let bits = (score + 0.0).to_bits();
    let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    !ascending
}
