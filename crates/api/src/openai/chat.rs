//! `/v1/chat/completions`.

use super::head::{Head, Shared, StreamOptions, Timings, Total, timings_of};
use super::{logprobs, messages};
use crate::ask::scheduling;
use crate::constraint::{constraint, ends};
use crate::fields::shown;
use crate::turn::{Delta, Turn};
use crate::{Ask, Event, Fields, Problem, Writer, sampling};
use serde_json::{Map, Value, json};
use trine_engine::{Choice, Prompt, Token, Update};

/// Fields that are known, and not supported.
const REFUSED: &[(&str, &str)] = &[
    ("audio", "answers are text"),
    ("functions", "deprecated: expected tools"),
    ("function_call", "deprecated: expected tool_choice"),
    ("prediction", "predicted outputs are not supported"),
    ("web_search_options", "there are no built-in tools"),
    ("verbosity", "no model here knows it"),
];

/// Reads a body. The answer gets the id, with a prefix.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn chat(mut fields: Fields, served: &Shared, id: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    super::common(&mut fields)?;
    fields.refuse(REFUSED)?;
    fields.only("modalities", &json!(["text"]), "answers are text")?;
    let stream = fields.boolean("stream")?.unwrap_or_default();
    let options = StreamOptions::take(&mut fields, stream)?;
    let token_ids = fields.boolean("return_token_ids")?.unwrap_or_default();
    let tokens = prompt(&mut fields, served)?;
    fields.rename("max_completion_tokens", "max_tokens")?;
    top_logprobs(&mut fields)?;
    let constraint = constraint(&mut fields)?;
    let (scheduling, prefix_cache) = scheduling(&mut fields)?;
    let mut chosen = sampling::sampling(fields.clone(), &served.sampling)?;
    if let Some((field, _)) = &constraint {
        chosen = ends(field, &fields, chosen)?;
    }
    if stream && chosen.best_of.is_some_and(|best| best > chosen.n) {
        return Err(Problem::field("best_of", "expected none with stream: the best are known at the end"));
    }
    let answers = chosen.best_of.unwrap_or(chosen.n);
    let open = || Open { turn: Turn::default(), timings: Timings::new(tokens.len()), begun: false };
    let writer = ChatWriter {
        served: served.clone(),
        head: Head::new(
            served,
            format!("chatcmpl-{id}"),
            if stream { "chat.completion.chunk" } else { "chat.completion" },
        ),
        options,
        logprobs: chosen.logprobs.is_some(),
        best: chosen.best_of.map(|_| chosen.n),
        token_ids: token_ids.then(|| tokens.clone()),
        open: (0..answers).map(|_| open()).collect(),
        total: Total::default(),
    };
    let ask = Ask { prompts: vec![tokens], sampling: chosen, constraint, scheduling, prefix_cache, stream };
    Ok((ask, Box::new(writer)))
}

/// Marks the end of a message that the answer continues, while the template renders it: a noncharacter, which no text has.
const END: char = '\u{FDD2}';

/// The prompt that the messages and tools make.
fn prompt(fields: &mut Fields, served: &Shared) -> Result<Vec<u32>, Problem> {
    let template = served
        .template
        .as_ref()
        .map_err(|why| Problem::field("messages", format_args!("the model cannot chat: {why}")))?;
    let list = fields.list("messages")?.ok_or_else(|| Problem::field("messages", "expected a list of messages"))?;
    let mut messages = messages::messages(list, served)?;
    let mut variables = fields.object("chat_template_kwargs")?.unwrap_or_default();
    if let Some(effort) = fields.take("reasoning_effort") {
        reasoning_effort(&effort, &mut variables)?;
    }
    let tools = tools(fields)?;
    let is_prefill =
        messages.last().is_some_and(|message| message.role == "assistant" && !message.rest.contains_key("tool_calls"));
    let continues = fields.boolean("continue_final_message")?;
    let generates = fields.boolean("add_generation_prompt")?;
    let continues = match (continues, generates) {
        (Some(true), Some(true)) => {
            return Err(Problem::field("continue_final_message", "expected add_generation_prompt: false beside it"));
        }
        (Some(true), _) if !is_prefill => {
            return Err(Problem::field("continue_final_message", "expected the last message to be the assistant's"));
        }
        (Some(continues), _) => continues,
        // As llama-server and Anthropic's API: what ends with the assistant goes on.
        (None, generates) => is_prefill && generates != Some(true),
    };
    if continues && let Some(last) = messages.last_mut() {
        mark(&mut last.content);
    }
    let generates = generates.unwrap_or(!continues);
    let chat = template.render_chat(&served.tokenizer, &messages, tools.as_ref(), generates, &variables);
    let mut chat = chat.map_err(|why| Problem::field("messages", why))?;
    if continues {
        let Some(end) = chat.text().rfind(END) else {
            return Err(Problem::field("messages", "the template writes no message of the assistant that could go on"));
        };
        chat.truncate(end);
    }
    served.tokens(Prompt::Chat(chat), "messages")
}

/// Marks the end of a content.
fn mark(content: &mut Value) {
    match content {
        Value::String(text) => text.push(END),
        Value::Array(parts) => {
            if let Some(Value::String(text)) = parts.last_mut().and_then(|part| part.get_mut("text")) {
                text.push(END);
            }
        }
        other => *other = END.to_string().into(),
    }
}

/// What OpenAI calls effort, templates call by several names.
fn reasoning_effort(effort: &Value, variables: &mut Map<String, Value>) -> Result<(), Problem> {
    let known = ["none", "minimal", "low", "medium", "high", "xhigh"];
    let Some(effort) = effort.as_str().filter(|effort| known.contains(effort)) else {
        let problem = format!("expected {}, found {}", known.join(", "), shown(effort));
        return Err(Problem::field("reasoning_effort", problem));
    };
    let thinks = effort != "none";
    let all = [("reasoning_effort", json!(effort)), ("enable_thinking", json!(thinks)), ("thinking", json!(thinks))];
    for (name, value) in all {
        variables.entry(name).or_insert(value);
    }
    Ok(())
}

/// The functions that the model may call, for the template.
fn tools(fields: &mut Fields) -> Result<Option<Value>, Problem> {
    let tools = fields.list("tools")?.filter(|tools| !tools.is_empty());
    for (i, tool) in tools.iter().flatten().enumerate() {
        let place = format!("tools[{i}]");
        if tool["type"] != "function" {
            let problem =
                format!("expected type \"function\", found {}: there are no built-in tools", shown(&tool["type"]));
            return Err(Problem::field(&place, problem));
        }
        if !tool["function"]["name"].is_string() {
            return Err(Problem::field(&place, "expected a function with its name"));
        }
    }
    fields.only("parallel_tool_calls", &json!(true), "the model decides")?;
    match fields.take("tool_choice") {
        None => {}
        Some(choice) if choice == "auto" => {}
        Some(choice) if choice == "none" => return Ok(None),
        Some(found) => {
            let problem = format!("expected \"auto\" or \"none\", found {}", shown(&found));
            return Err(Problem::field("tool_choice", problem));
        }
    }
    Ok(tools.map(Value::Array))
}

/// In chats, `logprobs` is a switch, and `top_logprobs` has the number.
fn top_logprobs(fields: &mut Fields) -> Result<(), Problem> {
    let top = fields.take("top_logprobs");
    match (fields.boolean("logprobs")?.unwrap_or_default(), top) {
        (true, top) => fields.put("logprobs", top.unwrap_or(0.into())),
        (false, Some(top)) if top != json!(0) => {
            return Err(Problem::field("top_logprobs", "expected logprobs: true beside it"));
        }
        (false, _) => {}
    }
    Ok(())
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
        let mut choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": end});
        if let Some(prompt) = &self.token_ids {
            choice["token_ids"] = tokens.iter().map(|token| token.id).collect();
            if !self.open[index].begun {
                choice["prompt_token_ids"] = json!(prompt);
            }
        }
        self.open[index].begun = true;
        let mut chunk = self.head.with(vec![choice]);
        if self.options.timings {
            chunk["timings"] = self.open[index].timings.to_json();
        }
        if self.options.include_usage || self.options.continuous_usage {
            chunk["usage"] = if self.options.continuous_usage { self.total.to_json() } else { Value::Null };
        }
        Event::new(&chunk)
    }

    fn choice(&self, index: usize, choice: &Choice, message: Value, finish_reason: &str) -> Value {
        let logprobs = self.logprobs.then(|| logprobs::chat(&self.served.tokenizer, &choice.tokens));
        let mut body =
            json!({"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish_reason});
        if self.token_ids.is_some() {
            body["token_ids"] = choice.tokens.iter().map(|token| token.id).collect();
        }
        body
    }
}

/// What deltas add to a message, as a chunk writes it.
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
            Delta::Arguments { index, text } => calls.push(json!({"index": index, "function": {"arguments": text}})),
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
            Delta::ToolCall { id, name, .. } => calls.push((id, name, String::new())),
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
    fn begin(&mut self) -> Vec<Event> {
        (0..self.open.len())
            .map(|index| self.chunk(index, json!({"role": "assistant", "content": ""}), &[], None))
            .collect()
    }

    fn update(&mut self, index: usize, update: Update) -> Vec<Event> {
        match update {
            Update::Prompt(_) => Vec::new(),
            Update::Token(token) => {
                self.open[index].timings.token();
                let deltas = self.open[index].turn.push(&token.text);
                vec![self.chunk(index, delta(deltas), &[token], None)]
            }
            Update::Finished { text, finish_reason, usage, .. } => {
                let turn = &mut self.open[index].turn;
                let mut deltas = turn.push(&text);
                deltas.extend(turn.finish());
                let end = turn.finish_reason(&finish_reason);
                self.total.reasoning_tokens += turn.reasoning_tokens;
                self.total.add(usage, index == 0);
                let delta = if deltas.is_empty() { json!({}) } else { delta(deltas) };
                vec![self.chunk(index, delta, &[], Some(end))]
            }
        }
    }

    fn end(&mut self) -> Vec<Event> {
        super::end(&self.head, self.options, &self.total)
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        super::fail(problem)
    }

    fn whole(&mut self, mut choices: Vec<Choice>) -> Value {
        for (i, choice) in choices.iter().enumerate() {
            self.total.add(choice.usage, i == 0);
        }
        if let Some(n) = self.best {
            choices = Choice::best(choices, n);
        }
        let timings = choices.first().map(|choice| timings_of(choice.usage, choice.timing));
        let mut bodies = Vec::with_capacity(choices.len());
        for (index, choice) in choices.iter().enumerate() {
            let turn = &mut self.open[choice.index].turn;
            let mut deltas: Vec<Delta> = choice.tokens.iter().flat_map(|token| turn.push(&token.text)).collect();
            let sent: usize = choice.tokens.iter().map(|token| token.text.len()).sum();
            deltas.extend(turn.push(&choice.text[sent.min(choice.text.len())..]));
            deltas.extend(turn.finish());
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
