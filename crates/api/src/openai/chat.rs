//! `/v1/chat/completions`.

use super::functions::{self, Former};
use super::head::{Head, Shared, StreamOptions, Timings, Total, timings_of};
use super::logprobs;
use crate::chat::{self, Chat, Delta, Turn};
use crate::form::{self, Form};
use crate::{Ask, Event, Fields, Problem, Writer};
use serde_json::{Map, Value, json};
use trine_engine::{Choice, Token, Update};
use trine_text::Rendered;

/// Fields that are known, and not supported.
const REFUSED: &[(&str, &str)] = &[
    ("audio", "answers are text"),
    ("prediction", "predicted outputs are not supported"),
    ("web_search_options", "there are no built-in tools"),
];

/// Fields of llama-server's and vLLM's with what holds anyway, beside those of all bodies.
const OF_OTHERS: form::Fields = &[
    ("add_special_tokens", Form::Only(&["false"], "the template writes them")),
    ("parse_tool_calls", Form::Only(&["true"], "calls are told apart from the answer")),
    ("documents", Form::Only(&["[]"], "expected them in messages")),
];

/// Reads a body. The answer gets the id, with a prefix.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn chat(mut fields: Fields, served: &Shared, id: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let id = super::answer_id(&mut fields, id)?;
    super::common(&mut fields)?;
    fields.refuse(REFUSED)?;
    fields.pass(OF_OTHERS)?;
    fields.only("modalities", &json!(["text"]), "answers are text")?;
    thinking(&mut fields)?;
    let Former { calls: former, places } = functions::former(&mut fields)?;
    if let Some(Value::Array(messages)) = fields.get("messages") {
        chat::check_ids(messages).map_err(|problem| problem.placed(&places))?;
    }
    let stream = fields.get("stream") == Some(&json!(true));
    let options = StreamOptions::take(&mut fields, stream)?;
    let token_ids = fields.boolean("return_token_ids")?.unwrap_or_default();
    let chat = chat::read(fields, served).map_err(|problem| problem.placed(&places))?;
    let best = chat.best();
    let Chat { mut ask, turns } = chat;
    ask.progress = options.asks_progress();
    let prompt = &ask.prompts[0];
    let total = Total::new(&[prompt.len()], turns.len());
    let open = |turn| Open { turn, timings: Timings::new(prompt.len()), begun: false };
    let object = if stream { "chat.completion.chunk" } else { "chat.completion" };
    let writer = ChatWriter {
        served: served.clone(),
        head: Head::new(served, format!("chatcmpl-{id}"), object),
        options,
        former,
        logprobs: ask.sampling.logprobs.is_some(),
        best,
        token_ids: token_ids.then(|| prompt.clone()),
        open: turns.into_iter().map(open).collect(),
        total,
    };
    Ok((ask, Box::new(writer)))
}

/// Answers llama-server's `/apply-template`: the prompt that a chat makes.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn apply_template(mut fields: Fields, served: &Shared) -> Result<Value, Problem> {
    fields.take("model");
    Ok(json!({"prompt": rendered(fields, served)?.into_text()}))
}

/// The prompt that the fields of a chat make.
pub(crate) fn rendered(mut fields: Fields, served: &Shared) -> Result<Rendered, Problem> {
    thinking(&mut fields)?;
    let Former { places, .. } = functions::former(&mut fields)?;
    chat::apply_template(fields, served).map_err(|problem| problem.placed(&places))
}

/// Other servers' fields that say how the model thinks.
fn thinking(fields: &mut Fields) -> Result<(), Problem> {
    if let Some(thinks) = fields.boolean("enable_thinking")? {
        fields.put_new("chat_template_kwargs", json!({"enable_thinking": thinks}), "enable_thinking")?;
    }
    let Some(reasoning) = fields.object("reasoning")? else { return Ok(()) };
    let mut reasoning = Fields::from(reasoning);
    let effort = reasoning.take("effort");
    reasoning.finish().map_err(|problem| problem.within("reasoning"))?;
    match effort {
        Some(effort) => fields.put_new("reasoning_effort", effort, "reasoning.effort"),
        None => Ok(()),
    }
}

/// How an answer goes.
struct Open {
    turn: Turn,
    timings: Timings,
    begun: bool,
}

struct ChatWriter {
    served: Shared,
    head: Head,
    options: StreamOptions,
    /// Whether calls are told in the way that OpenAI had before there were tools.
    former: bool,
    logprobs: bool,
    best: Option<usize>,
    /// The tokens of the prompt, if tokens are to be told.
    token_ids: Option<Vec<u32>>,
    open: Vec<Open>,
    total: Total,
}

impl ChatWriter {
    /// A chunk that adds to an answer.
    fn chunk(&mut self, index: usize, delta: Value, tokens: &[Token], end: Option<&'static str>) -> Event {
        let logprobs = (self.logprobs && !tokens.is_empty()).then(|| logprobs::chat(&self.served.tokenizer, tokens));
        let (delta, end) = self.told(delta, end);
        let mut choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end});
        if let Some(prompt) = &self.token_ids {
            choice["token_ids"] = tokens.iter().map(|token| token.id).collect();
            if !self.open[index].begun {
                choice["prompt_token_ids"] = json!(prompt);
            }
        }
        self.open[index].begun = true;
        super::chunk(&self.head, self.options, choice, &self.open[index].timings, &self.total)
    }

    /// A message or a part of it, and why it ended, in the way that the client reads.
    fn told(&self, message: Value, end: Option<&'static str>) -> (Value, Option<&'static str>) {
        match self.former {
            true => (functions::with_former_call(message), end.map(functions::former_end)),
            false => (message, end),
        }
    }

    fn choice(&self, index: usize, choice: &Choice, message: Value, end: &'static str) -> Value {
        let (message, finish_reason) = self.told(message, Some(end));
        let logprobs = self.logprobs.then(|| logprobs::chat(&self.served.tokenizer, &choice.tokens));
        let mut body =
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason});
        if self.token_ids.is_some() {
            body["token_ids"] = choice.tokens.iter().map(|token| token.id).collect();
        }
        body
    }
}

/// What deltas add to a message, as a chunk writes it: a call is there once.
fn delta(deltas: Vec<Delta>) -> Value {
    let mut content = String::new();
    let mut reasoning = String::new();
    let mut calls = Vec::new();
    for delta in deltas {
        match delta {
            Delta::Content(text) => content.push_str(&text),
            Delta::Reasoning(text) => reasoning.push_str(&text),
            Delta::ToolCall { index, id, name } => calls.push(json!({
                "index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""},
            })),
            Delta::Arguments { index, text } => {
                if calls.last().is_none_or(|call| call["index"] != index) {
                    calls.push(json!({"index": index, "function": {"arguments": ""}}));
                }
                if let Some(Value::String(arguments)) = calls.last_mut().map(|call| &mut call["function"]["arguments"])
                {
                    arguments.push_str(&text);
                }
            }
        }
    }
    let mut delta = json!({});
    if !reasoning.is_empty() {
        delta["reasoning"] = reasoning.as_str().into();
        delta["reasoning_content"] = reasoning.into();
    }
    if !calls.is_empty() {
        delta["tool_calls"] = calls.into();
    }
    // A chunk without anything is one of a token whose text is not certain yet.
    if !content.is_empty() || delta.as_object().is_some_and(Map::is_empty) {
        delta["content"] = content.into();
    }
    delta
}

/// A whole message.
fn message(deltas: Vec<Delta>) -> Value {
    let mut content = String::new();
    let mut reasoning = String::new();
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for delta in deltas {
        match delta {
            Delta::Content(text) => content.push_str(&text),
            Delta::Reasoning(text) => reasoning.push_str(&text),
            Delta::ToolCall { id, name, .. } => calls.push((id.unwrap_or_default(), name, String::new())),
            Delta::Arguments { index, text } => calls[index].2.push_str(&text),
        }
    }
    let nothing = content.is_empty() && !calls.is_empty();
    let content = if nothing { Value::Null } else { Value::String(content) };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if !reasoning.is_empty() {
        message["reasoning"] = reasoning.as_str().into();
        message["reasoning_content"] = reasoning.into();
    }
    if !calls.is_empty() {
        let call = |(id, name, arguments): (String, String, String)| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        message["tool_calls"] = calls.into_iter().map(call).collect();
    }
    message
}

impl Writer for ChatWriter {
    fn update(&mut self, index: usize, update: Update) -> Vec<Event> {
        if let Update::Progress(progress) = &update {
            self.total.cached(index, progress.cached_tokens);
            self.open[index].timings.cached(progress.cached_tokens);
        }
        let mut events = Vec::new();
        if !self.open[index].begun {
            events.push(self.chunk(index, json!({"role": "assistant", "content": ""}), &[], None));
        }
        match update {
            Update::Progress(progress) if self.options.progress => {
                let choice = json!({"index": index, "delta": {}, "logprobs": null, "finish_reason": null});
                events.push(super::progress(&self.head, choice, progress));
            }
            Update::Progress(_) | Update::Prompt(_) => {}
            Update::Token(token) => {
                self.open[index].timings.token();
                self.total.token(index);
                let turn = &mut self.open[index].turn;
                let thoughts = turn.reasoning_tokens;
                let deltas = turn.push(&token.text);
                self.total.reasoning_tokens += turn.reasoning_tokens - thoughts;
                events.push(self.chunk(index, delta(deltas), &[token], None));
            }
            Update::Finished { text, finish_reason, usage, timing } => {
                self.open[index].timings.end(usage, timing);
                let turn = &mut self.open[index].turn;
                let deltas = turn.rest(&text, &finish_reason);
                let end = turn.finish_reason(&finish_reason);
                self.total.end(index, usage);
                let delta = if deltas.is_empty() { json!({}) } else { delta(deltas) };
                events.push(self.chunk(index, delta, &[], Some(end)));
            }
        }
        events
    }

    fn end(&mut self) -> Vec<Event> {
        super::end(&self.head, self.options, &self.total)
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        super::fail(problem)
    }

    fn whole(&mut self, mut choices: Vec<Choice>) -> Value {
        for choice in &choices {
            self.total.end(choice.index, choice.usage);
        }
        if let Some(n) = self.best {
            choices = Choice::best(choices, n);
        }
        let timings = choices.first().map(|choice| timings_of(choice.usage, choice.timing));
        let mut bodies = Vec::with_capacity(choices.len());
        for (index, choice) in choices.iter().enumerate() {
            let turn = &mut self.open[choice.index].turn;
            let deltas = turn.whole(choice);
            let end = turn.finish_reason(&choice.finish_reason);
            self.total.reasoning_tokens += turn.reasoning_tokens;
            bodies.push(self.choice(index, choice, message(deltas), end));
        }
        let mut body = self.head.with(bodies);
        body["usage"] = self.total.to_json();
        if let Some(prompt) = &self.token_ids {
            body["prompt_token_ids"] = json!(prompt);
        }
        if let Some(timings) = timings.filter(|_| self.options.timings) {
            body["timings"] = timings;
        }
        body
    }
}
