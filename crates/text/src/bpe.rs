use crate::merge::{Merger, NONE, Symbol};
use crate::pre::{Pre, Splitter};
use crate::special::Specials;
use crate::tokenizer::Model;
use crate::tokens::Tokens;
use crate::vocab::{byte, spells_utf8};
use crate::words::Words;
use crate::{Error, Kind, Result, Vocab, bytes};
use hashbrown::HashMap;

/// Byte-level BPE (GGUF model `gpt2`): a text is split into words, and in each word the pair of tokens that was
/// merged first in training merges first (Sennrich et al. 2016, arXiv:1508.07909).
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
        let bytes = bytes::ALPHABET.map(|c| tokens.id(c.encode_utf8(&mut [0; 4]).as_bytes()));
        if vocab.unk.is_none() && !spells_utf8(&bytes) {
            warnings.push(
                "the vocabulary has neither a token for every byte of UTF-8 nor an unknown token: bytes that it cannot spell \
                 are left out"
                    .to_owned(),
            );
        }
        let specials = Specials::new(&vocab.tokens, &tokens.kinds);
        let (splitter, whole_words, unk) = (Splitter::new(pre), pre.whole_words, vocab.unk);
        Ok(Box::new(Bpe { specials, splitter, bytes, merges, whole_words, unk }))
    }

    /// Appends the bytes that a token of this spelling stands for.
    pub fn piece(name: &str, kind: Kind, piece: &mut Vec<u8>) {
        match kind {
            Kind::Byte => piece.extend(byte(name)),
            Kind::Normal | Kind::Unused => bytes::decode(name, piece),
            Kind::Unknown | Kind::Control | Kind::UserDefined => piece.extend_from_slice(name.as_bytes()),
        }
    }

    fn word(&self, tokens: &Tokens, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        if self.whole_words {
            let name: String = word.bytes().map(|byte| bytes::ALPHABET[usize::from(byte)]).collect();
            let whole = tokens.id(name.as_bytes()).filter(|&id| tokens.kinds[id as usize].is_spelled());
            if let Some(id) = whole {
                return ids.push(id);
            }
        }
        for &byte in word.as_bytes() {
            merger.push(self.bytes[usize::from(byte)].unwrap_or(NONE), 1);
        }
        let pair = |left: &Symbol, right: &Symbol| self.merges.get(&(left.id, right.id)).copied();
        merger.finish(pair, |symbol| ids.extend(Some(symbol.id).filter(|&id| id != NONE).or(self.unk)));
    }
}

impl Model for Bpe {
    fn encode(&self, tokens: &Tokens, text: &str, special: bool, ids: &mut Vec<u32>) {
        let (mut words, mut merger) = (Words::default(), Merger::default());
        self.specials.encode(text, special, ids, |text, ids| {
            self.splitter.split(text, &mut |word| {
                words.encode(word, ids, |word, ids| self.word(tokens, word, &mut merger, ids));
            });
        });
    }

    fn space_prefix(&self) -> bool {
        false
    }
}
