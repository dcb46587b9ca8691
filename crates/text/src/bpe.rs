use crate::merge::{Merger, NONE, Symbol};
use crate::pre::{Pre, Splitter};
use crate::special::Specials;
use crate::tokenizer::Model;
use crate::vocab::{byte, spells_utf8};
use crate::{Error, Kind, Result, Vocab, bytes};
use std::collections::HashMap;

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
    /// Words that are taken whole, without merging; empty when the pre-tokenizer does not ask for it.
    words: HashMap<Vec<u8>, u32>,
    unk: Option<u32>,
}

impl Bpe {
    pub fn load(vocab: &Vocab, kinds: &[Kind], pre: &Pre, warnings: &mut Vec<String>) -> Result<Box<dyn Model>> {
        let mut ids = HashMap::with_capacity(vocab.tokens.len());
        for (id, name) in (0u32..).zip(&vocab.tokens) {
            ids.entry(name.as_str()).or_insert(id);
        }
        let mut words = HashMap::new();
        if pre.whole_words {
            for ((id, name), kind) in (0u32..).zip(&vocab.tokens).zip(kinds).filter(|(_, kind)| kind.is_spelled()) {
                words.entry(Bpe::piece(name, *kind)).or_insert(id);
            }
        }
        let mut merges = HashMap::with_capacity(vocab.merges.len());
        for (rank, merge) in (0u32..).zip(&vocab.merges) {
            let wrong = |problem| Error::Merge { index: rank as usize, merge: merge.clone(), problem };
            // A token may itself begin with a space.
            let space = merge.char_indices().skip(1).find(|&(_, c)| c == ' ').map(|(at, _)| at);
            let at = space.ok_or_else(|| wrong("expected two tokens with a space between".to_owned()))?;
            let (left, right) = (&merge[..at], &merge[at + 1..]);
            let id = |name: &str| {
                let id = ids.get(name).copied();
                id.ok_or_else(|| wrong(format!("expected tokens of the vocabulary, which has no `{name}`")))
            };
            let merged = (rank, id(&[left, right].concat())?);
            merges.entry((id(left)?, id(right)?)).or_insert(merged);
        }
        let bytes = bytes::ALPHABET.map(|c| ids.get(&*c.encode_utf8(&mut [0; 4])).copied());
        if vocab.unk.is_none() && !spells_utf8(&bytes) {
            warnings.push(
                "the vocabulary has neither a token for every byte of UTF-8 nor an unknown token: bytes that it cannot spell \
                 are left out"
                    .to_owned(),
            );
        }
        let specials = Specials::new(&vocab.tokens, kinds);
        Ok(Box::new(Bpe { specials, splitter: Splitter::new(pre), bytes, merges, words, unk: vocab.unk }))
    }

    /// The bytes that a token of this spelling stands for.
    pub fn piece(name: &str, kind: Kind) -> Vec<u8> {
        match kind {
            Kind::Byte => byte(name).into_iter().collect(),
            Kind::Normal | Kind::Unused => bytes::decode(name),
            Kind::Unknown | Kind::Control | Kind::UserDefined => name.as_bytes().to_vec(),
        }
    }

    fn word(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        if let Some(&id) = self.words.get(word.as_bytes()) {
            return ids.push(id);
        }
        for &byte in word.as_bytes() {
            merger.push(self.bytes[usize::from(byte)].unwrap_or(NONE), 1);
        }
        let pair = |left: &Symbol, right: &Symbol| self.merges.get(&(left.id, right.id)).copied();
        merger.finish(pair, |symbol| ids.extend(Some(symbol.id).filter(|&id| id != NONE).or(self.unk)));
    }
}

impl Model for Bpe {
    fn encode(&self, text: &str, special: bool, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        self.specials.encode(text, special, ids, |text, ids| {
            self.splitter.split(text, &mut |word| self.word(word, &mut merger, ids));
        });
    }

    fn space_prefix(&self) -> bool {
        false
    }
}
