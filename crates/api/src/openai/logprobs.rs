//! Log probabilities as OpenAI writes them.

use serde_json::{Map, Value, json};
use trine_engine::{PromptToken, Token};
use trine_text::Tokenizer;

/// Those of a chat's tokens.
pub fn chat(tokenizer: &Tokenizer, tokens: &[Token]) -> Value {
    let token = |id: u32, logprob: Option<f64>| {
        let bytes = tokenizer.piece(id).unwrap_or_default();
        json!({"token": tokenizer.token_text(id), "logprob": logprob, "bytes": bytes})
    };
    let one = |Token { id, logprob, top, .. }: &Token| {
        let mut one = token(*id, *logprob);
        one["top_logprobs"] = top.iter().map(|top| token(top.id, Some(top.logprob))).collect();
        one
    };
    json!({"content": tokens.iter().map(one).collect::<Vec<_>>(), "refusal": null})
}

/// Those of a completion's tokens, after those of its prompt where it is repeated. The text begins `offset` characters into the answer.
pub fn completion(tokenizer: &Tokenizer, prompt: &[PromptToken], tokens: &[Token], offset: usize) -> Value {
    let before = prompt.iter().map(|token| (token.id, token.logprob, &token.top));
    let all = before.chain(tokens.iter().map(|token| (token.id, token.logprob, &token.top)));
    let (mut texts, mut offsets, mut logprobs, mut tops, mut at) = (vec![], vec![], vec![], vec![], offset);
    let mut begins = !prompt.is_empty();
    for (id, logprob, top) in all {
        // The space that a vocabulary puts before every text is no part of it.
        let own = if begins { tokenizer.decode_with_special(&[id]) } else { tokenizer.token_text(id) };
        begins &= tokenizer.is_control(id);
        offsets.push(at);
        // Control tokens are named here, and are no part of the text.
        at += if tokenizer.is_control(id) { 0 } else { own.chars().count() };
        texts.push(own);
        logprobs.push(logprob);
        let top: Map<String, Value> =
            top.iter().map(|top| (tokenizer.token_text(top.id), top.logprob.into())).collect();
        // The first token of a prompt follows nothing.
        tops.push(logprob.map(|_| top));
    }
    json!({"text_offset": offsets, "token_logprobs": logprobs, "top_logprobs": tops, "tokens": texts})
}
