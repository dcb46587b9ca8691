use crate::Kind;
use aho_corasick::{AhoCorasick, MatchKind};

/// Finds tokens that are one wherever they are written: the user-defined ones always, control tokens when asked.
#[derive(Debug)]
pub(crate) struct Specials {
    user_defined: Option<Finder>,
    all: Option<Finder>,
}

impl Specials {
    pub fn new(names: &[&str], kinds: &[Kind]) -> Specials {
        Specials {
            user_defined: Finder::new(names, kinds, &[Kind::UserDefined]),
            all: Finder::new(names, kinds, &[Kind::UserDefined, Kind::Control, Kind::Unknown]),
        }
    }

    /// Without the user-defined tokens, which are found elsewhere.
    pub fn control(names: &[&str], kinds: &[Kind]) -> Specials {
        Specials { user_defined: None, all: Finder::new(names, kinds, &[Kind::Control, Kind::Unknown]) }
    }

    /// Appends the tokens of `text`: the special ones, and between them what `plain` makes of the rest.
    pub fn encode<'a>(
        &self,
        text: &'a str,
        special: bool,
        ids: &mut Vec<u32>,
        plain: impl FnMut(&'a str, &mut Vec<u32>),
    ) {
        encode(if special { &self.all } else { &self.user_defined }, text, ids, plain);
    }
}

/// Appends the tokens of `text`: those that are found in it, and between them what `plain` makes of the rest.
pub(crate) fn encode<'a>(
    finder: &Option<Finder>,
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

/// Finds tokens by their names, from left to right, the longest first.
#[derive(Debug)]
pub(crate) struct Finder {
    names: AhoCorasick,
    ids: Vec<u32>,
}

impl Finder {
    /// Of the tokens of the `wanted` kinds; `None` when there are none.
    pub fn new(names: &[&str], kinds: &[Kind], wanted: &[Kind]) -> Option<Finder> {
        let found = (0u32..).zip(names).zip(kinds).filter(|((_, name), kind)| {
            // An empty name would be found everywhere.
            wanted.contains(kind) && !name.is_empty()
        });
        let (ids, names): (Vec<_>, Vec<&str>) = found.map(|((id, &name), _)| (id, name)).unzip();
        if ids.is_empty() {
            return None;
        }
        // Building fails only beyond 2^31 states, more than fit into memory.
        let names = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(names).ok()?;
        Some(Finder { names, ids })
    }

    /// Where tokens begin and end in a text.
    pub fn spans(&self, text: &str) -> impl Iterator<Item = (usize, usize)> {
        self.names.find_iter(text).map(|found| (found.start(), found.end()))
    }
}

/// Spellings of the tokens at which generation ends, whatever the file says (as llama.cpp collects them).
pub(crate) static ENDS: &[&str] = &[
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
    "[e~[",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
];

/// Spellings that end nothing in a vocabulary that also has the others.
pub(crate) static NOT_ENDS: &[(&str, &[&str])] = &[
    ("<|end|>", &["<|return|>", "<|call|>"]),
    ("<|end|>", &["<|flush|>", "<|calls|>"]),
    ("</s>", &["<|tool_response>"]),
];
