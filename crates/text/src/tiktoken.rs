//! Files of tiktoken's ranks: a line for each token, its bytes in base64 and its rank. The ranks are both ids and the order of merges.

use crate::bytes::ALPHABET;
use crate::{Error, Kind, OwnedVocab, Result, Vocab};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hashbrown::HashMap;

/// Tokens of Llama 3 before its control tokens.
const LLAMA_3: usize = 128_000;

/// Its control tokens as of Llama 3.1, which gave names to some that were reserved.
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

/// How many control tokens it has, the rest of them reserved.
const CONTROLS: usize = 256;

/// Whether a file begins as one of ranks does.
pub(crate) fn is_it(file: &[u8]) -> bool {
    let first = file.split(|&byte| byte == b'\n').next().unwrap_or_default();
    line(first).is_some()
}

/// The bytes of a token, and its rank.
fn line(line: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (token, rank) = str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
    Some((STANDARD.decode(token).ok()?, rank.parse().ok()?))
}

/// Reads the ranks of Llama 3.
pub(crate) fn read(ranks: &[u8]) -> Result<OwnedVocab> {
    let wrong = |problem| Error::Model { problem };
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
            return Err(wrong(format!("{}: expected a token of its own, found one again", at())));
        }
        tokens.push(token);
    }
    if tokens.len() != LLAMA_3 {
        let expected = format!("the {LLAMA_3} ranks of Llama 3, or a tokenizer.json, which says how texts are split");
        return Err(wrong(format!("expected {expected}, found {} ranks", tokens.len())));
    }
    let spelled = |bytes: &[u8]| -> String { bytes.iter().map(|&byte| ALPHABET[usize::from(byte)]).collect() };
    let mut merges = Vec::new();
    for token in &tokens {
        // Whatever two tokens make up a token may merge into it.
        let mut pairs: Vec<_> =
            (1..token.len()).filter_map(|at| Some((*ids.get(&token[..at])?, *ids.get(&token[at..])?, at))).collect();
        pairs.sort_unstable();
        merges.extend(pairs.iter().map(|&(.., at)| format!("{} {}", spelled(&token[..at]), spelled(&token[at..]))));
    }
    let reserved = (3..).map(|number| format!("<|reserved_special_token_{number}|>"));
    let control = CONTROL.iter().map(|name| (*name).to_owned()).chain(reserved).take(CONTROLS);
    let types = [vec![Kind::Normal.token_type(); LLAMA_3], vec![Kind::Control.token_type(); CONTROLS]].concat();
    let rest = Vocab {
        model: "gpt2",
        pre: Some("llama-bpe"),
        types: types.into(),
        bos: Some(LLAMA_3 as u32),
        eos: Some(LLAMA_3 as u32 + 1),
        ..Vocab::default()
    };
    let tokens = tokens.iter().map(|token| spelled(token)).chain(control).collect();
    Ok(OwnedVocab { rest, tokens, merges, chat_template: None })
}
