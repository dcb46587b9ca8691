use super::answer::{Echo, ResponseWriter};
use super::input::Input;
use super::tools::{choice, repeated, tools};
use crate::chat::{self, Turn};
use crate::fields::shown;
use crate::form::{self, Form};
use crate::openai::{self, Shared, finish_stream_options};
use crate::{Ask, Fields, Problem, Writer};
use serde_json::{Map, Value, json};

/// Fields beside those of all APIs that say who asks, and change no answer.
const OF_THE_CALLER: form::Fields = &[
    ("client_metadata", Form::Map),
    // Those of built-in tools, of which there are none.
    ("max_tool_calls", Form::Whole(1)),
    // A prompt that is too long is refused.
    ("truncation", Form::Word(&["auto", "disabled"])),
];

/// The object `text`.
const TEXT: Form = Form::Object(&[("format", Form::Any), ("verbosity", Form::Any)]);

/// A format with a schema, and others.
const SCHEMA_FORMAT: Form = Form::Object(&[
    ("type", Form::Any),
    ("name", Form::Text),
    ("description", Form::Text),
    ("schema", Form::Any),
    ("strict", Form::Flag),
]);
const FORMAT: Form = Form::Object(&[("type", Form::Any)]);

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
];

/// Reads a body of `/v1/responses`. The answer gets the id, with a prefix.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn response(mut fields: Fields, served: &Shared, id: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let id = openai::answer_id(&mut fields, id)?;
    let (ask, turn, echo) = read(fields, served)?;
    Ok((ask, Box::new(ResponseWriter::new(served, &id, echo, turn))))
}

/// Answers `/v1/responses/input_tokens`.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn input_tokens(fields: Fields, served: &Shared) -> Result<Value, Problem> {
    let (ask, ..) = read(fields, served)?;
    Ok(json!({"object": "response.input_tokens", "input_tokens": ask.prompts[0].len()}))
}

/// Reads a body, and what its response repeats of it.
fn read(mut fields: Fields, served: &Shared) -> Result<(Ask, Turn, Echo), Problem> {
    let mut echo = Echo { caller: caller(&fields), ..Echo::default() };
    openai::common(&mut fields)?;
    fields.pass(OF_THE_CALLER)?;
    fields.refuse(REFUSED)?;
    chat::refuse_foreign(&fields, &["top_logprobs", "tools", "tool_choice", "parallel_tool_calls"])?;
    fields.only("background", &json!(false), "answers come at once")?;
    if let Some(options) = fields.object("stream_options")? {
        if fields.get("stream") != Some(&json!(true)) {
            return Err(Problem::field("stream_options", "expected stream: true"));
        }
        finish_stream_options(options.into())?;
    }
    include(&mut fields)?;
    let mut chat = Input::default();
    if let Some(instructions) = fields.string("instructions")? {
        chat.push(json!({"role": "system", "content": instructions}), "instructions");
        echo.instructions = instructions.into();
    }
    chat.read(fields.take("input").unwrap_or_default())?;
    let Input { messages, mut places, .. } = chat;
    fields.put_as("messages", messages, "input");
    if let Some(list) = fields.list("tools")? {
        let (translated, names, of_tools) = tools(&list)?;
        fields.put("tools", translated);
        places.extend(of_tools);
        (echo.tools, echo.names) = (list.into_iter().map(repeated).collect(), names);
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
    if let Some(most) = fields.get("max_output_tokens") {
        // Only other servers have -1 for no limit.
        Form::Whole(1).check(most, "max_output_tokens")?;
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
    Ok((ask, turn, echo))
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

/// Fields that change no answer, and that the response repeats.
const REPEATED: &[&str] = &[
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "metadata",
    "truncation",
    "max_tool_calls",
];

/// What the response repeats as it is.
fn caller(fields: &Fields) -> Map<String, Value> {
    let given = REPEATED.iter().filter_map(|name| Some(((*name).to_owned(), fields.get(name)?.clone())));
    // There is one tier, whichever was asked for.
    given.chain([("service_tier".to_owned(), json!("default"))]).collect()
}

/// The format of the answer, in the words of chats.
fn format(text: &Map<String, Value>, fields: &mut Fields, echo: &mut Echo) -> Result<(), Problem> {
    TEXT.check(&text.clone().into(), "text")?;
    if let Some(verbosity) = text.get("verbosity").filter(|verbosity| !verbosity.is_null()) {
        fields.put_as("verbosity", verbosity.clone(), "text.verbosity");
        echo.verbosity = verbosity.clone();
    }
    let Some(format) = text.get("format").filter(|format| !format.is_null()) else { return Ok(()) };
    echo.format = format.clone();
    let translated = match format["type"].as_str() {
        Some("json_schema") => {
            SCHEMA_FORMAT.check(format, "text.format")?;
            let schema = &format["schema"];
            if !(schema.is_object() || schema.is_boolean()) {
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
            FORMAT.check(format, "text.format")?;
            format.clone()
        }
    };
    fields.put_as("response_format", translated, "text.format");
    Ok(())
}
