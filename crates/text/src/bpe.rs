use crate::merge::{Merger, NONE, Symbol};
use crate::normalize::SPACE;
use crate::pre::Pre;
use crate::special::Specials;
use crate::split::Splitter;
use crate::tokenizer::Model;
use crate::tokens::Tokens;
use crate::vocab::{byte, spells_utf8};
use crate::words::Words;
use crate::{Error, Kind, Result, Vocab, bytes};
use hashbrown::HashMap;

/// BPE by ranks (GGUF models `gpt2` and `gemma4`): a text is split into words, and in each word the pair of tokens that was merged
/// first in training merges first (Sennrich et al. 2016, arXiv:1508.07909). It begins with bytes, written in an alphabet of their own,
/// or with characters, of which those that are no tokens fall back to bytes.
#[derive(Debug)]
pub(crate) struct Bpe {
    specials: Specials,
    splitter: Splitter,
    /// The token of every byte.
    bytes: [Option<u32>; 256],
    /// Two tokens, their rank, and the token that they become.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Whether a word that is a token is taken whole, without merging.
    whole_words: bool,
    unk: Option<u32>,
    /// Whether it begins with characters, U+2581 for a space.
    plain: bool,
}

/// What encoding words needs room for.
#[derive(Default)]
struct Room {
    merger: Merger,
    /// The word in the alphabet of the vocabulary.
    name: String,
}

impl Bpe {
    pub fn load(vocab: &Vocab, tokens: &Tokens, pre: &Pre, warnings: &mut Vec<String>) -> Result<Box<dyn Model>> {
        let mut merges = HashMap::with_capacity(vocab.merges.len());
        let (mut joined, mut last) = (Vec::new(), 0);
        for (rank, merge) in (0u32..).zip(&vocab.merges) {
            let wrong = |problem| Error::Merge { index: rank as usize, merge: (*merge).to_owned(), problem };
            let id = |name: &[u8]| {
                let missing = |name| format!("expected tokens of the vocabulary, which has no `{name}`");
                tokens.id(name).ok_or_else(|| wrong(missing(String::from_utf8_lossy(name))))
            };
            // A token may itself begin with a space.
            let at = merge.bytes().skip(1).position(|byte| byte == b' ').map(|at| at + 1);
            let at = at.ok_or_else(|| wrong("expected two tokens with a space between".to_owned()))?;
            let (left, right) = (&merge.as_bytes()[..at], &merge.as_bytes()[at + 1..]);
            // Where tokens are in the order of their merges, this is the token of the merge before or the one behind it.
            let is_joined = |id: &u32| tokens.names.get(*id).and_then(|name| name.strip_prefix(left)) == Some(right);
            let guess = [last, last + 1].into_iter().find(is_joined).filter(|_| tokens.duplicates() == 0);
            last = guess.map_or_else(
                || {
                    joined.clear();
                    joined.extend_from_slice(left);
                    joined.extend_from_slice(right);
                    id(&joined)
                },
                Ok,
            )?;
            merges.entry((id(left)?, id(right)?)).or_insert((rank, last));
        }
        let bytes = if pre.plain {
            std::array::from_fn(|byte| tokens.id(format!("<0x{byte:02X}>").as_bytes()))
        } else {
            bytes::ALPHABET.map(|c| tokens.id(c.encode_utf8(&mut [0; 4]).as_bytes()))
        };
        if vocab.unk.is_none() && !spells_utf8(&bytes) {
            warnings.push(
                "the vocabulary has neither a token for every byte of UTF-8 nor an unknown token: bytes that it cannot spell \
                 are left out"
                    .to_owned(),
            );
        }
        let specials = Specials::new(&vocab.tokens, &tokens.kinds);
        let (splitter, whole_words, unk) = (Splitter::new(pre), pre.whole_words, vocab.unk);
        Ok(Box::new(Bpe { specials, splitter, bytes, merges, whole_words, unk, plain: pre.plain }))
    }

    /// Appends the bytes that a token of this spelling stands for.
    pub fn piece(name: &str, kind: Kind, piece: &mut Vec<u8>) {
        match kind {
            Kind::Byte => piece.extend(byte(name)),
            Kind::Normal | Kind::Unused => bytes::decode(name, piece),
            Kind::Unknown | Kind::Control | Kind::UserDefined => piece.extend_from_slice(name.as_bytes()),
        }
    }

    fn word(&self, tokens: &Tokens, word: &str, room: &mut Room, ids: &mut Vec<u32>) {
        let Room { merger, name } = room;
        let spelled = |name: &str| tokens.id(name.as_bytes()).filter(|&id| tokens.kinds[id as usize].is_spelled());
        name.clear();
        if self.plain {
            word.split(' ').enumerate().for_each(|(at, part)| name.extend([if at > 0 { SPACE } else { "" }, part]));
        } else if self.whole_words {
            name.extend(word.bytes().map(|byte| bytes::ALPHABET[usize::from(byte)]));
        }
        // What merges are made of has no line in it, and still runs of them are tokens.
        if (self.whole_words || self.plain && word.starts_with('\n'))
            && let Some(id) = spelled(name)
        {
            return ids.push(id);
        }
        if self.plain {
            name.split_inclusive(|_| true).for_each(|c| merger.push(spelled(c).unwrap_or(NONE), c.len()));
        } else {
            word.bytes().for_each(|byte| merger.push(self.bytes[usize::from(byte)].unwrap_or(NONE), 1));
        }
        let pair = |left: &Symbol, right: &Symbol| self.merges.get(&(left.id, right.id)).copied();
        merger.finish(pair, |symbol| {
            if symbol.id != NONE {
                return ids.push(symbol.id);
            }
            let bytes = if self.plain { symbol.of(name.as_bytes()) } else { &[] };
            let known = bytes.iter().filter_map(|&byte| self.bytes[usize::from(byte)]);
            let start = ids.len();
            ids.extend(known);
            if ids.len() - start < bytes.len() || bytes.is_empty() {
                ids.truncate(start);
                ids.extend(self.unk);
            }
        });
    }
}

impl Model for Bpe {
    fn encode(&self, tokens: &Tokens, text: &str, special: bool, ids: &mut Vec<u32>) {
        let (mut words, mut room) = (Words::default(), Room::default());
        self.specials.encode(text, special, ids, |text, ids| {
            self.splitter.split(text, &mut |word| {
                words.encode(word, ids, |word, ids| self.word(tokens, word, &mut room, ids));
            });
        });
    }

    fn space_prefix(&self) -> bool {
        false
    }
}
