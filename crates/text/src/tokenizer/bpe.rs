//! Byte-pair encoding by ranks of merges.

use super::byte_alphabet::{self, ALPHABET};
use super::encoder::Encoder;
use super::merger::{Merger, NONE, Symbol};
use super::normalizer::SPACE;
use super::pre_tokenizer::PreTokenizer;
use super::pre_tokenizer::splitter::Splitter;
use super::special::{Parse, SpecialTokens};
use super::token_table::TokenTable;
use super::vocab::{TokenType, Vocab, byte, covers_utf8};
use super::word_cache::WordCache;
use crate::{Error, Result};
use hashbrown::HashMap;
use unicode_normalization_alignments::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// BPE (GGUF models `gpt2` and `gemma4`): text is split into words, and in each word pairs of tokens are merged in the order of training
/// (Sennrich et al. 2016, arXiv:1508.07909). Merging begins with bytes in an alphabet of printable characters, or with characters, of
/// which unknown ones fall back to bytes.
#[derive(Debug)]
pub(crate) struct Bpe {
    specials: SpecialTokens,
    splitter: Splitter,
    /// The token of each byte.
    bytes: [Option<u32>; 256],
    /// Pairs of tokens, with the rank of their merge and the merged token.
    merges: HashMap<(u32, u32), (u32, u32)>,
    /// Whether a word that is a token is not split.
    ignore_merges: bool,
    unk: Option<u32>,
    /// Whether merging begins with characters, with U+2581 for a space, and not with bytes.
    metaspace: bool,
    /// Whether text is brought to normalization form C.
    nfc: bool,
}

/// Buffers for encoding words.
#[derive(Default)]
struct BpeScratch {
    merger: Merger,
    /// The word in the characters of the vocabulary.
    name: String,
}

impl Bpe {
    pub fn load(
        vocab: &Vocab,
        tokens: &TokenTable,
        pre: &PreTokenizer,
        warnings: &mut Vec<String>,
    ) -> Result<Box<dyn Encoder>> {
        let mut merges = HashMap::with_capacity(vocab.merges.len());
        let (mut joined, mut last) = (Vec::new(), 0);
        for (rank, merge) in (0u32..).zip(&vocab.merges) {
            let wrong = |problem: String| {
                Error::vocabulary("tokenizer.ggml.merges", format!("merge {rank} (`{merge}`): {problem}"))
            };
            let id = |name: &[u8]| {
                let missing = |name| format!("expected tokens of the vocabulary, which has no `{name}`");
                tokens.id(name).ok_or_else(|| wrong(missing(String::from_utf8_lossy(name))))
            };
            // A token may itself begin with a space.
            let at = merge.bytes().skip(1).position(|byte| byte == b' ').map(|at| at + 1);
            let at = at.ok_or_else(|| wrong("expected two tokens separated by a space".to_owned()))?;
            let (left, right) = (&merge.as_bytes()[..at], &merge.as_bytes()[at + 1..]);
            // If tokens are in the order of merges, this is the token of the previous merge or the next one.
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
        let bytes = if pre.metaspace {
            std::array::from_fn(|byte| tokens.id(format!("<0x{byte:02X}>").as_bytes()))
        } else {
            ALPHABET.map(|c| tokens.id(c.encode_utf8(&mut [0; 4]).as_bytes()))
        };
        if vocab.unk.is_none() && !covers_utf8(&bytes) {
            warnings.push(
                "the vocabulary has neither a token for every byte of UTF-8 nor an unknown token: bytes without a token \
                 are left out"
                    .to_owned(),
            );
        }
        let specials = SpecialTokens::new(&vocab.tokens, &tokens.token_types);
        let (splitter, ignore_merges, unk) = (Splitter::new(pre), pre.ignore_merges, vocab.unk);
        let (metaspace, nfc) = (pre.metaspace, vocab.normalization.nfc);
        Ok(Box::new(Bpe { specials, splitter, bytes, merges, ignore_merges, unk, metaspace, nfc }))
    }

    /// Appends the bytes of a token of byte-level BPE.
    pub fn piece(name: &str, token_type: TokenType, piece: &mut Vec<u8>) {
        match token_type {
            TokenType::Byte => piece.extend(byte(name)),
            TokenType::Normal | TokenType::Unused => byte_alphabet::decode(name, piece),
            TokenType::Unknown | TokenType::Control | TokenType::UserDefined => {
                piece.extend_from_slice(name.as_bytes())
            }
        }
    }

    /// Appends the tokens of a text without special ones.
    fn plain<'a>(
        &self,
        tokens: &TokenTable,
        text: &'a str,
        cache: &mut WordCache<'a>,
        scratch: &mut BpeScratch,
        ids: &mut Vec<u32>,
    ) {
        self.splitter.split(text, &mut |word| {
            cache.encode(word, ids, |word, ids| self.word(tokens, word, scratch, ids));
        });
    }

    fn word(&self, tokens: &TokenTable, word: &str, scratch: &mut BpeScratch, ids: &mut Vec<u32>) {
        let BpeScratch { merger, name } = scratch;
        let spelled =
            |name: &str| tokens.id(name.as_bytes()).filter(|&id| tokens.token_types[id as usize].is_spelled());
        name.clear();
        if self.metaspace {
            word.split(' ').enumerate().for_each(|(at, part)| name.extend([if at > 0 { SPACE } else { "" }, part]));
        } else if self.ignore_merges {
            name.extend(word.bytes().map(|byte| ALPHABET[usize::from(byte)]));
        }
        // Merges cannot make the tokens for runs of line ends.
        if (self.ignore_merges || self.metaspace && word.starts_with('\n'))
            && let Some(id) = spelled(name)
        {
            return ids.push(id);
        }
        if self.metaspace {
            name.split_inclusive(|_| true).for_each(|c| merger.push(spelled(c).unwrap_or(NONE), c.len()));
        } else {
            word.bytes().for_each(|byte| merger.push(self.bytes[usize::from(byte)].unwrap_or(NONE), 1));
        }
        let pair = |left: &Symbol, right: &Symbol| self.merges.get(&(left.id, right.id)).copied();
        merger.finish(pair, |symbol| {
            if symbol.id != NONE {
                return ids.push(symbol.id);
            }
            let bytes = if self.metaspace { symbol.of(name.as_bytes()) } else { &[] };
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

impl Encoder for Bpe {
    fn encode(&self, tokens: &TokenTable, text: &str, parse: Parse, ids: &mut Vec<u32>) {
        let (mut cache, mut scratch) = (WordCache::default(), BpeScratch::default());
        self.specials.encode(text, parse, ids, |text, _, ids| {
            if self.nfc && is_nfc_quick(text.chars()) != IsNormalized::Yes {
                let text: String = text.nfc().map(|(c, _)| c).collect();
                // It does not live as long as the words in the cache.
                return self.plain(tokens, &text, &mut WordCache::default(), &mut scratch, ids);
            }
            self.plain(tokens, text, &mut cache, &mut scratch, ids);
        });
    }

    fn space_prefix(&self) -> bool {
        false
    }
}
