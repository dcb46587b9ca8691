//! Log probabilities as OpenAI writes them.

use serde_json::{Map, Value, json};
use trine_engine::sample::Logprob;
use trine_engine::{PromptToken, Token};
use trine_text::{DecodeStream, Tokenizer};

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

/// Where tokens begin in the text that they make, in characters: the tokens of one character begin where it does.
pub struct Offsets {
    text: DecodeStream,
    at: usize,
}

impl Offsets {
    /// Those of an answer that follows so many characters, with or without the names of control tokens.
    pub fn after(tokenizer: &Tokenizer, characters: usize, skip_special: bool) -> Offsets {
        Offsets { text: DecodeStream::after_prompt(tokenizer).skip_special(skip_special), at: characters }
    }

    /// Where a token begins whose own text this is.
    fn next(&mut self, tokenizer: &Tokenizer, id: u32, own: &str) -> usize {
        let before = self.at;
        self.at += self.text.push(tokenizer, id).chars().count();
        // Bytes before it that have turned out to be no character are one nevertheless.
        before.max(self.at.saturating_sub(own.chars().count()))
    }
}

/// Those of a completion's tokens, after those of its prompt where it is repeated.
pub fn completion(tokenizer: &Tokenizer, prompt: &[PromptToken], tokens: &[Token], answer: &mut Offsets) -> Value {
    let mut of_prompt = Offsets { text: DecodeStream::new(tokenizer), at: 0 };
    let (mut texts, mut offsets, mut logprobs, mut tops) = (vec![], vec![], vec![], vec![]);
    let mut add = |text: String, offset: usize, logprob: Option<f64>, top: &[Logprob]| {
        texts.push(text);
        offsets.push(offset);
        logprobs.push(logprob);
        let top = top.iter().map(|top| (tokenizer.token_text(top.id), top.logprob.into()));
        // The first token of a prompt follows nothing.
        tops.push(logprob.map(|_| top.collect::<Map<String, Value>>()));
    };
    let mut begins = true;
    for PromptToken { id, logprob, top } in prompt {
        // The space that a vocabulary puts before every text is no part of it.
        let own = if begins { tokenizer.decode_with_special(&[*id]) } else { tokenizer.token_text(*id) };
        begins &= tokenizer.is_control(*id);
        let offset = of_prompt.next(tokenizer, *id, &own);
        add(own, offset, *logprob, top);
    }
    for Token { id, logprob, top, .. } in tokens {
        let own = tokenizer.token_text(*id);
        let offset = answer.next(tokenizer, *id, &own);
        add(own, offset, *logprob, top);
    }
    json!({"text_offset": offsets, "token_logprobs": logprobs, "top_logprobs": tops, "tokens": texts})
}
