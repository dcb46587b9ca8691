use super::answer::{Echo, ResponseWriter};
use super::input::Input;
use super::tools::{choice, tools};
use crate::chat;
use crate::fields::{only_known, shown};
use crate::openai::{Shared, finish_stream_options};
use crate::{Ask, Fields, Problem, Writer};
use serde_json::{Map, Value, json};

/// Fields that say who asks, and change no answer.
const OF_THE_CALLER: &[&str] = &[
    "user",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "client_metadata",
    "store",
];

/// What `include` may name. Of these, only log probabilities are ever there: thoughts are not encrypted, and no tools are built in.
const INCLUDE: &[&str] = &[
    LOGPROBS,
    "reasoning.encrypted_content",
    "message.input_image.image_url",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];

const LOGPROBS: &str = "message.output_text.logprobs";

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
    finish_stream_options(fields.object("stream_options")?.unwrap_or_default().into())?;
    include(&mut fields)?;
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
    if let Some(found) = fields.take("tool_choice") {
        fields.put("tool_choice", choice(&found)?);
        echo.tool_choice = found;
    }
    echo.parallel_tool_calls = fields.get("parallel_tool_calls") != Some(&json!(false));
    if let Some(found) = fields.object("reasoning")? {
        let effort = reasoning(found.into()).map_err(|problem| problem.within("reasoning"))?;
        echo.reasoning = json!({"effort": effort, "summary": null});
        effort.into_iter().for_each(|effort| fields.put_as("reasoning_effort", effort, "reasoning.effort"));
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

/// Takes `include`, of which log probabilities are what `top_logprobs` asks for, too.
fn include(fields: &mut Fields) -> Result<(), Problem> {
    let list = fields.list("include")?.unwrap_or_default();
    if let Some(found) = list.iter().find(|name| !name.as_str().is_some_and(|name| INCLUDE.contains(&name))) {
        let expected = format_args!("expected a list of {}, found {}", INCLUDE.join(", "), shown(found));
        return Err(Problem::field("include", expected));
    }
    if list.contains(&json!(LOGPROBS)) && !fields.has("top_logprobs") {
        fields.put("top_logprobs", 0);
    }
    Ok(())
}

/// The effort of `reasoning`. Thoughts are given as they are, whatever summary is asked for.
fn reasoning(mut fields: Fields) -> Result<Option<Value>, Problem> {
    for name in ["summary", "generate_summary"] {
        fields.word(name, &["auto", "concise", "detailed"])?;
    }
    fields.only("context", &json!("auto"), "the template says which thoughts the model sees")?;
    fields.only("mode", &json!("standard"), "no model here knows another")?;
    let effort = fields.take("effort");
    fields.finish()?;
    Ok(effort)
}

/// Checks what a format with a schema says beside it, which changes no answer.
fn schema_labels(format: &Value) -> Result<(), Problem> {
    let mut fields = Fields::from(format.as_object().cloned().unwrap_or_default());
    fields.string("name")?;
    fields.string("description")?;
    fields.boolean("strict")?;
    Ok(())
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
            only_known(format, "text.format", &["type", "name", "description", "schema", "strict"])?;
            schema_labels(format).map_err(|problem| problem.within("text.format"))?;
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
        _ => {
            // llama-server's form of chats has a schema beside it.
            only_known(format, "text.format", &["type"])?;
            format.clone()
        }
    };
    fields.put_as("response_format", translated, "text.format");
    Ok(())
}
