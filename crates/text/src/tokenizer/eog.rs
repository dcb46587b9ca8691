//! End-of-generation tokens.

use super::vocab::TokenType;
use hashbrown::HashSet;
use std::collections::BTreeSet;

/// The ids of tokens that end generation: `declared` by the file, or of a well-known name. The latter become control tokens.
pub(crate) fn eog_tokens(
    names: &[&str],
    token_types: &mut [TokenType],
    declared: impl IntoIterator<Item = u32>,
    warnings: &mut Vec<String>,
) -> BTreeSet<u32> {
    let has = |name: &str| names.contains(&name);
    let known = HashSet::<&str>::from_iter(EOG.iter().copied());
    let is_eog = |name: &str| {
        known.contains(name) && !NOT_EOG.iter().any(|(end, with)| *end == name && with.iter().all(|name| has(name)))
    };
    let mut eog = BTreeSet::from_iter(declared);
    for (id, name) in (0u32..).zip(names).filter(|(_, name)| is_eog(name)) {
        eog.insert(id);
        let token_type = &mut token_types[id as usize];
        if *token_type != TokenType::Control {
            warnings.push(format!("token {id} (`{name}`) ends generation and is treated as a control token"));
            *token_type = TokenType::Control;
        }
    }
    eog
}

/// Names of tokens that end generation in any vocabulary, as in llama.cpp.
static EOG: &[&str] = &[
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

/// Names that do not end generation in a vocabulary that has the other names too.
static NOT_EOG: &[(&str, &[&str])] = &[
    ("<|end|>", &["<|return|>", "<|call|>"]),
    ("<|end|>", &["<|flush|>", "<|calls|>"]),
    ("</s>", &["<|tool_response>"]),
];
