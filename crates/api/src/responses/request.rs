use super::answer::{Echo, ResponseWriter};
use super::tools::{name_of, tools};
use crate::chat;
use crate::fields::{kind, shown};
use crate::openai::Shared;
use crate::{Ask, Fields, Problem, Writer};
use serde_json::{Map, Value, json};

/// Fields that say who asks, and change no answer.
const OF_THE_CALLER: &[&str] = &[
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "include",
    "client_metadata",
    "store",
];

/// Fields that are known, and not supported.
const REFUSED: &[(&str, &str)] = &[
    ("previous_response_id", "nothing is stored: send the whole conversation as input"),
    ("conversation", "nothing is stored: send the whole conversation as input"),
    ("prompt", "there are no stored prompts"),
    ("max_tool_calls", "there are no built-in tools"),
];

/// Reads a body of `/v1/responses`. The answer gets the id, with a prefix.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn response(mut fields: Fields, served: &Shared, id: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    fields.remove_all(OF_THE_CALLER);
    fields.take("model");
    fields.refuse(REFUSED)?;
    chat::refuse_foreign(&fields, &["top_logprobs", "tools", "tool_choice", "parallel_tool_calls"])?;
    fields.only("background", &json!(false), "answers come at once")?;
    fields.only("truncation", &json!("disabled"), "a prompt is never cut")?;
    let metadata = fields.object("metadata")?.unwrap_or_default();
    let stream_options = fields.object("stream_options")?.unwrap_or_default();
    if let Some(name) = stream_options.keys().find(|name| *name != "include_obfuscation") {
        return Err(Problem::field("stream_options", format_args!("{name}: expected include_obfuscation")));
    }
    let mut echo = Echo { metadata: metadata.into(), ..Echo::default() };
    let mut chat = Input::default();
    if let Some(instructions) = fields.string("instructions")? {
        chat.push(json!({"role": "system", "content": instructions}), "instructions");
        echo.instructions = instructions.into();
    }
    chat.read(fields.take("input").unwrap_or_default())?;
    let Input { messages, places } = chat;
    fields.put_as("messages", messages, "input");
    if let Some(list) = fields.list("tools")? {
        let (translated, names) = tools(&list)?;
        fields.put("tools", translated);
        (echo.tools, echo.names) = (list.into(), names);
    }
    if let Some(choice) = fields.take("tool_choice") {
        echo.tool_choice = choice.clone();
        let translated = match choice["type"].as_str() {
            Some("function") => json!({"type": "function", "function": {"name": name_of(&choice)}}),
            _ => choice,
        };
        fields.put("tool_choice", translated);
    }
    echo.parallel_tool_calls = fields.get("parallel_tool_calls") != Some(&json!(false));
    if let Some(mut reasoning) = fields.object("reasoning")? {
        echo.reasoning = json!({"effort": reasoning.get("effort"), "summary": null});
        if let Some(effort) = reasoning.remove("effort").filter(|effort| !effort.is_null()) {
            fields.put_as("reasoning_effort", effort, "reasoning.effort");
        }
    }
    if let Some(text) = fields.object("text")? {
        format(&text, &mut fields, &mut echo)?;
    }
    echo.max_output_tokens = fields.get("max_output_tokens").cloned().unwrap_or_default();
    fields.rename("max_output_tokens", "max_tokens")?;
    // Here the number alone asks for them.
    if let Some(top) = fields.get("top_logprobs").cloned() {
        fields.put("logprobs", true);
        echo.top_logprobs = Some(top);
    }
    let (ask, turn) = chat::read_one(fields, served).map_err(|problem| problem.placed(&places))?;
    (echo.temperature, echo.top_p) = (ask.sampling.temperature, ask.sampling.top_p);
    Ok((ask, Box::new(ResponseWriter::new(served, id, echo, turn))))
}

/// The format of the answer, in the words of chats.
fn format(text: &Map<String, Value>, fields: &mut Fields, echo: &mut Echo) -> Result<(), Problem> {
    if let Some(name) = text.keys().find(|name| !["format", "verbosity"].contains(&name.as_str())) {
        return Err(Problem::field("text", format_args!("expected format, found {name}")));
    }
    if text.get("verbosity").is_some_and(|verbosity| !verbosity.is_null() && verbosity != "medium") {
        return Err(Problem::field("text.verbosity", "no model here knows it"));
    }
    let Some(format) = text.get("format").filter(|format| !format.is_null()) else { return Ok(()) };
    echo.format = format.clone();
    let translated = match format["type"].as_str() {
        Some("json_schema") => {
            let known = ["type", "name", "description", "schema", "strict"];
            if let Some(key) = format.as_object().and_then(|all| all.keys().find(|key| !known.contains(&key.as_str())))
            {
                let expected = format_args!("expected {}, found {key}", known.join(", "));
                return Err(Problem::field("text.format", expected));
            }
            let schema = &format["schema"];
            if !(schema.is_object() || schema.is_boolean() || schema.is_null()) {
                let expected = format_args!("expected a JSON Schema, found {}", shown(schema));
                return Err(Problem::field("text.format.schema", expected));
            }
            let mut inner = format.clone();
            if let Some(inner) = inner.as_object_mut() {
                inner.remove("type");
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
        _ => format.clone(),
    };
    fields.put_as("response_format", translated, "text.format");
    Ok(())
}

/// The messages of a chat.
#[derive(Default)]
struct Input {
    messages: Vec<Value>,
    /// Places in the messages, and those in the body that they came from.
    places: Vec<(String, String)>,
}

impl Input {
    /// Adds a message that is from one place of the body.
    fn push(&mut self, message: Value, own: &str) {
        let place = format!("messages[{}]", self.messages.len());
        let content = if own.starts_with("input[") { format!("{own}.content") } else { own.to_owned() };
        self.places.extend([(format!("{place}.content"), content), (place, own.to_owned())]);
        self.messages.push(message);
    }

    /// The place in the body of what is here in the last message.
    fn place(&mut self, inner: &str, own: String) {
        let last = self.messages.len().saturating_sub(1);
        self.places.push((format!("messages[{last}].{inner}"), own));
    }

    /// The message of the assistant that an item of the body belongs to: the last one, unless that has one of these fields already, or is
    /// none of the assistant's items.
    fn assistant(&mut self, own: &str, taken: &[&str]) -> &mut Value {
        let open = self.messages.last().is_some_and(|last| last["role"] == "assistant");
        if !open || taken.iter().any(|field| self.messages.last().is_some_and(|last| last.get(field).is_some())) {
            self.push(json!({"role": "assistant"}), own);
        }
        self.messages.last_mut().expect("there is one now")
    }

    /// Adds the items of the input. Thoughts, content and calls that follow each other are one message of the assistant.
    fn read(&mut self, input: Value) -> Result<(), Problem> {
        let items = match input {
            Value::String(text) => {
                self.push(json!({"role": "user", "content": text}), "input");
                return Ok(());
            }
            Value::Array(items) => items,
            other => {
                let expected = format_args!("expected a string or a list of items, found {}", kind(&other));
                return Err(Problem::field("input", expected));
            }
        };
        for (i, item) in items.into_iter().enumerate() {
            self.item(&item, &format!("input[{i}]"))?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Value, own: &str) -> Result<(), Problem> {
        match item["type"].as_str().unwrap_or("message") {
            "message" if item["role"] == "assistant" => {
                self.assistant(own, &["content", "tool_calls"])["content"] = joined(&item["content"]);
                self.place("content", format!("{own}.content"));
            }
            "message" => self.push(json!({"role": item["role"], "content": item["content"]}), own),
            "reasoning" => {
                let parts = item["content"].as_array().or(item["summary"].as_array());
                let texts = parts.into_iter().flatten().filter_map(|part| part["text"].as_str());
                let text = texts.collect::<Vec<_>>().join("\n");
                if !text.is_empty() {
                    self.push(json!({"role": "assistant", "reasoning_content": text}), own);
                }
            }
            "function_call" => {
                let function = json!({"name": name_of(item), "arguments": item["arguments"]});
                let call = json!({"id": item["call_id"], "type": "function", "function": function});
                let message = self.assistant(own, &[]);
                let calls = message["tool_calls"].as_array().map_or(0, Vec::len);
                match message["tool_calls"].as_array_mut() {
                    Some(calls) => calls.push(call),
                    None => message["tool_calls"] = json!([call]),
                }
                for inner in ["", ".function"] {
                    self.place(&format!("tool_calls[{calls}]{inner}"), own.to_owned());
                }
            }
            "function_call_output" => {
                let content = joined(&item["output"]);
                self.push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": content}), own);
                self.place("content", format!("{own}.output"));
            }
            other => {
                let expected = "expected a message, function_call, function_call_output or reasoning";
                return Err(Problem::field(own, format_args!("{expected}, found {other}")));
            }
        }
        Ok(())
    }
}

/// The text of parts, where all are text: what is not is refused later by its place.
fn joined(content: &Value) -> Value {
    let Some(parts) = content.as_array() else { return content.clone() };
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    texts.map_or_else(|| content.clone(), |texts| texts.concat().into())
}
