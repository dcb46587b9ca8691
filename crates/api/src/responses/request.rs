use super::answer::{Echo, ResponseWriter};
use super::tools::{name_of, tools};
use crate::chat;
use crate::fields::kind;
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
    let mut messages = Vec::new();
    if let Some(instructions) = fields.string("instructions")? {
        messages.push(json!({"role": "system", "content": instructions}));
        echo.instructions = instructions.into();
    }
    input(fields.take("input").unwrap_or_default(), &mut messages)?;
    fields.put("messages", messages);
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
            fields.put("reasoning_effort", effort);
        }
    }
    if let Some(text) = fields.object("text")? {
        format(&text, &mut fields, &mut echo)?;
    }
    if let Some(most) = fields.take("max_output_tokens") {
        echo.max_output_tokens = most.clone();
        fields.put("max_tokens", most);
    }
    // Here the number alone asks for them.
    if let Some(top) = fields.get("top_logprobs").cloned() {
        fields.put("logprobs", true);
        echo.top_logprobs = Some(top);
    }
    let (ask, turn) = chat::read_one(fields, served)?;
    (echo.temperature, echo.top_p) = (ask.sampling.temperature, ask.sampling.top_p);
    Ok((ask, Box::new(ResponseWriter::new(served, id, echo, turn))))
}

/// The format of the answer, in the words of chats.
fn format(text: &Map<String, Value>, fields: &mut Fields, echo: &mut Echo) -> Result<(), Problem> {
    if let Some(name) = text.keys().find(|name| !["format", "verbosity"].contains(&name.as_str())) {
        return Err(Problem::field("text", format_args!("expected format, found {name}")));
    }
    if text.get("verbosity").is_some_and(|verbosity| !verbosity.is_null() && verbosity != "medium") {
        return Err(Problem::field("text", "verbosity: no model here knows it"));
    }
    let Some(format) = text.get("format").filter(|format| !format.is_null()) else { return Ok(()) };
    echo.format = format.clone();
    let translated = match format["type"].as_str() {
        Some("json_schema") => {
            let mut inner = format.clone();
            if let Some(inner) = inner.as_object_mut() {
                inner.remove("type");
            }
            json!({"type": "json_schema", "json_schema": inner})
        }
        _ => format.clone(),
    };
    fields.put("response_format", translated);
    Ok(())
}

/// Adds the items of the input as messages.
fn input(input: Value, messages: &mut Vec<Value>) -> Result<(), Problem> {
    let items = match input {
        Value::String(text) => {
            messages.push(json!({"role": "user", "content": text}));
            return Ok(());
        }
        Value::Array(items) => items,
        other => {
            return Err(Problem::field(
                "input",
                format_args!("expected a string or a list of items, found {}", kind(&other)),
            ));
        }
    };
    // Thoughts and calls belong to one message of the assistant.
    let mut open: Map<String, Value> = Map::new();
    let close = |open: &mut Map<String, Value>, messages: &mut Vec<Value>| {
        if !open.is_empty() {
            let mut message = std::mem::take(open);
            message.insert("role".to_owned(), "assistant".into());
            messages.push(Value::Object(message));
        }
    };
    for (i, item) in items.into_iter().enumerate() {
        let place = format!("input[{i}]");
        match item["type"].as_str().unwrap_or("message") {
            "message" => {
                let content = item["content"].clone();
                if item["role"] == "assistant" {
                    if open.contains_key("content") || open.contains_key("tool_calls") {
                        close(&mut open, messages);
                    }
                    open.insert("content".to_owned(), joined(&content));
                } else {
                    close(&mut open, messages);
                    messages.push(json!({"role": item["role"], "content": content}));
                }
            }
            "reasoning" => {
                let parts = item["content"].as_array().or(item["summary"].as_array());
                let texts = parts.into_iter().flatten().filter_map(|part| part["text"].as_str());
                let text = texts.collect::<Vec<_>>().join("\n");
                if !text.is_empty() {
                    close(&mut open, messages);
                    open.insert("reasoning_content".to_owned(), text.into());
                }
            }
            "function_call" => {
                let function = json!({"name": name_of(&item), "arguments": item["arguments"]});
                let call = json!({"id": item["call_id"], "type": "function", "function": function});
                match open.get_mut("tool_calls").and_then(Value::as_array_mut) {
                    Some(calls) => calls.push(call),
                    None => _ = open.insert("tool_calls".to_owned(), json!([call])),
                }
            }
            "function_call_output" => {
                close(&mut open, messages);
                messages
                    .push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": joined(&item["output"])}));
            }
            other => {
                let expected = "expected a message, function_call, function_call_output or reasoning";
                return Err(Problem::field(&place, format_args!("{expected}, found {other}")));
            }
        }
    }
    close(&mut open, messages);
    Ok(())
}

/// The text of parts, where all are text: what is not is refused later by its place.
fn joined(content: &Value) -> Value {
    let Some(parts) = content.as_array() else { return content.clone() };
    let texts: Option<Vec<&str>> = parts.iter().map(|part| part["text"].as_str()).collect();
    texts.map_or_else(|| content.clone(), |texts| texts.concat().into())
}
