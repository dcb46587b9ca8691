use super::answer::MessageWriter;
use crate::chat::{self, Calls};
use crate::fields::{kind, shown};
use crate::form::{self, CACHE_CONTROL, Form};
use crate::openai::Shared;
use crate::{Ask, Fields, Problem, Writer};
use serde_json::{Map, Value, json};

/// Fields that say who asks or where, and change no answer.
const OF_THE_CALLER: form::Fields = &[
    ("metadata", Form::Object(&[("user_id", Form::Text)])),
    ("service_tier", Form::Word(&["auto", "standard_only"])),
    CACHE_CONTROL,
    ("inference_geo", Form::Text),
    ("context_management", Form::Map),
    ("diagnostics", Form::Map),
    ("user_profile_id", Form::Text),
    ("workspace_id", Form::Text),
    ("billing_policy", Form::Any),
    ("speed", Form::Only(&["\"standard\""], "there is one speed")),
    ("compaction", Form::Only(&["{}"], "a prompt is never cut or compacted")),
    ("fallbacks", Form::Only(&["[]"], "no other model answers")),
];

/// Fields that are known, and not supported.
const REFUSED: &[(&str, &str)] = &[("container", "no code runs here")];

const TOOL: Form = Form::Object(&[
    ("type", Form::Text),
    ("name", Form::Text),
    ("description", Form::Text),
    ("input_schema", Form::Map),
    ("strict", Form::Flag),
    CACHE_CONTROL,
    ("eager_input_streaming", Form::Flag),
    ("defer_loading", Form::Only(&["false"], "the model is told of all tools at once")),
    ("allowed_callers", Form::Only(&["[\"direct\"]"], "no program calls tools here")),
    ("input_examples", Form::Only(&["[]"], "templates write none: the description may have them")),
]);

const TOOL_CHOICE: Form = Form::Object(&[
    ("type", Form::Word(&["auto", "any", "tool", "none"])),
    ("name", Form::Text),
    ("disable_parallel_tool_use", Form::Flag),
]);

const THINKING: Form = Form::Object(&[
    ("type", Form::Word(&["enabled", "adaptive", "disabled"])),
    ("budget_tokens", Form::Any),
    ("display", Form::Only(&["\"summarized\"", "\"omitted\""], "thoughts are given as they are, or not at all")),
]);

const OUTPUT: Form = Form::Object(&[
    ("effort", Form::Any),
    ("format", Form::Object(&[("type", Form::Word(&["json_schema"])), ("schema", Form::Any)])),
]);

const MESSAGE: Form = Form::Object(&[("role", Form::Any), ("content", Form::Any)]);

const TYPE: (&str, Form) = ("type", Form::Text);

const CITATIONS: (&str, Form) =
    ("citations", Form::Object(&[("enabled", Form::Only(&["false"], "answers cite nothing"))]));

/// A source of a document that is text.
const SOURCE: Form = Form::Object(&[
    TYPE,
    ("media_type", Form::Only(&["\"text/plain\""], "what is no plain text would be read as if it were")),
    ("data", Form::Text),
    ("content", Form::Any),
]);

/// What blocks of each type say, and what they have to.
const BLOCKS: &[(&str, Form, &[&str])] = &[
    ("text", Form::Object(&[TYPE, ("text", Form::Text), ("citations", Form::ListOf(&Form::Any)), CACHE_CONTROL]), &[]),
    ("thinking", Form::Object(&[TYPE, ("thinking", Form::Text), ("signature", Form::Text), CACHE_CONTROL]), &[]),
    ("redacted_thinking", Form::Object(&[TYPE, ("data", Form::Text), CACHE_CONTROL]), &[]),
    (
        "tool_use",
        Form::Object(&[
            TYPE,
            ("id", Form::Text),
            ("name", Form::Text),
            ("input", Form::Map),
            ("caller", Form::Map),
            CACHE_CONTROL,
        ]),
        &["id", "name", "input"],
    ),
    (
        "tool_result",
        Form::Object(&[
            TYPE,
            ("tool_use_id", Form::Text),
            ("content", Form::Any),
            ("is_error", Form::Flag),
            CACHE_CONTROL,
        ]),
        &["tool_use_id"],
    ),
    (
        "document",
        Form::Object(&[
            TYPE,
            ("source", Form::Map),
            ("title", Form::Text),
            ("context", Form::Text),
            CITATIONS,
            CACHE_CONTROL,
        ]),
        &["source"],
    ),
    (
        "search_result",
        Form::Object(&[
            TYPE,
            ("source", Form::Text),
            ("title", Form::Text),
            ("content", Form::Any),
            CITATIONS,
            CACHE_CONTROL,
        ]),
        &["source", "title", "content"],
    ),
];

/// Checks a block of a type that is known.
fn check_block(block: &Value, place: &str) -> Result<(), Problem> {
    let Some((_, form, required)) = BLOCKS.iter().find(|(kind, ..)| block["type"] == *kind) else { return Ok(()) };
    form.check(block, place)?;
    match required.iter().find(|name| block[**name].is_null()) {
        Some(name) => Err(Problem::field(&format!("{place}.{name}"), format_args!("expected one, found none"))),
        None => Ok(()),
    }
}

/// Reads a body of `/v1/messages`. The answer gets the id, with a prefix.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn messages(mut fields: Fields, served: &Shared, id: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    if fields.get("max_tokens").is_none_or(|most| most.as_u64().is_none_or(|most| most == 0)) {
        return Err(Problem::field("max_tokens", "expected a number of tokens, at least 1"));
    }
    let omits_thoughts = fields.get("thinking").is_some_and(|thinking| thinking["display"] == "omitted");
    let chat = translate(&mut fields)?;
    let (ask, turn) = chat::read_one(chat, served)?;
    let (model, prompt) = (served.name.clone(), ask.prompts[0].len());
    let stops = ask.sampling.stop.clone();
    let writer = MessageWriter::new(format!("msg_{id}"), model, prompt, stops, turn);
    Ok((ask, Box::new(if omits_thoughts { writer.without_thoughts() } else { writer })))
}

/// Answers `/v1/messages/count_tokens`.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn count_tokens(mut fields: Fields, served: &Shared) -> Result<Value, Problem> {
    let chat = translate(&mut fields)?;
    let (ask, _) = chat::read_one(chat, served)?;
    Ok(json!({"input_tokens": ask.prompts[0].len()}))
}

/// The fields in OpenAI's words.
fn translate(fields: &mut Fields) -> Result<Fields, Problem> {
    fields.take("model");
    if fields.has("thread") {
        let problem = Problem::field("thread", "nothing is stored: send the whole conversation as messages");
        return Err(Problem { code: Some(super::NO_THREADS), ..problem });
    }
    fields.refuse(REFUSED)?;
    fields.pass(OF_THE_CALLER)?;
    let mut chat = std::mem::take(fields);
    chat::refuse_foreign(&chat, &["messages", "max_tokens", "tools", "tool_choice"])?;
    let (mut messages, mut calls) = (Vec::new(), Calls::default());
    if let Some(system) = chat.take("system") {
        messages.push(json!({"role": "system", "content": text(system, "system")?}));
    }
    let list = chat.list("messages")?.ok_or_else(|| Problem::field("messages", "expected a list of messages"))?;
    for (i, message) in list.into_iter().enumerate() {
        self::message(message, &format!("messages[{i}]"), &mut messages, &mut calls)?;
    }
    chat.put("messages", messages);
    if let Some(stops) = chat.get("stop_sequences") {
        Form::ListOf(&Form::Text).check(stops, "stop_sequences")?;
    }
    chat.rename("stop_sequences", "stop")?;
    if let Some(tools) = chat.list("tools")? {
        let tools = tools.into_iter().enumerate().map(|(i, tool)| self::tool(tool, &format!("tools[{i}]")));
        chat.put("tools", tools.collect::<Result<Vec<_>, _>>()?);
    }
    if let Some(choice) = chat.get("tool_choice") {
        TOOL_CHOICE.check(choice, "tool_choice")?;
    }
    if let Some(choice) = chat.object("tool_choice")? {
        let name = || choice.get("name").cloned().unwrap_or_default();
        let translated = match choice.get("type").and_then(Value::as_str) {
            Some("auto") => json!("auto"),
            Some("any") => json!("required"),
            Some("none") => json!("none"),
            Some("tool") if name().is_string() => json!({"type": "function", "function": {"name": name()}}),
            _ => return Err(Problem::field("tool_choice", "type: expected auto, any, none, or tool with a name")),
        };
        chat.put("tool_choice", translated);
        if choice.get("disable_parallel_tool_use") == Some(&json!(true)) {
            chat.put("parallel_tool_calls", false);
        }
    }
    thinking(&mut chat)?;
    chat.only("mcp_servers", &json!([]), "there are no built-in tools")?;
    if let Some(output) = chat.get("output_config") {
        OUTPUT.check(output, "output_config")?;
    }
    if let Some(mut output) = chat.object("output_config")? {
        if let Some(effort) = output.remove("effort").filter(|effort| !effort.is_null()) {
            chat.put_as("reasoning_effort", effort, "output_config.effort");
        }
        if let Some(format) = output.remove("format").filter(|format| !format.is_null()) {
            if format["schema"].is_null() {
                return Err(Problem::field("output_config", "format: expected a schema"));
            }
            let inner = json!({"name": "answer", "schema": format["schema"]});
            chat.put_as("response_format", json!({"type": format["type"], "json_schema": inner}), "output_config");
        }
    }
    Ok(chat)
}

/// `thinking` as variables of the template, and a budget.
fn thinking(chat: &mut Fields) -> Result<(), Problem> {
    if let Some(thinking) = chat.get("thinking") {
        THINKING.check(thinking, "thinking")?;
    }
    let Some(thinking) = chat.object("thinking")? else { return Ok(()) };
    let thinks = match thinking.get("type").and_then(Value::as_str) {
        Some("enabled" | "adaptive") => true,
        Some("disabled") => false,
        _ => return Err(Problem::field("thinking", "type: expected enabled, adaptive or disabled")),
    };
    let variables = json!({"enable_thinking": thinks, "thinking": thinks});
    chat.put_new("chat_template_kwargs", variables, "thinking")?;
    let (budget, place) = (thinking.get("budget_tokens").filter(|_| thinks), "thinking.budget_tokens");
    let Some(budget) = budget.filter(|budget| !budget.is_null()) else {
        return match thinking.get("type") == Some(&json!("enabled")) {
            true => Err(Problem::field(place, "expected a number of tokens")),
            false => Ok(()),
        };
    };
    // Anthropic's least. Thoughts are a part of the answer.
    Form::Whole(1024).check(budget, place)?;
    match chat.get("max_tokens").filter(|most| most.as_u64() <= budget.as_u64()) {
        Some(most) => Err(Problem::field(place, format_args!("expected less than max_tokens, {most}, found {budget}"))),
        None => chat.put_new("thinking_budget", budget.clone(), place),
    }
}

fn tool(tool: Value, place: &str) -> Result<Value, Problem> {
    if let Some(kind) = tool["type"].as_str().filter(|kind| *kind != "custom") {
        return Err(Problem::field(place, format_args!("{kind}: there are no built-in tools")));
    }
    TOOL.check(&tool, place)?;
    if !tool["name"].is_string() {
        return Err(Problem::field(place, "expected a tool with its name"));
    }
    chat::check_parameters(&tool["input_schema"], &format!("{place}.input_schema"))?;
    let mut function = json!({"name": tool["name"], "parameters": tool["input_schema"]});
    for field in ["description", "strict"] {
        if let Some(value) = tool.get(field) {
            function[field] = value.clone();
        }
    }
    Ok(json!({"type": "function", "function": function}))
}

/// A text, or blocks of text.
fn text(content: Value, place: &str) -> Result<String, Problem> {
    match content {
        Value::String(text) => Ok(text),
        Value::Array(blocks) => {
            let text = |(i, block): (usize, &Value)| self::block(block, &format!("{place}[{i}]"));
            Ok(blocks.iter().enumerate().map(text).collect::<Result<Vec<_>, _>>()?.join("\n"))
        }
        other => {
            Err(Problem::field(place, format_args!("expected a string or a list of blocks, found {}", kind(&other))))
        }
    }
}

/// The text of a block of text, or of one that has texts.
fn block(block: &Value, place: &str) -> Result<String, Problem> {
    check_block(block, place)?;
    match (block["type"].as_str(), block["text"].as_str()) {
        (Some("text"), Some(text)) => Ok(text.to_owned()),
        (Some("document"), _) => titled(block, document(&block["source"], &format!("{place}.source"))?),
        (Some("search_result"), _) => {
            let place = format!("{place}.content");
            Form::ListOf(&Form::Map).check(&block["content"], &place)?;
            titled(block, text(block["content"].clone(), &place)?)
        }
        (Some("text"), _) | (None, _) => {
            Err(Problem::field(place, format_args!("expected text, found {}", shown(block))))
        }
        (Some(kind), _) => Err(no_block(kind, place)),
    }
}

/// The text of a document's source.
fn document(source: &Value, place: &str) -> Result<String, Problem> {
    match (source["type"].as_str(), &source["data"]) {
        (Some("text"), Value::String(data)) => SOURCE.check(source, place).map(|()| data.clone()),
        (Some("content"), _) => {
            SOURCE.check(source, place)?;
            text(source["content"].clone(), &format!("{place}.content"))
        }
        (Some(kind @ ("base64" | "url" | "file")), _) => {
            Err(Problem::field(place, format_args!("{kind}: {}", chat::NO_TEXT)))
        }
        _ => Err(Problem::field(place, format_args!("expected a source with its text, found {}", shown(source)))),
    }
}

/// A text with what its block says of it, each in a line before it.
fn titled(block: &Value, text: String) -> Result<String, Problem> {
    let before = ["title", "context"].into_iter().filter_map(|name| block[name].as_str());
    Ok(before.chain([&*text]).collect::<Vec<_>>().join("\n"))
}

/// The problem of a block that says nothing in this place.
fn no_block(kind: &str, place: &str) -> Problem {
    match kind {
        "image" | "container_upload" => Problem::field(place, format_args!("{kind}: {}", chat::NO_TEXT)),
        kind => {
            let known = BLOCKS.iter().map(|(known, ..)| *known).collect::<Vec<_>>().join(", ");
            Problem::field(place, format_args!("expected a block of type {known}, found {kind:?}"))
        }
    }
}

/// Adds a message: results of tools are messages of their own in OpenAI's words.
fn message(message: Value, place: &str, messages: &mut Vec<Value>, called: &mut Calls) -> Result<(), Problem> {
    MESSAGE.check(&message, place)?;
    let role = message["role"].as_str().unwrap_or_default();
    if !["user", "assistant", "system"].contains(&role) {
        return Err(Problem::field(
            &format!("{place}.role"),
            format_args!("expected user or assistant, found {role:?}"),
        ));
    }
    let place = format!("{place}.content");
    let blocks = match &message["content"] {
        Value::Array(blocks) => blocks,
        content => {
            messages.push(json!({"role": role, "content": text(content.clone(), &place)?}));
            return Ok(());
        }
    };
    let (mut texts, mut thoughts, mut calls) = (Vec::new(), String::new(), Vec::new());
    called.begin_message();
    for (i, block) in blocks.iter().enumerate() {
        let place = format!("{place}[{i}]");
        check_block(block, &place)?;
        match block["type"].as_str() {
            Some("text" | "document" | "search_result") => texts.push(self::block(block, &place)?),
            Some("thinking") => thoughts.push_str(block["thinking"].as_str().unwrap_or_default()),
            Some("redacted_thinking") => {}
            Some("tool_use") => {
                called.add(&block["id"], &format!("{place}.id"))?;
                let arguments = block["input"].to_string();
                let function = json!({"name": block["name"], "arguments": arguments});
                calls.push(json!({"id": block["id"], "type": "function", "function": function}));
            }
            Some("tool_result") => {
                called.check_result(&block["tool_use_id"], &format!("{place}.tool_use_id"))?;
                let content = match &block["content"] {
                    Value::Null => String::new(),
                    content => text(content.clone(), &format!("{place}.content"))?,
                };
                messages.push(json!({"role": "tool", "tool_call_id": block["tool_use_id"], "content": content}));
            }
            Some(kind) => return Err(no_block(kind, &place)),
            None => {
                return Err(Problem::field(
                    &place,
                    format_args!("expected a block with its type, found {}", shown(block)),
                ));
            }
        }
    }
    if texts.is_empty() && thoughts.is_empty() && calls.is_empty() && !blocks.is_empty() {
        return Ok(());
    }
    let mut one = Map::new();
    one.insert("role".to_owned(), role.into());
    one.insert("content".to_owned(), texts.join("\n").into());
    if !thoughts.is_empty() {
        one.insert("reasoning_content".to_owned(), thoughts.into());
    }
    if !calls.is_empty() {
        one.insert("tool_calls".to_owned(), calls.into());
    }
    messages.push(Value::Object(one));
    Ok(())
}
