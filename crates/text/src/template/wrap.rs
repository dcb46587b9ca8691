//! The `wordwrap` filter: Python's `textwrap.wrap(line, width, ...)` of each line.

use minijinja::{Error, State, Value};
use regex_automata::meta::Regex;
use std::ops::Range;
use std::sync::LazyLock;

use super::args::{Args, optional, required};
use super::budget::{ENTRY, spend};
use super::strings::{is_space, pattern, splitlines};

static LETTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"[\p{L}\p{N}_--\p{Nd}]"));

pub(super) fn wordwrap(state: &mut State, args: &Args) -> Result<Value, Error> {
    let [value, width, long, by, hyphens] = args.bind([
        required("s"),
        optional("width", 79),
        optional("break_long_words", true),
        optional("wrapstring", ()),
        optional("break_on_hyphens", true),
    ])?;
    let text = args.text(&value)?;
    let by = if by.is_none() { "\n" } else { args.text(&by)? };
    let wrap = Wrap {
        width: usize::try_from(args.integer(&width)?).unwrap_or(0),
        long: long.is_true(),
        hyphens: hyphens.is_true(),
    };
    let mut wrapped = String::new();
    for (i, line) in splitlines(text, false).into_iter().enumerate() {
        if wrap.width == 0 {
            return Err(args.fail("expected a width above 0"));
        }
        spend(state, by.len() + line.len() * ENTRY)?;
        wrapped.push_str(if i > 0 { by } else { "" });
        let chars: Vec<char> = line.chars().collect();
        for (i, line) in wrap.lines(&chars).into_iter().enumerate() {
            spend(state, by.len())?;
            wrapped.push_str(if i > 0 { by } else { "" });
            wrapped.extend(line.into_iter().flat_map(|chunk| &chars[chunk]));
        }
    }
    Ok(wrapped.into())
}

struct Wrap {
    /// Characters of a line.
    width: usize,
    /// Whether words longer than a line are broken.
    long: bool,
    /// Whether words are broken after hyphens.
    hyphens: bool,
}

impl Wrap {
    /// The lines, each as the chunks in it.
    fn lines(&self, text: &[char]) -> Vec<Vec<Range<usize>>> {
        let mut chunks = self.chunks(text);
        chunks.reverse();
        let blank = |chunk: &Range<usize>| text[chunk.clone()].iter().all(|&c| is_space(c));
        let mut lines: Vec<Vec<Range<usize>>> = Vec::new();
        while let Some(first) = chunks.last() {
            if !lines.is_empty() && blank(first) {
                chunks.pop();
            }
            let (mut line, mut len) = (Vec::new(), 0);
            while let Some(chunk) = chunks.pop_if(|chunk| len + chunk.len() <= self.width) {
                len += chunk.len();
                line.push(chunk);
            }
            if let Some(chunk) = chunks.last_mut().filter(|chunk| chunk.len() > self.width) {
                if self.long {
                    let end = chunk.start + self.cut(&text[chunk.clone()], self.width - len);
                    line.push(chunk.start..end);
                    chunk.start = end;
                } else if line.is_empty() {
                    line.extend(chunks.pop());
                }
            }
            line.pop_if(|last| blank(last));
            if !line.is_empty() {
                lines.push(line);
            }
        }
        lines
    }

    /// How much of a long word goes into the `space` that is left on a line.
    fn cut(&self, word: &[char], space: usize) -> usize {
        let hyphen = word[..space].iter().rposition(|&c| c == '-').filter(|_| self.hyphens);
        match hyphen {
            Some(at) if word[..at].iter().any(|&c| c != '-') => at + 1,
            _ => space,
        }
    }

    /// Words, parts of words, and the spaces between them.
    fn chunks(&self, text: &[char]) -> Vec<Range<usize>> {
        let blank = |c: &char| matches!(c, '\t' | '\n' | '\u{b}' | '\u{c}' | '\r' | ' ');
        let (mut chunks, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let of_spaces = blank(&text[at]);
            let end = text[at..].iter().position(|c| blank(c) != of_spaces).map_or(text.len(), |len| at + len);
            let end = if of_spaces || !self.hyphens { end } else { part(text, at, end) };
            chunks.push(at..end);
            at = end;
        }
        chunks
    }
}

fn is_letter(c: char) -> bool {
    c == '_' || if c.is_ascii() { c.is_ascii_alphabetic() } else { LETTER.is_match(&*c.encode_utf8(&mut [0; 4])) }
}

/// Where the first part of a word from `start` to `end` ends: after a hyphen between letters, or at a dash of several hyphens.
fn part(text: &[char], start: usize, end: usize) -> usize {
    let letter = |at: usize| text.get(at).is_some_and(|&c| is_letter(c));
    let in_word = |at: usize| letter(at) || text.get(at).is_some_and(|c| c.is_numeric());
    // Where a dash after a word and before another ends.
    let dash = |at: usize| {
        let behind_word = at > 0 && (in_word(at - 1) || "!\"'&.,?".contains(text[at - 1]));
        let len = if behind_word { text[at..].iter().take_while(|&&c| c == '-').count() } else { 0 };
        (len > 1 && in_word(at + len)).then_some(at + len)
    };
    if let Some(end) = dash(start) {
        return end;
    }
    for at in start + 1..end {
        if text[at] != '-' {
            continue;
        }
        let before = letter(at - 1) && at > 1 && (letter(at - 2) || text[at - 2] == '-' && at > 2 && letter(at - 3));
        let after = letter(at + 1) && (letter(at + 2) || text.get(at + 2) == Some(&'-') && letter(at + 3));
        if before && after {
            return at + 1;
        }
        if dash(at).is_some() {
            return at;
        }
    }
    end
}
