//! The tokens of a vocabulary, by id and by spelling.

use crate::Kind;
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

/// Name, kind and bytes of each token.
#[derive(Debug)]
pub(crate) struct Tokens {
    pub names: Arena,
    pub kinds: Vec<Kind>,
    /// The bytes that each token stands for.
    pub pieces: Arena,
    ids: Index,
}

impl Tokens {
    /// `piece` appends the bytes that a token of this name and kind stands for.
    pub fn new(names: &[&str], kinds: Vec<Kind>, piece: fn(&str, Kind, &mut Vec<u8>)) -> Tokens {
        let mut tokens =
            Tokens { names: Arena::default(), kinds, pieces: Arena::default(), ids: Index::with_capacity(names.len()) };
        for ((id, name), &kind) in (0u32..).zip(names).zip(&tokens.kinds) {
            tokens.names.push(|bytes| bytes.extend_from_slice(name.as_bytes()));
            tokens.pieces.push(|bytes| piece(name, kind, bytes));
            tokens.ids.insert(&tokens.names, id);
        }
        tokens
    }

    /// The tokens that plain text may become, with their names.
    pub fn spelled(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let of = |(id, kind): (u32, &Kind)| {
            Some((id, self.names.get(id).filter(|name| kind.is_spelled() && !name.is_empty())?))
        };
        (0u32..).zip(&self.kinds).filter_map(of)
    }

    /// The first token of this name.
    pub fn id(&self, name: &[u8]) -> Option<u32> {
        self.ids.find(&self.names, name)
    }

    /// How many tokens have the name of another before them.
    pub fn duplicates(&self) -> usize {
        self.kinds.len() - self.ids.ids.len()
    }
}

/// Byte strings by number, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    bytes: Vec<u8>,
    /// Where each string ends.
    ends: Vec<usize>,
}

impl Arena {
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

/// Finds strings of an [`Arena`], which it is given with every call.
#[derive(Debug)]
pub(crate) struct Index {
    ids: HashTable<u32>,
    hash: DefaultHashBuilder,
}

impl Index {
    pub fn with_capacity(len: usize) -> Index {
        Index { ids: HashTable::with_capacity(len), hash: DefaultHashBuilder::default() }
    }

    /// Adds a string of the arena, unless an equal one is there.
    pub fn insert(&mut self, arena: &Arena, id: u32) {
        let key = arena.get(id);
        let hash = |key: Option<&[u8]>| self.hash.hash_one(key);
        if let Entry::Vacant(slot) = self.ids.entry(hash(key), |&id| arena.get(id) == key, |&id| hash(arena.get(id))) {
            slot.insert(id);
        }
    }

    pub fn find(&self, arena: &Arena, key: &[u8]) -> Option<u32> {
        self.ids.find(self.hash.hash_one(Some(key)), |&id| arena.get(id) == Some(key)).copied()
    }
}
