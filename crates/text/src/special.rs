use crate::Kind;
use aho_corasick::{AhoCorasick, MatchKind};

/// Finds tokens that are one wherever they are written: the user-defined ones always, control tokens when asked.
#[derive(Debug)]
pub(crate) struct Specials {
    user_defined: Option<Finder>,
    all: Option<Finder>,
}

#[derive(Debug)]
struct Finder {
    names: AhoCorasick,
    ids: Vec<u32>,
}

impl Specials {
    pub fn new(names: &[&str], kinds: &[Kind]) -> Specials {
        let of = |wanted: &[Kind]| {
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
        };
        Specials { user_defined: of(&[Kind::UserDefined]), all: of(&[Kind::UserDefined, Kind::Control, Kind::Unknown]) }
    }

    /// Appends the tokens of `text`: the special ones, and between them what `plain` makes of the rest.
    pub fn encode<'a>(
        &self,
        text: &'a str,
        special: bool,
        ids: &mut Vec<u32>,
        mut plain: impl FnMut(&'a str, &mut Vec<u32>),
    ) {
        let finder = if special { &self.all } else { &self.user_defined };
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
