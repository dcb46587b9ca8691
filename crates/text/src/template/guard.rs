//! Keeps the texts of a request from writing special tokens.
//!
//! The template's own text, and nothing else, may become control tokens, and user-defined tokens that the template mentions. Texts of the
//! request therefore get breaks around the punctuation of such names before they are rendered. No name reaches over a break, whatever the
//! template makes of the texts: it may trim, cut and join them. After rendering, breaks outside names are forgotten.
//!
//! A template looks for some strings in the texts, such as `</think>`. These get no breaks, unless they are or hold such a name.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashSet};

use super::lexer::{self, Token};
use crate::rendered::{BREAK, CONTROL_BREAK, Rendered, is_break};
use crate::tokenizer::markers::{Marker, Markers, Names};
use crate::{Result, Tokenizer};

/// Where a text is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// The content of an assistant's message, whose user-defined tokens are the model's own.
    Answer,
    /// Anything else of the request.
    Request,
}

/// Roles that templates write into names of tokens, as in `'<|' + message.role + '|>'`.
const ROLES: [&str; 6] = ["system", "developer", "user", "assistant", "tool", "function"];

pub(super) struct Guard<'t> {
    markers: &'t Markers,
    /// User-defined tokens that the template mentions.
    mentioned: BTreeSet<u32>,
    /// The names that a text of the request must not write.
    names: Names,
    /// What the template may compare texts with, in lower case.
    words: HashSet<String>,
    /// Strings that get no breaks in an answer, and in other texts.
    whole: [Option<AhoCorasick>; 2],
}

impl<'t> Guard<'t> {
    /// For a template with this source, as Jinja reads it.
    pub fn new(source: &str, tokenizer: &'t Tokenizer) -> Result<Guard<'t>> {
        let markers = tokenizer.markers();
        let found = markers.find(source).filter(|found| !found.marker.control && !found.marker.word);
        let mentioned: BTreeSet<u32> = found.map(|found| found.marker.id).collect();
        let mut names = markers.control.clone();
        mentioned.iter().filter_map(|&id| tokenizer.name(id)).for_each(|name| names.add(name));
        let (mut words, mut strings) = (HashSet::from(ROLES.map(str::to_owned)), Vec::new());
        for lexed in lexer::lex(source)? {
            match lexed.token {
                Token::Name(name) => _ = words.insert(name.to_lowercase()),
                Token::Text(text) => strings.push(text),
                _ => {}
            }
        }
        let mut guard = Guard { markers, mentioned, names, words, whole: [None, None] };
        guard.whole = [Origin::Answer, Origin::Request].map(|origin| {
            let strings: Vec<&String> = strings.iter().filter(|string| guard.stays_whole(string, origin)).collect();
            // The kind that is built fastest: it is made for each chat.
            let kind = Some(AhoCorasickKind::NoncontiguousNFA);
            let finder = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).kind(kind).build(&strings);
            finder.ok().filter(|_| !strings.is_empty())
        });
        guard.words.extend(strings.iter().map(|string| string.to_lowercase()));
        Ok(guard)
    }

    fn names(&self, origin: Origin) -> &Names {
        match origin {
            Origin::Answer => &self.markers.control,
            Origin::Request => &self.names,
        }
    }

    /// Whether a text must not write this token.
    fn forbids(&self, marker: Marker, origin: Origin) -> bool {
        marker.control || origin == Origin::Request && self.mentioned.contains(&marker.id)
    }

    /// Whether a string of the template has punctuation, and neither is part of a name nor has one in it.
    fn stays_whole(&self, string: &str, origin: Origin) -> bool {
        let names = self.names(origin);
        string.contains(|c| names.punctuate(c))
            && !names.contain(string)
            && !self.markers.find(string).any(|found| self.forbids(found.marker, origin))
    }

    /// Puts breaks into a list of messages.
    pub fn messages(&self, messages: &mut Value) {
        for message in messages.as_array_mut().into_iter().flatten() {
            let answer = message["role"] == "assistant";
            match message {
                Value::Object(fields) => self.fields(fields, answer),
                other => self.value(other, Origin::Request),
            }
        }
    }

    /// Puts breaks into all strings of `value`.
    pub fn request(&self, value: &mut Value) {
        self.value(value, Origin::Request);
    }

    fn fields(&self, fields: &mut Map<String, Value>, answer: bool) {
        for (key, value) in fields.iter_mut() {
            self.value(value, if answer && key == "content" { Origin::Answer } else { Origin::Request });
        }
        self.keys(fields);
    }

    fn value(&self, value: &mut Value, origin: Origin) {
        match value {
            Value::String(text) => *text = self.text(text, origin),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, origin)),
            Value::Object(entries) => {
                entries.values_mut().for_each(|value| self.value(value, origin));
                self.keys(entries);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn keys(&self, entries: &mut Map<String, Value>) {
        let marked = std::mem::take(entries).into_iter();
        *entries = marked.map(|(key, value)| (self.text(&key, Origin::Request), value)).collect();
    }

    fn text(&self, text: &str, origin: Origin) -> String {
        let mut text = text.to_owned();
        text.retain(|c| !is_break(c));
        let mut breaks = self.breaks(&text, origin).into_iter().peekable();
        if breaks.peek().is_none() {
            return text;
        }
        let mark = if origin == Origin::Answer { CONTROL_BREAK } else { BREAK };
        let (mut marked, mut done) = (String::with_capacity(text.len() * 2), 0);
        for at in breaks {
            marked.push_str(&text[done..at]);
            marked.push(mark);
            done = at;
        }
        marked + &text[done..]
    }

    /// The places of a text's breaks: on both sides of punctuation, but not where templates compare, trim and cut, which is at the ends of
    /// the text and of strings in it that they look for.
    fn breaks(&self, text: &str, origin: Origin) -> Vec<usize> {
        let (names, word) = (self.names(origin), text.trim());
        let start = text.len() - text.trim_start().len();
        let ends = start..start + word.len();
        let mut breaks = Vec::new();
        let mut whole = self.whole[origin as usize].iter().flat_map(|whole| whole.find_iter(text)).peekable();
        let mut punctuated = false;
        for (at, c) in text.char_indices().filter(|&(_, c)| names.punctuate(c)) {
            punctuated = true;
            let end = at + c.len_utf8();
            for place in [at, end] {
                while whole.next_if(|whole| whole.end() < place).is_some() {}
                // A text of one character has no inside.
                let inside = ends.start < place && (place < ends.end || at == ends.start);
                if inside && breaks.last() != Some(&place) && whole.peek().is_none_or(|whole| whole.start() > place) {
                    breaks.push(place);
                }
            }
        }
        let after_first = |start: usize| start + text[start..].chars().next().map_or(0, char::len_utf8);
        let is_word = || self.words.contains(&word.to_lowercase());
        // The template may write the punctuation around it.
        if !punctuated && !word.is_empty() && names.contain(word) && !is_word() {
            breaks.push(after_first(start));
        }
        if self.markers.has_words() && !is_word() {
            let found = self.markers.find(text).filter(|found| found.marker.word && self.forbids(found.marker, origin));
            breaks.extend(found.map(|found| after_first(found.start)));
            breaks.sort_unstable();
            breaks.dedup();
        }
        breaks
    }

    /// What was rendered of marked texts, with one break in each name that a text wrote.
    pub fn rendered(&self, marked: &str) -> Rendered {
        let (mut text, mut places) = (String::with_capacity(marked.len()), Vec::new());
        for part in marked.split_inclusive(is_break) {
            text.push_str(part.trim_end_matches(is_break));
            if part.ends_with(is_break) {
                places.push((text.len(), if part.ends_with(BREAK) { Origin::Request } else { Origin::Answer }));
            }
        }
        let mut breaks = BTreeSet::new();
        if !places.is_empty() {
            for found in self.markers.find(&text) {
                let after = &places[places.partition_point(|&(at, _)| at <= found.start)..];
                let mut inside = after.iter().take_while(|&&(at, _)| at < found.end);
                breaks.extend(inside.find(|&&(_, origin)| self.forbids(found.marker, origin)).map(|&(at, _)| at));
            }
        }
        Rendered { text, breaks: breaks.into_iter().collect() }
    }
}
