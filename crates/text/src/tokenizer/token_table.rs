//! The tokens of a vocabulary, by id and by name.

use super::vocab::TokenType;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Name, type and bytes of each token.
#[derive(Debug)]
pub(crate) struct TokenTable {
    pub names: ByteStrings,
    pub token_types: Vec<TokenType>,
    /// The bytes that each token decodes to.
    pub pieces: ByteStrings,
    ids: NameIndex,
}

impl TokenTable {
    /// `piece` appends the bytes that a token of this name and type decodes to.
    pub fn new(names: &[&str], token_types: Vec<TokenType>, piece: fn(&str, TokenType, &mut Vec<u8>)) -> TokenTable {
        let mut tokens = TokenTable {
            names: ByteStrings::default(),
            token_types,
            pieces: ByteStrings::default(),
            ids: NameIndex::with_capacity(names.len()),
        };
        for ((id, name), &token_type) in (0u32..).zip(names).zip(&tokens.token_types) {
            tokens.names.push(|bytes| bytes.extend_from_slice(name.as_bytes()));
            tokens.pieces.push(|bytes| piece(name, token_type, bytes));
            tokens.ids.insert(&tokens.names, id);
        }
        tokens
    }

    /// The tokens that plain text may become, with their names.
    pub fn spelled(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let of = |(id, token_type): (u32, &TokenType)| {
            Some((id, self.names.get(id).filter(|name| token_type.is_spelled() && !name.is_empty())?))
        };
        (0u32..).zip(&self.token_types).filter_map(of)
    }

    /// The first token of this name.
    pub fn id(&self, name: &[u8]) -> Option<u32> {
        self.ids.find(&self.names, name)
    }

    /// The number of tokens that have the name of an earlier one.
    pub fn duplicates(&self) -> usize {
        self.token_types.len() - self.ids.ids.len()
    }
}

/// Byte strings in one allocation.
#[derive(Debug, Default)]
pub(crate) struct ByteStrings {
    bytes: Vec<u8>,
    /// The end of each string in `bytes`.
    ends: Vec<usize>,
}

impl ByteStrings {
    /// Adds the string that `write` appends.
    fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    pub fn get(&self, id: u32) -> Option<&[u8]> {
        let id = id as usize;
        let start = if id == 0 { 0 } else { *self.ends.get(id - 1)? };
        Some(&self.bytes[start..*self.ends.get(id)?])
    }
}

/// A hash table of strings in a [`ByteStrings`], which is passed to every call.
#[derive(Debug)]
pub(crate) struct NameIndex {
    ids: HashTable<u32>,
    hash: DefaultHashBuilder,
}

impl NameIndex {
    pub fn with_capacity(len: usize) -> NameIndex {
        NameIndex { ids: HashTable::with_capacity(len), hash: DefaultHashBuilder::default() }
    }

    /// Adds a string, unless an equal one is present.
    pub fn insert(&mut self, strings: &ByteStrings, id: u32) {
        let key = strings.get(id);
        let hash = |key: Option<&[u8]>| self.hash.hash_one(key);
        if let Entry::Vacant(slot) =
            self.ids.entry(hash(key), |&id| strings.get(id) == key, |&id| hash(strings.get(id)))
        {
            slot.insert(id);
        }
    }

    pub fn find(&self, strings: &ByteStrings, key: &[u8]) -> Option<u32> {
        self.ids.find(self.hash.hash_one(Some(key)), |&id| strings.get(id) == Some(key)).copied()
    }
}
