use crate::pre::{BEFORE_THOUSANDS, POWERS, Pre, SPACES, THOUSANDS, THOUSANDS_OF_WORDS};
use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// The compiled patterns of a [`Pre`].
#[derive(Debug)]
pub(crate) struct Splitter(Vec<Step>);

/// One pattern. The look-aheads that occur in them are known here, since the regular expressions have none.
#[derive(Debug)]
enum Step {
    /// What matches is a piece, and what lies between.
    Matches(Regex),
    /// As that, but the second pattern of the regular expression is a run of white space, of which a piece is so many bytes, given
    /// whether the text ends with it.
    Spaces(Regex, fn(&str, bool) -> usize),
    /// Runs of digits are cut in groups of three from the right.
    Thousands {
        run: Regex,
        /// What must not be behind a run.
        behind: Option<Regex>,
        /// Whether a run stands alone, too.
        alone: bool,
    },
}

impl Splitter {
    pub fn new(pre: &Pre) -> Splitter {
        Splitter(pre.patterns.iter().map(|pattern| Step::new(pattern)).collect())
    }

    /// Gives `take` the words of `text`, in order and without a gap.
    pub fn split<'a>(&self, text: &'a str, take: &mut dyn FnMut(&'a str)) {
        split(&self.0, text, take);
    }
}

impl Step {
    fn new(pattern: &str) -> Step {
        let all = |patterns: &[&str]| {
            // A class gives nothing back to another one behind it that it has no character in common with, possessive or not.
            let plain: Vec<_> =
                patterns.iter().map(|pattern| pattern.replace("]?+", "]?").replace("]++", "]+")).collect();
            Regex::new_many(&plain).expect("the patterns of the registry compile, as a test sees to")
        };
        let regex = |pattern: &str| all(&[pattern]);
        // Longer runs than the longest piece and the character behind it need not be looked at.
        match (pattern.strip_suffix(SPACES), pattern.strip_suffix(POWERS)) {
            (Some(words), _) => Step::Spaces(all(&[words, r"\s+"]), but_last),
            (_, Some(words)) => Step::Spaces(all(&[words, r"\s{1,513}"]), power),
            _ if pattern == THOUSANDS => Step::Thousands { run: regex(r"\p{N}+"), behind: None, alone: true },
            _ if pattern == BEFORE_THOUSANDS => Step::Thousands { run: regex(r"\d+"), behind: None, alone: false },
            _ if pattern == THOUSANDS_OF_WORDS => {
                Step::Thousands { run: regex(r"\d+"), behind: Some(regex(r"[\p{L}\p{M}\p{N}\p{Pc}]")), alone: true }
            }
            _ => Step::Matches(regex(pattern)),
        }
    }
}

fn split<'a>(steps: &[Step], text: &'a str, take: &mut dyn FnMut(&'a str)) {
    let Some((step, later)) = steps.split_first() else { return take(text) };
    let mut done = 0;
    let mut cut = |at: usize| {
        if done < at {
            split(later, &text[done..at], take);
            done = at;
        }
    };
    match step {
        Step::Matches(regex) => {
            for found in regex.find_iter(text) {
                cut(found.start());
                cut(found.end());
            }
        }
        Step::Spaces(regex, piece) => {
            let mut at = 0;
            while let Some((pattern, start, end)) = find(regex, text, at) {
                let len = if pattern == 1 { piece(&text[start..end], end == text.len()) } else { end - start };
                at = start + len;
                cut(start);
                cut(at);
            }
        }
        Step::Thousands { run, behind, alone } => {
            for found in run.find_iter(text) {
                let rest = Input::new(text).range(found.end()..).anchored(Anchored::Yes);
                if behind.as_ref().is_some_and(|behind| behind.is_match(rest)) {
                    continue;
                }
                let digits = &text[found.range()];
                let first = digits.chars().count() % 3;
                if *alone || first == 0 {
                    cut(found.start());
                }
                let starts = digits.char_indices().map(|(at, _)| at).skip(first).step_by(3);
                starts.for_each(|at| cut(found.start() + at));
                if *alone {
                    cut(found.end());
                }
            }
        }
    }
    cut(text.len());
}

/// Pattern, start and end of the first match behind `done`.
fn find(regex: &Regex, text: &str, done: usize) -> Option<(usize, usize, usize)> {
    let input = Input::new(text).range(done..);
    // Such patterns leave hardly anything between matches, and a search that knows where to begin is faster.
    match regex.search_half(&input.clone().anchored(Anchored::Yes)) {
        Some(here) => Some((here.pattern().as_usize(), done, here.offset())),
        None => regex.find(input).map(|found| (found.pattern().as_usize(), found.start(), found.end())),
    }
}

/// All of a run but its last character, which belongs to the word behind it, unless it is all there is.
fn but_last(run: &str, ends_text: bool) -> usize {
    let last = run.chars().next_back().map_or(0, char::len_utf8);
    if ends_text || run.len() == last { run.len() } else { run.len() - last }
}

/// The longest piece of [`POWERS`] that leaves the last character of a run to the word behind it, or one character.
fn power(run: &str, ends_text: bool) -> usize {
    let most = run.chars().count() - usize::from(!ends_text);
    let len = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(|&len| len <= most).unwrap_or(1);
    run.char_indices().nth(len).map_or(run.len(), |(at, _)| at)
}
