//! Files of tiktoken: one line per token, with its bytes in base64 and its rank, which is both its id and the priority of its merge.

use crate::files::vocab::OwnedVocab;
use crate::tokenizer::byte_alphabet::ALPHABET;
use crate::{Error, Result, Templates, TokenType, Vocab};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hashbrown::HashMap;

/// The number of tokens of Llama 3 without its control tokens.
const LLAMA_3: usize = 128_000;

/// The first control tokens of Llama 3.1, which named some that Llama 3 reserved.
const CONTROL: [&str; 11] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|reserved_special_token_2|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
];

/// The number of control tokens; the rest of them are reserved.
const CONTROLS: usize = 256;

/// Whether the first line is that of a tiktoken file.
pub(crate) fn detect(file: &[u8]) -> bool {
    let first = file.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line(first).is_some()
}

/// The bytes of a token, and its rank.
fn line(line: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (token, rank) = str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
    Some((STANDARD.decode(token).ok()?, rank.parse().ok()?))
}

/// Reads the file of Llama 3.
pub(crate) fn read(ranks: &[u8]) -> Result<OwnedVocab> {
    let wrong = |problem: String| Error::vocabulary("tokenizer.model", problem);
    let mut tokens: Vec<Vec<u8>> = Vec::new();
    let mut ids = HashMap::new();
    for (number, text) in ranks.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).enumerate() {
        let at = || format!("line {}", number + 1);
        let found = line(text).filter(|(token, _)| !token.is_empty());
        let (token, rank) = found.ok_or_else(|| wrong(format!("{}: expected base64, a space and a rank", at())))?;
        if rank != number {
            return Err(wrong(format!("{}: expected rank {number}, found {rank}", at())));
        }
        if ids.insert(token.clone(), number as u32).is_some() {
            return Err(wrong(format!("{}: expected a new token, found one twice", at())));
        }
        tokens.push(token);
    }
    if tokens.len() != LLAMA_3 {
        let expected = format!("the {LLAMA_3} ranks of Llama 3 (use the tokenizer.json of other models)");
        return Err(wrong(format!("expected {expected}, found {} ranks", tokens.len())));
    }
    let spelled = |bytes: &[u8]| -> String { bytes.iter().map(|&byte| ALPHABET[usize::from(byte)]).collect() };
    let mut merges = Vec::new();
    for token in &tokens {
        // Any two tokens that together are a token may merge into it.
        let mut pairs: Vec<_> =
            (1..token.len()).filter_map(|at| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?, at))).collect();
        pairs.sort_unstable();
        merges.extend(pairs.iter().map(|&(.., at)| format!("{} {}", spelled(&token[..at]), spelled(&token[at..]))));
    }
    let reserved = (3..).map(|number| format!("<|reserved_special_token_{number}|>"));
    let control = CONTROL.iter().map(|name| (*name).to_owned()).chain(reserved).take(CONTROLS);
    let types = [vec![TokenType::Normal.number(); LLAMA_3], vec![TokenType::Control.number(); CONTROLS]].concat();
    let rest = Vocab {
        model: "gpt2",
        pre: Some("llama-bpe"),
        token_types: types.into(),
        bos: Some(LLAMA_3 as u32),
        eos: Some(LLAMA_3 as u32 + 1),
        ..Vocab::default()
    };
    let tokens = tokens.iter().map(|token| spelled(token)).chain(control).collect();
    Ok(OwnedVocab { rest, tokens, merges, templates: Templates::default(), warnings: Vec::new() })
}
