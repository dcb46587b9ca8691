//! Splitting text by regular expressions.

use super::{BEFORE_THOUSANDS, POWERS, PreTokenizer, SPACES, THOUSANDS, THOUSANDS_OF_WORDS};
use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// The compiled patterns of a [`PreTokenizer`].
#[derive(Debug)]
pub(crate) struct Splitter(Vec<SplitStep>);

/// A compiled pattern. The engine has no look-ahead, so patterns with one have their own variants.
#[derive(Debug)]
enum SplitStep {
    /// Matches, and the text between them, are pieces.
    Matches(Regex),
    /// As `Matches`, but the second pattern is a run of white space. The function returns the length of its piece in bytes, given the
    /// run, and whether the text ends with it.
    Spaces(Regex, fn(&str, bool) -> usize),
    /// Runs of digits are split in groups of three from the right.
    Thousands {
        run: Regex,
        /// What must not follow a run.
        not_before: Option<Regex>,
        /// Whether the start and the end of a run are boundaries too.
        bounded: bool,
    },
}

impl Splitter {
    pub fn new(pre: &PreTokenizer) -> Splitter {
        Splitter(pre.patterns.iter().map(|pattern| SplitStep::new(pattern)).collect())
    }

    /// Calls `take` with the words of `text`, in order and without gaps.
    pub fn split<'a>(&self, text: &'a str, take: &mut dyn FnMut(&'a str)) {
        split(&self.0, text, take);
    }
}

impl SplitStep {
    fn new(pattern: &str) -> SplitStep {
        let all = |patterns: &[&str]| {
            // The engine has no possessive repetition. Here it is the same as a greedy one, as the next class has no character in common.
            let plain: Vec<_> =
                patterns.iter().map(|pattern| pattern.replace("]?+", "]?").replace("]++", "]+")).collect();
            Regex::new_many(&plain).expect("a test compiles all patterns of the registry")
        };
        let regex = |pattern: &str| all(&[pattern]);
        // The longest piece and one character after it.
        match (pattern.strip_suffix(SPACES), pattern.strip_suffix(POWERS)) {
            (Some(words), _) => SplitStep::Spaces(all(&[words, r"\s+"]), but_last),
            (_, Some(words)) => SplitStep::Spaces(all(&[words, r"\s{1,513}"]), power),
            _ if pattern == THOUSANDS => {
                SplitStep::Thousands { run: regex(r"\p{N}+"), not_before: None, bounded: true }
            }
            _ if pattern == BEFORE_THOUSANDS => {
                SplitStep::Thousands { run: regex(r"\d+"), not_before: None, bounded: false }
            }
            _ if pattern == THOUSANDS_OF_WORDS => SplitStep::Thousands {
                run: regex(r"\d+"),
                not_before: Some(regex(r"[\p{L}\p{M}\p{N}\p{Pc}]")),
                bounded: true,
            },
            _ => SplitStep::Matches(regex(pattern)),
        }
    }
}

fn split<'a>(steps: &[SplitStep], text: &'a str, take: &mut dyn FnMut(&'a str)) {
    let Some((step, later)) = steps.split_first() else { return take(text) };
    let mut done = 0;
    let mut cut = |at: usize| {
        if done < at {
            split(later, &text[done..at], take);
            done = at;
        }
    };
    match step {
        SplitStep::Matches(regex) => {
            for found in regex.find_iter(text) {
                cut(found.start());
                cut(found.end());
            }
        }
        SplitStep::Spaces(regex, piece) => {
            let mut at = 0;
            while let Some((pattern, start, end)) = find(regex, text, at) {
                let len = if pattern == 1 { piece(&text[start..end], end == text.len()) } else { end - start };
                at = start + len;
                cut(start);
                cut(at);
            }
        }
        SplitStep::Thousands { run, not_before, bounded } => {
            for found in run.find_iter(text) {
                let rest = Input::new(text).range(found.end()..).anchored(Anchored::Yes);
                if not_before.as_ref().is_some_and(|regex| regex.is_match(rest)) {
                    continue;
                }
                let digits = &text[found.range()];
                let first = digits.chars().count() % 3;
                if *bounded || first == 0 {
                    cut(found.start());
                }
                let starts = digits.char_indices().map(|(at, _)| at).skip(first).step_by(3);
                starts.for_each(|at| cut(found.start() + at));
                if *bounded {
                    cut(found.end());
                }
            }
        }
    }
    cut(text.len());
}

/// Pattern, start and end of the first match from `done` on.
fn find(regex: &Regex, text: &str, done: usize) -> Option<(usize, usize, usize)> {
    let input = Input::new(text).range(done..);
    // Matches are mostly adjacent, and an anchored search is faster.
    match regex.search_half(&input.clone().anchored(Anchored::Yes)) {
        Some(here) => Some((here.pattern().as_usize(), done, here.offset())),
        None => regex.find(input).map(|found| (found.pattern().as_usize(), found.start(), found.end())),
    }
}

/// The length of a run without its last character, which belongs to the next word. A run of one character, or at the end of the text, is
/// one piece.
fn but_last(run: &str, ends_text: bool) -> usize {
    let last = run.chars().next_back().map_or(0, char::len_utf8);
    if ends_text || run.len() == last { run.len() } else { run.len() - last }
}

/// The length of the longest piece of [`POWERS`] that leaves the last character of a run to the next word; at least one character.
fn power(run: &str, ends_text: bool) -> usize {
    let most = run.chars().count() - usize::from(!ends_text);
    let len = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(|&len| len <= most).unwrap_or(1);
    run.char_indices().nth(len).map_or(run.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::super::PRE_TOKENIZERS;
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn all_pre_tokenizers_split_as_hugging_face() {
        let golden = include_str!("../../../../../golden/words.json");
        let golden: BTreeMap<String, Vec<Vec<String>>> = serde_json::from_str(golden).unwrap();
        for pre in PRE_TOKENIZERS {
            let splitter = Splitter::new(pre);
            for expected in &golden[pre.names[0]] {
                let mut words = Vec::new();
                splitter.split(&expected.concat(), &mut |word| words.push(word.to_owned()));
                assert_eq!(&words, expected, "{}", pre.names[0]);
            }
        }
    }
}
