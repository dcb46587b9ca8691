use super::time;
use crate::chat::{self, Delta, Turn};
use crate::openai::{Shared, logprobs, now};
use crate::{Event, Framing, Problem, Writer};
use serde_json::{Map, Value, json};
use std::time::Duration;
use trine_engine::{Choice, FinishReason, Timing, Token, Update, Usage};

/// An answer as it comes, in lines or as a whole.
pub struct OllamaWriter {
    served: Shared,
    turn: Turn,
    /// Whether answers are messages, not texts.
    chat: bool,
    logprobs: bool,
    end: Option<(String, Usage, Timing)>,
    /// Calls that are not whole yet: name and arguments.
    calls: Vec<(String, String)>,
}

impl OllamaWriter {
    pub fn new(served: &Shared, turn: Turn, chat: bool, logprobs: bool) -> OllamaWriter {
        OllamaWriter { served: served.clone(), turn, chat, logprobs, end: None, calls: Vec::new() }
    }

    /// Adds the log probabilities of tokens to a line, if they are to be told.
    fn tell(&self, line: &mut Value, tokens: &[Token]) {
        if self.logprobs {
            line["logprobs"] = logprobs::chat(&self.served.tokenizer, tokens)["content"].take();
        }
    }

    /// A line with what deltas add. Calls are told when they are whole, at the end.
    fn line(&mut self, deltas: Vec<Delta>, ended: bool) -> Value {
        let (mut content, mut thoughts) = (String::new(), String::new());
        for delta in deltas {
            match delta {
                Delta::Content(text) => content.push_str(&text),
                Delta::Reasoning(text) => thoughts.push_str(&text),
                Delta::ToolCall { name, .. } => self.calls.push((name, String::new())),
                Delta::Arguments { index, text } => self.calls[index].1.push_str(&text),
            }
        }
        let mut line = Map::new();
        line.insert("model".to_owned(), self.served.name.as_str().into());
        line.insert("created_at".to_owned(), time(now()).into());
        if self.chat {
            let mut message = json!({"role": "assistant", "content": content});
            if !thoughts.is_empty() {
                message["thinking"] = thoughts.into();
            }
            if ended && !self.calls.is_empty() {
                let call = |(name, arguments): &(String, String)| json!({"function": {"name": name, "arguments": chat::arguments(arguments)}});
                message["tool_calls"] = self.calls.iter().map(call).collect();
            }
            line.insert("message".to_owned(), message);
        } else {
            line.insert("response".to_owned(), content.into());
            if !thoughts.is_empty() {
                line.insert("thinking".to_owned(), thoughts.into());
            }
        }
        line.insert("done".to_owned(), ended.into());
        Value::Object(line)
    }

    /// The last line, with what the answer took, if there is one.
    fn last(&mut self, deltas: Vec<Delta>) -> Value {
        let mut line = self.line(deltas, true);
        line["done_reason"] = "load".into();
        if let Some((reason, usage, timing)) = &self.end {
            let started = timing.started.unwrap_or(timing.submitted);
            let first = timing.first_token.unwrap_or(timing.finished);
            let nanoseconds = |from: Duration, to: Duration| to.saturating_sub(from).as_nanos() as u64;
            line["done_reason"] = reason.as_str().into();
            line["total_duration"] = nanoseconds(timing.submitted, timing.finished).into();
            line["load_duration"] = 0.into();
            line["prompt_eval_count"] = usage.prompt_tokens.into();
            line["prompt_eval_duration"] = nanoseconds(started, first).into();
            line["eval_count"] = usage.completion_tokens.into();
            line["eval_duration"] = nanoseconds(first, timing.finished).into();
        }
        line
    }

    fn ended(&mut self, reason: &FinishReason, usage: Usage, timing: Timing) {
        self.end = Some((reason.name().to_owned(), usage, timing));
    }
}

impl Writer for OllamaWriter {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn update(&mut self, _: usize, update: Update) -> Vec<Event> {
        match update {
            Update::Progress(_) | Update::Prompt(_) => Vec::new(),
            Update::Token(token) => {
                let deltas = self.turn.push(&token.text);
                let mut line = self.line(deltas, false);
                self.tell(&mut line, &[token]);
                vec![Event::new(&line)]
            }
            Update::Finished { text, finish_reason, usage, timing } => {
                let deltas = self.turn.rest(&text, &finish_reason);
                self.ended(&finish_reason, usage, timing);
                vec![Event::new(&self.last(deltas))]
            }
        }
    }

    fn end(&mut self) -> Vec<Event> {
        match self.end {
            Some(_) => Vec::new(),
            None => vec![Event::new(&self.last(Vec::new()))],
        }
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        vec![Event::new(&super::problem(problem))]
    }

    /// A line without text: this protocol has no comments.
    fn ping(&mut self) -> Event {
        Event::new(&self.line(Vec::new(), false))
    }

    fn whole(&mut self, choices: Vec<Choice>) -> Value {
        let mut deltas = Vec::new();
        for choice in &choices {
            deltas.extend(self.turn.whole(choice));
            self.ended(&choice.finish_reason, choice.usage, choice.timing);
        }
        let mut line = self.last(deltas);
        let tokens = choices.into_iter().flat_map(|choice| choice.tokens);
        self.tell(&mut line, &tokens.collect::<Vec<Token>>());
        line
    }

    fn problem(&self, problem: &Problem) -> Value {
        super::problem(problem)
    }
}
