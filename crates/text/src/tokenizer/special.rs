//! Tokens that are matched in a text before it is split.

use super::vocab::TokenType;
use crate::rendered::BREAK;
use aho_corasick::{AhoCorasick, MatchKind};
use std::borrow::Cow;

/// Which names of tokens in a text become these tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parse<'a> {
    /// Whether those of control tokens do. Those of user-defined tokens always do.
    pub control: bool,
    /// Places in the text over which no name reaches, in ascending order.
    pub breaks: &'a [usize],
}

impl Parse<'_> {
    /// `text`, which begins at `start` of the whole, with a [`BREAK`] at each of the places in it.
    pub fn mark<'t>(&self, text: &'t str, start: usize) -> Cow<'t, str> {
        let inside = |at: &usize| *at < start + text.len();
        let breaks = &self.breaks[self.breaks.partition_point(|at| *at <= start)..];
        if !breaks.first().is_some_and(inside) {
            return text.into();
        }
        let (mut marked, mut done) = (String::with_capacity(text.len() + 8), 0);
        for at in breaks.iter().take_while(|at| inside(at)) {
            marked.push_str(&text[done..at - start]);
            marked.push(BREAK);
            done = at - start;
        }
        (marked + &text[done..]).into()
    }
}

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

    /// Appends the tokens of `text`. `plain` appends those of the text between special tokens, which begins at its second argument.
    pub fn encode<'a>(
        &self,
        text: &'a str,
        parse: Parse,
        ids: &mut Vec<u32>,
        plain: impl FnMut(&'a str, usize, &mut Vec<u32>),
    ) {
        encode(if parse.control { &self.all } else { &self.user_defined }, text, parse.breaks, ids, plain);
    }
}

/// Appends the tokens of `text`. `plain` appends those of the text between matches, none of which reaches over one of the `breaks`.
pub(crate) fn encode<'a>(
    finder: &Option<TokenFinder>,
    text: &'a str,
    breaks: &[usize],
    ids: &mut Vec<u32>,
    mut plain: impl FnMut(&'a str, usize, &mut Vec<u32>),
) {
    let (mut done, mut start) = (0, 0);
    if let Some(finder) = finder {
        for &end in breaks.iter().chain([&text.len()]) {
            for found in finder.names.find_iter(&text[start..end]) {
                if done < start + found.start() {
                    plain(&text[done..start + found.start()], done, ids);
                }
                ids.push(finder.ids[found.pattern().as_usize()]);
                done = start + found.end();
            }
            start = end;
        }
    }
    if done < text.len() {
        plain(&text[done..], done, ids);
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
