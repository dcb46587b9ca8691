//! Tokens that are matched in a text before it is split.

use super::vocab::TokenType;
use aho_corasick::{AhoCorasick, MatchKind};

/// Matches user-defined tokens, and control tokens if they are parsed.
#[derive(Debug)]
pub(crate) struct SpecialTokens {
    user_defined: Option<TokenFinder>,
    all: Option<TokenFinder>,
}

impl SpecialTokens {
    pub fn new(names: &[&str], token_types: &[TokenType]) -> SpecialTokens {
        SpecialTokens {
            user_defined: TokenFinder::new(names, token_types, &[TokenType::UserDefined]),
            all: TokenFinder::new(
                names,
                token_types,
                &[TokenType::UserDefined, TokenType::Control, TokenType::Unknown],
            ),
        }
    }

    /// Appends the tokens of `text`. `plain` appends those of the text between special tokens.
    pub fn encode<'a>(
        &self,
        text: &'a str,
        parse_special: bool,
        ids: &mut Vec<u32>,
        plain: impl FnMut(&'a str, &mut Vec<u32>),
    ) {
        encode(if parse_special { &self.all } else { &self.user_defined }, text, ids, plain);
    }
}

/// Appends the tokens of `text`. `plain` appends those of the text between matches.
pub(crate) fn encode<'a>(
    finder: &Option<TokenFinder>,
    text: &'a str,
    ids: &mut Vec<u32>,
    mut plain: impl FnMut(&'a str, &mut Vec<u32>),
) {
    let mut done = 0;
    if let Some(finder) = finder {
        for found in finder.names.find_iter(text) {
            if done < found.start() {
                plain(&text[done..found.start()], ids);
            }
            ids.push(finder.ids[found.pattern().as_usize()]);
            done = found.end();
        }
    }
    if done < text.len() {
        plain(&text[done..], ids);
    }
}

/// Matches the names of tokens, from left to right, the longest first.
#[derive(Debug)]
pub(crate) struct TokenFinder {
    names: AhoCorasick,
    ids: Vec<u32>,
}

impl TokenFinder {
    /// Matches tokens of the `wanted` types; `None` if there are none.
    pub fn new(names: &[&str], token_types: &[TokenType], wanted: &[TokenType]) -> Option<TokenFinder> {
        let found = (0u32..).zip(names).zip(token_types).filter(|((_, name), token_type)| {
            // An empty name would match everywhere.
            wanted.contains(token_type) && !name.is_empty()
        });
        let (ids, names): (Vec<_>, Vec<&str>) = found.map(|((id, &name), _)| (id, name)).unzip();
        if ids.is_empty() {
            return None;
        }
        // Building fails only for more than 2^31 states, which do not fit into memory.
        let names = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(names).ok()?;
        Some(TokenFinder { names, ids })
    }

    /// Start and end of every match.
    pub fn spans(&self, text: &str) -> impl Iterator<Item = (usize, usize)> {
        self.names.find_iter(text).map(|found| (found.start(), found.end()))
    }
}
