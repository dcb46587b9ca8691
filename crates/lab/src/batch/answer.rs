//! Answers as OpenAI writes them.

use super::line::Task;
use super::request::Problem;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::SystemTime;
use trine_engine::sample::Logprob;
use trine_engine::{FinishReason, Usage};
use trine_text::Tokenizer;

/// An answer on its way.
#[derive(Default)]
pub struct Answers {
    index: u64,
    custom_id: String,
    model: String,
    chat: bool,
    text: String,
    /// With the tokenizer that names its tokens.
    logprobs: Option<(Arc<Tokenizer>, Vec<Sampled>)>,
    pub failed: bool,
    pub usage: Usage,
}

/// A token whose probability was asked for.
struct Sampled {
    id: u32,
    logprob: f64,
    top: Vec<Logprob>,
}

impl Answers {
    pub fn new(index: u64, task: &Task, model: String) -> Answers {
        Answers { index, custom_id: task.custom_id.clone(), model, ..Answers::default() }
    }

    /// What is now known of the request.
    pub fn begin(&mut self, tokenizer: Arc<Tokenizer>, chat: bool, logprobs: Option<usize>) {
        self.chat = chat;
        self.logprobs = logprobs.map(|_| (tokenizer, Vec::new()));
    }

    pub fn push(&mut self, id: u32, text: &str, logprob: Option<f64>, top: &[Logprob]) {
        self.text.push_str(text);
        if let (Some((_, sampled)), Some(logprob)) = (&mut self.logprobs, logprob) {
            sampled.push(Sampled { id, logprob, top: top.to_vec() });
        }
    }

    /// The line of a request that has ended.
    pub fn finish(&mut self, rest: &str, reason: &FinishReason, usage: Usage) -> String {
        self.text.push_str(rest);
        self.usage = usage;
        if let FinishReason::Failed(error) = reason {
            self.failed = true;
            let error = json!({"message": error.to_string(), "type": "server_error", "param": null, "code": null});
            return self.line(500, json!({"error": error}));
        }
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let finish_reason = reason.name();
        let (kind, object, choice) = if self.chat {
            let message = json!({"role": "assistant", "content": self.text});
            let logprobs = self.logprobs.as_ref().map(|(tokenizer, sampled)| chat_logprobs(tokenizer, sampled));
            let choice = json!({"index": 0, "message": message, "logprobs": logprobs, "finish_reason": finish_reason});
            ("chatcmpl", "chat.completion", choice)
        } else {
            let logprobs = self.logprobs.as_ref().map(|(tokenizer, sampled)| completion_logprobs(tokenizer, sampled));
            let choice = json!({"index": 0, "text": self.text, "logprobs": logprobs, "finish_reason": finish_reason});
            ("cmpl", "text_completion", choice)
        };
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
        let body = json!({
            "id": format!("{kind}-{}", self.index),
            "object": object,
            "created": created,
            "model": self.model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": cached_tokens},
            },
        });
        self.line(200, body)
    }

    /// The line of a request that is refused.
    pub fn refuse(&self, problem: &Problem) -> String {
        let Problem { param, message } = problem;
        let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": null});
        self.line(400, json!({"error": error}))
    }

    fn line(&self, status: u16, body: Value) -> String {
        let index = self.index;
        let response = json!({"status_code": status, "request_id": format!("req_{index}"), "body": body});
        json!({"id": format!("batch_req_{index}"), "custom_id": self.custom_id, "response": response, "error": null})
            .to_string()
    }
}

fn chat_logprobs(tokenizer: &Tokenizer, sampled: &[Sampled]) -> Value {
    let token = |id: u32, logprob: f64| {
        let token = tokenizer.decode(&[id]);
        let bytes = token.as_bytes();
        json!({"token": token, "logprob": logprob, "bytes": bytes})
    };
    let one = |Sampled { id, logprob, top }: &Sampled| {
        let mut one = token(*id, *logprob);
        one["top_logprobs"] = top.iter().map(|top| token(top.id, top.logprob)).collect();
        one
    };
    json!({"content": sampled.iter().map(one).collect::<Vec<_>>()})
}

fn completion_logprobs(tokenizer: &Tokenizer, sampled: &[Sampled]) -> Value {
    let text = |id: u32| tokenizer.decode(&[id]);
    let tokens: Vec<String> = sampled.iter().map(|sampled| text(sampled.id)).collect();
    let offsets = tokens.iter().scan(0, |sum, token| Some(std::mem::replace(sum, *sum + token.chars().count())));
    let top = |sampled: &Sampled| {
        sampled.top.iter().map(|top| (text(top.id), top.logprob.into())).collect::<Map<String, Value>>()
    };
    json!({
        "text_offset": offsets.collect::<Vec<_>>(),
        "token_logprobs": sampled.iter().map(|sampled| sampled.logprob).collect::<Vec<_>>(),
        "top_logprobs": sampled.iter().map(top).collect::<Vec<_>>(),
        "tokens": tokens,
    })
}
