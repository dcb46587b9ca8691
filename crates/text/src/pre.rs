use regex_automata::meta::Regex;
use regex_automata::{Anchored, Input};

/// How a byte-level BPE splits text into words before it merges. A new one is a row in [`PRE_TOKENIZERS`].
#[derive(Debug)]
pub struct Pre {
    /// The values of `tokenizer.ggml.pre` that mean it; the first is the common one.
    pub names: &'static [&'static str],
    /// Applied one after the other, each to the pieces that the one before it left: both what matches and what lies
    /// between is a piece. Written as in the models' `tokenizer.json`.
    pub patterns: &'static [&'static str],
    /// Whether a word that is a token is taken whole, without merging.
    pub whole_words: bool,
    /// Whether BOS goes in front when the file does not say.
    pub add_bos: bool,
}

/// A run of white space leaves its last character to the word behind it. It ends most patterns, and stands for a
/// look-ahead that the regular expressions here do not have, which is why they take linear time.
const SPACES: &str = r"|\s+(?!\S)|\s+";

/// What byte-level BPE splits by when nothing else is said.
pub(crate) const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Every pre-tokenizer that is known, under the names that llama.cpp writes into GGUF files.
pub static PRE_TOKENIZERS: &[Pre] = &[
    Pre {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"],
        patterns: &[LLAMA_3],
        whole_words: true,
        add_bos: true,
    },
    Pre {
        names: &["smaug-bpe", "dbrx", "glm4", "chatglm-bpe"],
        patterns: &[LLAMA_3],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "solar-open",
            "grok-2",
            "kormo",
            "f2llmv2",
        ],
        patterns: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["qwen35"],
        patterns: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "exaone4",
        ],
        patterns: &[GPT_2],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
        patterns: &[r"\p{N}", GPT_2],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["falcon"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT_2, r"[0-9][0-9][0-9]"],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["deepseek-coder"],
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        patterns: &[
            r"\p{N}{1,3}",
            r"[一-龥\u{3040}-ゟ゠-ヿ]+",
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##,
        ],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["tekken"],
        patterns: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        whole_words: true,
        add_bos: true,
    },
    Pre {
        names: &["gpt-4o", "llama4", "kanana2", "minimax-m2"],
        patterns: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        whole_words: false,
        add_bos: false,
    },
    Pre {
        names: &["default"],
        patterns: &[r"[\p{P}\$\+<=>\^~\|]+", GPT_2, r"\p{N}+", r"[0-9][0-9][0-9]"],
        whole_words: false,
        add_bos: false,
    },
];

impl Pre {
    /// The row of a name in a file.
    pub fn find(name: &str) -> Option<&'static Pre> {
        PRE_TOKENIZERS.iter().find(|pre| pre.names.contains(&name))
    }

    /// The name that fits a vocabulary which does not say, and the evidence for it.
    pub(crate) fn guess(tokens: &[&str]) -> (&'static str, &'static str) {
        let has = |name: &str| tokens.contains(&name);
        if has("<|begin_of_text|>") {
            ("llama-bpe", "the vocabulary has `<|begin_of_text|>`, as Llama 3 has")
        } else if has("<|im_start|>") && tokens.len() >= 151_643 {
            ("qwen2", "the vocabulary has `<|im_start|>` and the size of Qwen 2's")
        } else if tokens.get(50_256).is_some_and(|&token| token == "<|endoftext|>") {
            ("gpt-2", "token 50256 is `<|endoftext|>`, as in GPT-2")
        } else {
            ("default", "nothing in the vocabulary tells which, and it is what llama.cpp takes")
        }
    }
}

/// The compiled patterns of a [`Pre`].
#[derive(Debug)]
pub(crate) struct Splitter(Vec<Regex>);

impl Splitter {
    pub fn new(pre: &Pre) -> Splitter {
        let compile = |pattern: &&str| {
            let regex = match pattern.strip_suffix(SPACES) {
                Some(words) => Regex::new_many(&[words, r"\s+"]),
                None => Regex::new(pattern),
            };
            regex.expect("the patterns of the registry compile, as a test sees to")
        };
        Splitter(pre.patterns.iter().map(compile).collect())
    }

    /// Gives `take` the words of `text`, in order and without a gap.
    pub fn split<'a>(&self, text: &'a str, take: &mut dyn FnMut(&'a str)) {
        split(&self.0, text, take);
    }
}

fn split<'a>(regexes: &[Regex], text: &'a str, take: &mut dyn FnMut(&'a str)) {
    let Some((regex, later)) = regexes.split_first() else { return take(text) };
    let mut done = 0;
    while let Some((pattern, start, mut end)) = find(regex, text, done) {
        if done < start {
            split(later, &text[done..start], take);
        }
        // The second pattern is the white space of `SPACES`.
        if pattern == 1 && end < text.len() {
            let last = text[start..end].chars().next_back().map_or(0, char::len_utf8);
            if end - start > last {
                end -= last;
            }
        }
        split(later, &text[start..end], take);
        done = end;
    }
    if done < text.len() {
        split(later, &text[done..], take);
    }
}

/// Pattern, start and end of the first match behind `done`.
fn find(regex: &Regex, text: &str, done: usize) -> Option<(usize, usize, usize)> {
    let input = Input::new(text).range(done..);
    // Patterns that end with `SPACES` leave hardly anything between matches, and a search that knows where to begin is faster.
    let here = if regex.pattern_len() == 2 { regex.search_half(&input.clone().anchored(Anchored::Yes)) } else { None };
    match here {
        Some(here) => Some((here.pattern().as_usize(), done, here.offset())),
        None => regex.find(input).map(|found| (found.pattern().as_usize(), found.start(), found.end())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn every_row_splits_as_hugging_face_does() {
        let golden = include_str!("../../../golden/words.json");
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

    #[test]
    fn no_name_is_in_two_rows() {
        let mut names: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|pre| pre.names).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
