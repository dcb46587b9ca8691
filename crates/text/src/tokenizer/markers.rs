//! The names of tokens that structure a chat: a message must not write these tokens.

use super::token_table::TokenTable;
use super::vocab::TokenType;
use aho_corasick::AhoCorasick;
use std::collections::BTreeSet;

/// The names of a vocabulary's control tokens, and of the user-defined ones, some of which structure chats (`<tool_call>`) and others are text
/// (`<table>`). Names of one character, or of white space, are text.
#[derive(Debug)]
pub(crate) struct Markers {
    /// Finds all names, also those inside others.
    finder: Option<AhoCorasick>,
    markers: Vec<Marker>,
    /// The names of control tokens.
    pub control: Names,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Marker {
    pub id: u32,
    pub control: bool,
    /// Whether the name has no punctuation.
    pub word: bool,
}

/// A [`Marker`] in a text.
pub(crate) struct Found {
    pub marker: Marker,
    pub start: usize,
    pub end: usize,
}

impl Markers {
    pub fn new(tokens: &TokenTable) -> Markers {
        let (mut names, mut markers, mut control) = (Vec::new(), Vec::new(), Names::default());
        for (id, &token_type) in (0u32..).zip(&tokens.token_types) {
            let special = [TokenType::Control, TokenType::Unknown, TokenType::UserDefined].contains(&token_type);
            let name = tokens.names.get(id).filter(|_| special).and_then(|name| str::from_utf8(name).ok());
            let Some(name) = name.filter(|name| name.chars().nth(1).is_some() && !name.trim().is_empty()) else {
                continue;
            };
            let marker =
                Marker { id, control: token_type != TokenType::UserDefined, word: !name.contains(is_punctuation) };
            if marker.control {
                control.add(name);
            }
            names.push(name);
            markers.push(marker);
        }
        // Building fails only for more than 2^31 states, which do not fit into memory.
        Markers { finder: AhoCorasick::new(names).ok().filter(|_| !markers.is_empty()), markers, control }
    }

    /// All names in a text, ordered by their ends.
    pub fn find(&self, text: &str) -> impl Iterator<Item = Found> {
        self.finder.iter().flat_map(move |finder| finder.find_overlapping_iter(text)).map(|found| {
            let marker = self.markers[found.pattern().as_usize()];
            Found { marker, start: found.start(), end: found.end() }
        })
    }

    /// Whether there are names without punctuation.
    pub fn has_words(&self) -> bool {
        self.markers.iter().any(|marker| marker.word)
    }
}

/// What is in names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    /// All of them, each before a NUL.
    joined: String,
    /// The bits of ASCII punctuation.
    ascii: u128,
    other: BTreeSet<char>,
}

impl Names {
    pub fn add(&mut self, name: &str) {
        for c in name.chars().filter(|&c| is_punctuation(c)) {
            if c.is_ascii() {
                self.ascii |= 1 << u32::from(c);
            } else {
                self.other.insert(c);
            }
        }
        self.joined.extend([name, "\0"]);
    }

    /// Whether `part` is in one of the names.
    pub fn contain(&self, part: &str) -> bool {
        self.joined.contains(part)
    }

    /// Whether `c` is punctuation of a name.
    pub fn punctuate(&self, c: char) -> bool {
        if c.is_ascii() { self.ascii >> u32::from(c) & 1 == 1 } else { self.other.contains(&c) }
    }
}

fn is_punctuation(c: char) -> bool {
    !c.is_alphanumeric() && !c.is_whitespace() && c != '_'
}
