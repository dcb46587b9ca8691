//! The messages of chats, as templates take them.

use super::Calls;
use crate::fields::{kind, shown};
use crate::form::{self, CACHE_CONTROL, Form};
use crate::{Fields, Problem, Served};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use trine_text::{Message, Rendered};

/// Fields of messages that are given to the template.
const KNOWN: form::Fields =
    &[("name", Form::Text), ("tool_calls", Form::Any), ("tool_call_id", Form::Text), ("reasoning_content", Form::Text)];
/// Fields of answers that clients send back, and that say nothing to a model.
const IGNORED: form::Fields = &[
    ("refusal", Form::Text),
    ("annotations", Form::ListOf(&Form::Any)),
    ("reasoning_details", Form::Any),
    ("id", Form::Text),
    // The official client's.
    ("parsed", Form::Any),
    // litellm's.
    ("provider_specific_fields", Form::Map),
    ("thinking_blocks", Form::ListOf(&Form::Map)),
    CACHE_CONTROL,
];
/// A part of a content that is text. What it has beside its text changes no answer.
pub const TEXT_PART: Form = Form::Object(&[
    ("type", Form::Text),
    ("text", Form::Text),
    ("annotations", Form::ListOf(&Form::Any)),
    ("logprobs", Form::ListOf(&Form::Any)),
    ("prompt_cache_breakpoint", Form::Map),
    ("parsed", Form::Any),
    CACHE_CONTROL,
]);
/// A part in which the assistant says that it does not answer.
pub const REFUSAL_PART: Form = Form::Object(&[("type", Form::Text), ("refusal", Form::Text)]);
/// A call of a function that the assistant made, with what clients send back of it.
const CALL: Form = Form::Object(&[
    ("id", Form::Text),
    ("type", Form::Text),
    ("function", FUNCTION),
    ("index", Form::Whole(0)),
    ("extra_content", Form::Map),
    ("provider_specific_fields", Form::Map),
]);
const FUNCTION: Form = Form::Object(&[
    ("name", Form::Text),
    ("arguments", Form::Any),
    ("index", Form::Whole(0)),
    ("parsed_arguments", Form::Any),
    ("provider_specific_fields", Form::Map),
]);
/// What of a call, and of its function, is given to the template.
const OF_CALLS: &[&str] = &["id", "type", "function", "name", "arguments"];
/// Why what is no text is refused, and what to do.
pub const NO_TEXT: &str = "the model takes text alone: leave it out, or say in text what it shows";
/// Parts of a content that are no text.
const PARTS_WITHOUT_TEXT: &[&str] =
    &["image_url", "input_audio", "audio", "file", "video_url", "input_image", "input_file"];

const TEXT_OF_OBJECT: &str = "expected the text of a JSON object";

/// Checks the ids of calls and results, as the body has them. The calls of a history that was cut at its beginning may be missing.
///
/// # Errors
/// With the place of an id that is there twice, or that no call has.
pub fn check_ids(messages: &[Value]) -> Result<(), Problem> {
    let mut called = Calls::default();
    for (i, message) in messages.iter().enumerate() {
        called.begin_message();
        for (j, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            called.add(&call["id"], &format!("messages[{i}].tool_calls[{j}].id"))?;
        }
        if message["role"] == "tool" && !called.is_empty() {
            called.check_result(&message["tool_call_id"], &format!("messages[{i}].tool_call_id"))?;
        }
    }
    Ok(())
}

/// Reads the messages of a body.
///
/// # Errors
/// With the place of what is wrong.
pub fn messages(messages: Vec<Value>, served: &Served) -> Result<Vec<Message>, Problem> {
    if messages.is_empty() {
        return Err(Problem::field("messages", "expected at least one"));
    }
    messages.into_iter().enumerate().map(|(i, message)| read(message, &format!("messages[{i}]"), served)).collect()
}

fn read(message: Value, place: &str, served: &Served) -> Result<Message, Problem> {
    let at = |problem: Problem| {
        let name = problem.param.map_or_else(|| place.to_owned(), |name| format!("{place}.{name}"));
        let problem = problem.message.split_once(": ").map_or(problem.message.as_str(), |(_, rest)| rest).to_owned();
        Problem::field(&name, problem)
    };
    if !message.is_object() {
        return Err(Problem::field(place, format_args!("expected an object, found {}", kind(&message))));
    }
    let mut fields = Fields::new(message)?;
    let mut role = fields.string("role").map_err(at)?.unwrap_or_default();
    match role.as_str() {
        "system" | "user" | "assistant" | "tool" => {}
        "developer" if served.reads_developers() => {}
        "developer" => role = "system".to_owned(),
        other => {
            let expected = "expected system, developer, user, assistant or tool";
            return Err(Problem::field(&format!("{place}.role"), format_args!("{expected}, found {other:?}")));
        }
    }
    fields.pass(IGNORED).map_err(at)?;
    fields.rename("reasoning", "reasoning_content").map_err(at)?;
    let content = match fields.take("content") {
        // Whoever calls functions need not say anything.
        None if role == "assistant" => String::new().into(),
        content => content.unwrap_or_default(),
    };
    let content = self::content(content, &format!("{place}.content"), role == "assistant", served)?;
    let mut rest = Map::new();
    for (name, form) in KNOWN {
        if let Some(value) = fields.take(name) {
            form.check(&value, fields.own_name(name)).map_err(at)?;
            rest.insert((*name).to_owned(), value);
        }
    }
    fields.finish().map_err(at)?;
    if role == "tool" && !rest.contains_key("tool_call_id") {
        return Err(Problem::field(&format!("{place}.tool_call_id"), "expected the id of a call"));
    }
    if let Some(calls) = rest.get_mut("tool_calls") {
        tool_calls(calls, &format!("{place}.tool_calls"))?;
    }
    let content = match rest.get("reasoning_content") {
        Some(Value::String(thoughts)) if served.reads_thoughts() && !thoughts.is_empty() => {
            let thoughts = json!({"type": "thinking", "thinking": thoughts});
            rest.remove("reasoning_content");
            match content {
                Value::Array(parts) => std::iter::once(thoughts).chain(parts).collect(),
                text => json!([thoughts, {"type": "text", "text": text}]),
            }
        }
        _ => content,
    };
    Ok(Message { role, content, rest })
}

/// A content in the form that the template reads. Only an answer may refuse one.
fn content(content: Value, place: &str, is_answer: bool, served: &Served) -> Result<Value, Problem> {
    let parts = match content {
        Value::String(text) if !served.reads_parts() => return Ok(Value::String(text)),
        Value::String(text) => return Ok(json!([{"type": "text", "text": text}])),
        Value::Array(parts) => parts,
        other => {
            return Err(Problem::field(
                place,
                format_args!("expected a string or a list of parts, found {}", kind(&other)),
            ));
        }
    };
    let mut texts = Vec::with_capacity(parts.len());
    for (i, part) in parts.into_iter().enumerate() {
        let place = format!("{place}[{i}]");
        match (part["type"].as_str(), &part["text"]) {
            (Some("text" | "input_text" | "output_text"), Value::String(text)) => {
                TEXT_PART.check(&part, &place)?;
                texts.push(text.clone());
            }
            (Some("text" | "input_text" | "output_text"), found) => {
                let expected = format_args!("expected a string, found {}", kind(found));
                return Err(Problem::field(&format!("{place}.text"), expected));
            }
            (Some("refusal"), _) if is_answer && part["refusal"].is_string() => {
                REFUSAL_PART.check(&part, &place)?;
                texts.extend(part["refusal"].as_str().map(str::to_owned));
            }
            (Some(kind), _) if PARTS_WITHOUT_TEXT.contains(&kind) => {
                return Err(Problem::field(&place, format_args!("{kind}: {NO_TEXT}")));
            }
            _ => {
                let expected = "expected a part of type \"text\" with its text";
                return Err(Problem::field(&place, format_args!("{expected}, found {}", shown(&part))));
            }
        }
    }
    if served.reads_parts() {
        return Ok(texts.iter().map(|text| json!({"type": "text", "text": text})).collect());
    }
    Ok(Value::String(texts.join("\n")))
}

/// Messages of the system as parts of those of the user: as the beginnings of those that follow them, as llama-server writes them for such a
/// template, or else as the ends of those before them. Templates that refuse the system refuse two messages of the user in a row, too.
pub fn fold_system(messages: Vec<Message>) -> Vec<Message> {
    let (mut folded, mut system) = (Vec::<Message>::with_capacity(messages.len()), false);
    for mut message in messages {
        let is_system = message.role == "system";
        if is_system {
            message.role = "user".to_owned();
        }
        match folded.last_mut().filter(|last| (is_system || system) && last.role == "user" && message.role == "user") {
            Some(last) => {
                last.content = joined(std::mem::take(&mut last.content), message.content);
                last.rest.extend(message.rest);
            }
            None => folded.push(message),
        }
        system = is_system;
    }
    folded
}

/// Two contents as one.
fn joined(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Array(first), Value::Array(second)) => first.into_iter().chain(second).collect(),
        (first, second) => [first, second].iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n").into(),
    }
}

/// Gives calls and their results ids of nine letters and digits in place of others: the same one for the same, and none that is there already.
pub fn shorten_ids(messages: &mut [Message]) {
    let mut ids: Vec<&mut Value> = messages.iter_mut().flat_map(ids).collect();
    let is_short = |id: &str| id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let texts = ids.iter().filter_map(|id| id.as_str());
    let (kept, long): (HashSet<String>, HashSet<String>) = texts.map(str::to_owned).partition(|id| is_short(id));
    let mut free = (0..).map(|number| format!("call{number:05}")).filter(|id| !kept.contains(id));
    let mut given = HashMap::new();
    for id in &mut ids {
        let Some(other) = id.as_str().filter(|id| long.contains(*id)) else { continue };
        let short = given.entry(other.to_owned()).or_insert_with(|| free.next().unwrap_or_default());
        **id = short.as_str().into();
    }
}

/// The ids in a message: those of its calls, and that of the call whose result it is.
fn ids(message: &mut Message) -> impl Iterator<Item = &mut Value> {
    message.rest.iter_mut().flat_map(|(name, value)| match (name.as_str(), value) {
        ("tool_call_id", id) => vec![id],
        ("tool_calls", Value::Array(calls)) => calls.iter_mut().filter_map(|call| call.get_mut("id")).collect(),
        _ => Vec::new(),
    })
}

/// Arguments are a text in OpenAI's API, and an object in templates. Those of a call that was cut remain a text.
fn tool_calls(calls: &mut Value, place: &str) -> Result<(), Problem> {
    let Value::Array(calls) = calls else { return Err(Problem::field(place, "expected a list of calls")) };
    for (i, call) in calls.iter_mut().enumerate() {
        let place = format!("{place}[{i}]");
        if call["type"].as_str().is_some_and(|kind| kind != "function") {
            return Err(Problem::field(
                &place,
                format_args!("expected the call of a function, found {}", call["type"]),
            ));
        }
        CALL.check(call, &place)?;
        if !call["id"].is_string() {
            return Err(Problem::field(&format!("{place}.id"), "expected the id of the call"));
        }
        let Some(function) = call.get_mut("function").filter(|function| function["name"].is_string()) else {
            return Err(Problem::field(&place, "expected a function with its name"));
        };
        if let Some(fields) = function.as_object_mut() {
            fields.retain(|name, _| OF_CALLS.contains(&name.as_str()));
        }
        let arguments = match &function["arguments"] {
            Value::String(text) if text.trim().is_empty() => json!({}),
            Value::String(text) => serde_json::from_str(text).map_or_else(|_| text.as_str().into(), Value::Object),
            Value::Null => json!({}),
            Value::Object(arguments) => arguments.clone().into(),
            _ => return Err(Problem::field(&format!("{place}.function.arguments"), TEXT_OF_OBJECT)),
        };
        function["arguments"] = arguments;
        call["type"] = "function".into();
        if let Some(fields) = call.as_object_mut() {
            fields.retain(|name, _| OF_CALLS.contains(&name.as_str()));
        }
    }
    Ok(())
}

/// The problem of messages that the template does not take: arguments that are no JSON object, where it says something else of one, or what it
/// says itself.
pub fn not_taken(
    messages: &[Message],
    why: &trine_text::Error,
    render: impl Fn(&[Message]) -> Result<Rendered, trine_text::Error>,
) -> Problem {
    let (mut messages, mut place) = (messages.to_vec(), None);
    for (i, message) in messages.iter_mut().enumerate() {
        let calls = message.rest.get_mut("tool_calls").and_then(Value::as_array_mut);
        for (j, call) in calls.into_iter().flatten().enumerate() {
            let arguments = &mut call["function"]["arguments"];
            if arguments.is_string() {
                *arguments = json!({});
                place.get_or_insert_with(|| format!("messages[{i}].tool_calls[{j}].function.arguments"));
            }
        }
    }
    match place {
        Some(place) if !render(&messages).is_err_and(|error| error.to_string() == why.to_string()) => {
            Problem::field(&place, format_args!("{TEXT_OF_OBJECT}: {why}"))
        }
        _ => Problem::field("messages", why),
    }
}

/// The same messages with the arguments of calls as texts, as some templates take them; `None` without calls.
pub fn with_text_arguments(messages: &[Message]) -> Option<Vec<Message>> {
    let mut messages = messages.to_vec();
    let lists = messages.iter_mut().filter_map(|message| message.rest.get_mut("tool_calls")?.as_array_mut());
    let mut any = false;
    for call in lists.flatten() {
        let arguments = &mut call["function"]["arguments"];
        if !arguments.is_string() {
            *arguments = arguments.to_string().into();
            any = true;
        }
    }
    any.then_some(messages)
}
