//! Answers as OpenAI writes them.

use super::line::Task;
use super::queue::Done;
use super::request::Problem;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::SystemTime;
use trine_engine::{Choice, FinishReason, Token, Update, Usage};
use trine_text::Tokenizer;

/// What lines of the output say of a request, whatever its answer.
pub struct Head {
    pub index: u64,
    custom_id: String,
    pub model: String,
}

impl Head {
    pub fn new(index: u64, task: &Task, model: &str) -> Head {
        Head { index, custom_id: task.custom_id.clone(), model: model.to_owned() }
    }

    /// The line of a request that is refused.
    pub fn refuse(&self, problem: &Problem) -> Done {
        let Problem { param, message } = problem;
        let error = json!({"message": message, "type": "invalid_request_error", "param": param, "code": null});
        Done::failed(self.line(400, json!({"error": error})))
    }

    /// The line of a request that failed.
    pub fn fail(&self, message: &str) -> Done {
        let error = json!({"message": message, "type": "server_error", "param": null, "code": null});
        Done::failed(self.line(500, json!({"error": error})))
    }

    /// The line of an answer.
    pub fn answer(&self, body: Value, usage: Usage) -> Done {
        Done { line: self.line(200, body), failed: false, usage }
    }

    fn line(&self, status: u16, body: Value) -> String {
        let index = self.index;
        let response = json!({"status_code": status, "request_id": format!("req_{index}"), "body": body});
        json!({"id": format!("batch_req_{index}"), "custom_id": self.custom_id, "response": response, "error": null})
            .to_string()
    }
}

/// The answers to a request on their way.
pub struct Answers {
    head: Head,
    chat: bool,
    /// The tokenizer that names tokens, if their probabilities were asked for.
    logprobs: Option<Arc<Tokenizer>>,
    choices: Vec<Choice>,
    /// How many have not ended.
    open: usize,
    /// How many are wanted, if the best are chosen.
    best: Option<usize>,
}

impl Answers {
    /// `answers` of a request, of which the `best` are chosen.
    pub fn new(
        head: Head,
        chat: bool,
        logprobs: Option<Arc<Tokenizer>>,
        answers: usize,
        best: Option<usize>,
    ) -> Answers {
        Answers { head, chat, logprobs, choices: (0..answers).map(Choice::new).collect(), open: answers, best }
    }

    /// Takes what happened to an answer; the line when all have ended.
    pub fn update(&mut self, choice: usize, update: Update) -> Option<Done> {
        self.open -= usize::from(self.choices[choice].update(update));
        (self.open == 0).then(|| self.finish())
    }

    fn finish(&mut self) -> Done {
        let mut choices = std::mem::take(&mut self.choices);
        let failure = choices.iter().find_map(|choice| match &choice.finish_reason {
            FinishReason::Failed(error) => Some(error.to_string()),
            _ => None,
        });
        let mut usage = choices[0].usage;
        usage.completion_tokens = choices.iter().map(|choice| choice.usage.completion_tokens).sum();
        if let Some(error) = failure {
            return Done { usage, ..self.head.fail(&error) };
        }
        if let Some(n) = self.best {
            choices = Choice::best(choices, n);
        }
        let created = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let (kind, object) = if self.chat { ("chatcmpl", "chat.completion") } else { ("cmpl", "text_completion") };
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
        let body = json!({
            "id": format!("{kind}-{}", self.head.index),
            "object": object,
            "created": created,
            "model": self.head.model,
            "choices": choices.iter().enumerate().map(|(i, choice)| self.choice(i, choice)).collect::<Vec<_>>(),
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
                "prompt_tokens_details": {"cached_tokens": cached_tokens},
            },
        });
        self.head.answer(body, usage)
    }

    fn choice(&self, index: usize, choice: &Choice) -> Value {
        let Choice { text, tokens, finish_reason, .. } = choice;
        let finish_reason = finish_reason.name();
        let tokenizer = self.logprobs.as_deref();
        if self.chat {
            let message = json!({"role": "assistant", "content": text});
            let logprobs = tokenizer.map(|tokenizer| chat_logprobs(tokenizer, tokens));
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason})
        } else {
            let logprobs = tokenizer.map(|tokenizer| completion_logprobs(tokenizer, tokens));
            json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish_reason})
        }
    }
}

fn chat_logprobs(tokenizer: &Tokenizer, tokens: &[Token]) -> Value {
    let token = |id: u32, logprob: Option<f64>| {
        let token = tokenizer.decode(&[id]);
        let bytes = token.as_bytes();
        json!({"token": token, "logprob": logprob, "bytes": bytes})
    };
    let one = |Token { id, logprob, top, .. }: &Token| {
        let mut one = token(*id, *logprob);
        one["top_logprobs"] = top.iter().map(|top| token(top.id, Some(top.logprob))).collect();
        one
    };
    json!({"content": tokens.iter().map(one).collect::<Vec<_>>()})
}

fn completion_logprobs(tokenizer: &Tokenizer, tokens: &[Token]) -> Value {
    let text = |id: u32| tokenizer.decode(&[id]);
    let texts: Vec<String> = tokens.iter().map(|token| text(token.id)).collect();
    let offsets = texts.iter().scan(0, |sum, text| Some(std::mem::replace(sum, *sum + text.chars().count())));
    let top =
        |token: &Token| token.top.iter().map(|top| (text(top.id), top.logprob.into())).collect::<Map<String, Value>>();
    json!({
        "text_offset": offsets.collect::<Vec<_>>(),
        "token_logprobs": tokens.iter().map(|token| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": tokens.iter().map(top).collect::<Vec<_>>(),
        "tokens": texts,
    })
}
