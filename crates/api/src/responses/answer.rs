use super::tools::Names;
use crate::chat::{Block, Blocks, Step, Turn};
use crate::openai::{Shared, logprobs, new_id, now};
use crate::{Event, Problem, Writer};
use serde_json::{Map, Value, json};
use trine_engine::{Choice, Token, Update, Usage};

/// What a response repeats of its request.
#[derive(Default)]
pub struct Echo {
    pub instructions: Value,
    pub max_output_tokens: Value,
    /// What changes no answer.
    pub caller: Map<String, Value>,
    pub tools: Value,
    /// Those of functions in a namespace.
    pub names: Names,
    pub tool_choice: Value,
    pub parallel_tool_calls: bool,
    pub reasoning: Value,
    pub format: Value,
    pub verbosity: Value,
    pub temperature: f64,
    pub top_p: f64,
    pub top_logprobs: Option<Value>,
}

/// A response as it comes.
pub struct ResponseWriter {
    served: Shared,
    id: String,
    created: u64,
    echo: Echo,
    turn: Turn,
    blocks: Blocks,
    /// Ids of the items, one for each block.
    ids: Vec<String>,
    /// Tokens whose log probabilities were asked for, of the content alone.
    tokens: Vec<Token>,
    usage: Usage,
    finish_reason: &'static str,
    count: u64,
}

impl ResponseWriter {
    pub fn new(served: &Shared, id: &str, echo: Echo, turn: Turn) -> ResponseWriter {
        ResponseWriter {
            served: served.clone(),
            id: format!("resp_{id}"),
            created: now(),
            echo,
            turn,
            blocks: Blocks::default(),
            ids: Vec::new(),
            tokens: Vec::new(),
            usage: Usage::default(),
            finish_reason: "stop",
            count: 0,
        }
    }

    fn response(&self, status: &str, error: Value) -> Value {
        let Echo { caller, instructions, max_output_tokens, tools, tool_choice, parallel_tool_calls, .. } = &self.echo;
        let Echo { reasoning, format, verbosity, temperature, top_p, top_logprobs, .. } = &self.echo;
        let or = |value: &Value, default: Value| if value.is_null() { default } else { value.clone() };
        let incomplete = (status == "incomplete").then(|| json!({"reason": "max_output_tokens"}));
        let ended = matches!(status, "completed" | "incomplete");
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = self.usage;
        let usage = ended.then(|| {
            json!({
                "input_tokens": prompt_tokens,
                "input_tokens_details": {"cached_tokens": cached_tokens, "cache_write_tokens": 0},
                "output_tokens": completion_tokens,
                "output_tokens_details": {"reasoning_tokens": self.turn.reasoning_tokens},
                "total_tokens": prompt_tokens + completion_tokens,
            })
        });
        let output: Vec<Value> = match status {
            "in_progress" => Vec::new(),
            _ => (0..self.blocks.all.len()).map(|index| self.item(index, self.ended(index))).collect(),
        };
        let mut body = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "completed_at": (status == "completed").then(now),
            "status": status,
            "background": false,
            "error": error,
            "incomplete_details": incomplete,
            "instructions": instructions,
            "max_output_tokens": max_output_tokens,
            "metadata": {},
            "model": self.served.name,
            "output": output,
            "parallel_tool_calls": parallel_tool_calls,
            "previous_response_id": null,
            "reasoning": or(reasoning, json!({"effort": null, "summary": null})),
            "store": false,
            "temperature": temperature,
            "text": {"format": or(format, json!({"type": "text"})), "verbosity": or(verbosity, json!("medium"))},
            "tool_choice": or(tool_choice, json!("auto")),
            "tools": or(tools, json!([])),
            "top_p": top_p,
            "truncation": "disabled",
        });
        for (name, value) in caller {
            body[name] = value.clone();
        }
        if let Some(usage) = usage {
            body["usage"] = usage;
        }
        if let Some(top) = top_logprobs {
            body["top_logprobs"] = top.clone();
        }
        body
    }

    fn logprobs(&self) -> Value {
        match self.echo.top_logprobs {
            Some(_) => logprobs::chat(&self.served.tokenizer, &self.tokens)["content"].clone(),
            None => json!([]),
        }
    }

    /// A part of a message or of thoughts.
    fn part(&self, index: usize, text: &str) -> Value {
        match &self.blocks.all[index].0 {
            Block::Reasoning => json!({"type": "reasoning_text", "text": text}),
            _ => {
                let logprobs = if text.is_empty() { json!([]) } else { self.logprobs() };
                json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
            }
        }
    }

    /// An item; one that is in progress has no content yet.
    fn item(&self, index: usize, status: &str) -> Value {
        let ((block, text), id) = (&self.blocks.all[index], &self.ids[index]);
        let begins = status == "in_progress";
        let content = if begins { Vec::new() } else { vec![self.part(index, text)] };
        match block {
            Block::Reasoning => {
                json!({"type": "reasoning", "id": id, "summary": [], "content": content, "status": status})
            }
            Block::Content => {
                json!({"type": "message", "id": id, "role": "assistant", "status": status, "content": content})
            }
            Block::Call { id: call, name } => {
                let arguments = if begins { "" } else { text.as_str() };
                let mut item = json!({
                    "type": "function_call", "id": id, "call_id": call, "name": name, "arguments": arguments, "status": status,
                });
                if let Some((namespace, name)) = self.echo.names.get(name) {
                    (item["namespace"], item["name"]) = (namespace.as_str().into(), name.as_str().into());
                }
                item
            }
        }
    }

    fn event(&mut self, name: &'static str, mut data: Value) -> Event {
        data["type"] = name.into();
        data["sequence_number"] = self.count.into();
        self.count += 1;
        Event::named(name, &data)
    }

    fn events(&mut self, steps: Vec<Step>, token: Option<&Token>) -> Vec<Event> {
        let mut events = Vec::new();
        for step in steps {
            match step {
                Step::Start(index, block) => {
                    self.ids.push(new_id(match block {
                        Block::Reasoning => "rs_",
                        Block::Content => "msg_",
                        Block::Call { .. } => "fc_",
                    }));
                    let item = self.item(index, "in_progress");
                    let added = json!({"output_index": index, "item": item});
                    events.push(self.event("response.output_item.added", added));
                    if !matches!(block, Block::Call { .. }) {
                        let part = self.part(index, "");
                        let added = json!({"item_id": self.ids[index], "output_index": index, "content_index": 0, "part": part});
                        events.push(self.event("response.content_part.added", added));
                    }
                }
                Step::Add(index, text) => {
                    let block = self.blocks.all[index].0.clone();
                    let mut delta = json!({"item_id": self.ids[index], "output_index": index, "delta": text});
                    let name = match block {
                        Block::Call { .. } => "response.function_call_arguments.delta",
                        Block::Reasoning => {
                            delta["content_index"] = 0.into();
                            "response.reasoning_text.delta"
                        }
                        Block::Content => {
                            delta["content_index"] = 0.into();
                            let one = token.filter(|_| self.echo.top_logprobs.is_some()).cloned();
                            delta["logprobs"] = match one {
                                Some(token) => logprobs::chat(&self.served.tokenizer, &[token])["content"].clone(),
                                None => json!([]),
                            };
                            "response.output_text.delta"
                        }
                    };
                    events.push(self.event(name, delta));
                }
                Step::Stop(index) => events.extend(self.stop(index)),
            }
        }
        events
    }

    fn stop(&mut self, index: usize) -> Vec<Event> {
        let (block, text) = self.blocks.all[index].clone();
        let mut events = Vec::new();
        let place = json!({"item_id": self.ids[index], "output_index": index});
        let with = |more: Value| {
            let mut all = place.clone();
            for (name, value) in more.as_object().into_iter().flatten() {
                all[name] = value.clone();
            }
            all
        };
        if let Block::Call { name, .. } = &block {
            let name = self.echo.names.get(name).map_or(name, |(_, name)| name);
            let done = with(json!({"name": name, "arguments": text}));
            events.push(self.event("response.function_call_arguments.done", done));
        } else {
            let mut done = with(json!({"content_index": 0, "text": text}));
            let name = if block == Block::Reasoning {
                "response.reasoning_text.done"
            } else {
                done["logprobs"] = self.logprobs();
                "response.output_text.done"
            };
            events.push(self.event(name, done));
            let part = self.part(index, &text);
            let done = with(json!({"content_index": 0, "part": part}));
            events.push(self.event("response.content_part.done", done));
        }
        let item = self.item(index, self.ended(index));
        events.push(self.event("response.output_item.done", json!({"output_index": index, "item": item})));
        events
    }

    /// The status of an item that has ended: the last of an answer that was cut is incomplete, but for a call whose arguments are whole.
    fn ended(&self, index: usize) -> &'static str {
        let (block, text) = &self.blocks.all[index];
        let is_last = index + 1 == self.blocks.all.len();
        let is_whole = || matches!(block, Block::Call { .. }) && serde_json::from_str::<Value>(text).is_ok();
        if self.finish_reason == "length" && is_last && !is_whole() { "incomplete" } else { "completed" }
    }

    fn status(&self) -> &'static str {
        if self.finish_reason == "length" { "incomplete" } else { "completed" }
    }
}

impl Writer for ResponseWriter {
    fn begin(&mut self) -> Vec<Event> {
        ["response.created", "response.in_progress"]
            .map(|name| {
                let response = self.response("in_progress", Value::Null);
                self.event(name, json!({"response": response}))
            })
            .into()
    }

    fn update(&mut self, _: usize, update: Update) -> Vec<Event> {
        let (deltas, token) = match update {
            Update::Progress(_) | Update::Prompt(_) => return Vec::new(),
            Update::Token(token) => (self.turn.push(&token.text), Some(token)),
            Update::Finished { text, finish_reason, usage, .. } => {
                let deltas = self.turn.rest(&text, &finish_reason);
                (self.finish_reason, self.usage) = (self.turn.finish_reason(&finish_reason), usage);
                (deltas, None)
            }
        };
        let steps = self.blocks.push(deltas);
        if let Some(token) = &token
            && steps
                .iter()
                .any(|step| matches!(step, Step::Add(index, _) if self.blocks.all[*index].0 == Block::Content))
        {
            self.tokens.push(token.clone());
        }
        self.events(steps, token.as_ref())
    }

    fn end(&mut self) -> Vec<Event> {
        let steps = self.blocks.finish();
        let mut events = self.events(steps, None);
        let (status, name) = match self.status() {
            "incomplete" => ("incomplete", "response.incomplete"),
            status => (status, "response.completed"),
        };
        let response = self.response(status, Value::Null);
        events.push(self.event(name, json!({"response": response})));
        events
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        let error = json!({"code": "server_error", "message": problem.message});
        let response = self.response("failed", error);
        vec![self.event("response.failed", json!({"response": response}))]
    }

    fn whole(&mut self, choices: Vec<Choice>) -> Value {
        for choice in choices {
            let mut tokens = choice.tokens.clone();
            // The events name the items and collect the tokens.
            for token in tokens.drain(..) {
                self.update(0, Update::Token(token));
            }
            let sent: usize = choice.tokens.iter().map(|token| token.text.len()).sum();
            let text = choice.text[sent.min(choice.text.len())..].to_owned();
            let Choice { finish_reason, usage, timing, .. } = choice;
            self.update(0, Update::Finished { text, finish_reason, usage, timing });
        }
        self.response(self.status(), Value::Null)
    }
}
