//! What a request of a batch asks for.

use super::BatchOptions;
use super::line::Task;
use serde_json::{Map, Value, json};
use trine_engine::{Prompt, Sampling};
use trine_text::{Message, Tokenizer};

/// A request that the engine takes.
pub struct Ask {
    pub prompt: Prompt,
    pub sampling: Sampling,
    /// What keeps the answers to their format.
    pub schema: Option<Value>,
    pub chat: bool,
}

/// Why a request is refused: the field, and what is wrong with it.
#[derive(Debug)]
pub struct Problem {
    pub param: Option<String>,
    pub message: String,
}

impl From<trine_engine::Error> for Problem {
    fn from(error: trine_engine::Error) -> Problem {
        let param = match &error {
            trine_engine::Error::Option { field, .. } => Some((*field).to_owned()),
            _ => None,
        };
        Problem { param, message: error.to_string() }
    }
}

pub fn problem<T>(param: &str, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { param: Some(param.to_owned()), message: message.into() })
}

/// Fields that say who asks, and change no answer.
const OF_THE_CALLER: &[&str] =
    &["model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"];
/// Fields that may be there with this value alone.
const NEUTRAL: &[(&str, &str)] = &[
    ("stream", "false"),
    ("echo", "false"),
    ("prompt_logprobs", "null"),
    ("suffix", "null"),
    ("stream_options", "null"),
    ("parallel_tool_calls", "true"),
    ("modalities", r#"["text"]"#),
];

/// What a request says, without what changes no answer.
pub fn body(task: &Task) -> Result<Map<String, Value>, Problem> {
    if let Some(method) = task.method.as_ref().filter(|method| *method != "POST") {
        return problem("method", format!("method: expected POST, found {method}"));
    }
    let mut body = task.body.clone();
    body.retain(|name, value| !OF_THE_CALLER.contains(&name.as_str()) && !value.is_null());
    Ok(body)
}

/// Reads a request that is answered with text.
pub fn read(task: &Task, options: &BatchOptions, tokenizer: &Tokenizer) -> Result<Ask, Problem> {
    let mut body = body(task)?;
    for (name, neutral) in NEUTRAL {
        if let Some(value) = body.remove(*name)
            && serde_json::from_str(neutral).ok().as_ref() != Some(&value)
        {
            return problem(name, format!("{name}: expected {neutral}, found {value}: it is not supported in batches"));
        }
    }
    let format = body.remove("response_format").unwrap_or_default();
    let empty = [json!([]), json!("")];
    let stop =
        ["stop", "stop_token_ids"].into_iter().find(|name| body.get(*name).is_some_and(|stop| !empty.contains(stop)));
    let mut ask = match task.url.as_str() {
        "/v1/chat/completions" => chat(body, options, tokenizer),
        "/v1/completions" => completion(body, options),
        super::EMBEDDINGS => problem("url", "url: expected embeddings in a file that begins with embeddings"),
        other => problem("url", format!("url: expected /v1/chat/completions or /v1/completions, found {other}")),
    }?;
    ask.schema = json_schema(&format)?;
    if ask.schema.is_none() {
        return Ok(ask);
    }
    let why = "with a response_format, which says where answers end";
    if ask.sampling.ignore_eos {
        return problem("ignore_eos", format!("ignore_eos: expected false {why}"));
    }
    if let Some(name) = stop {
        return problem(name, format!("{name}: expected none {why}"));
    }
    ask.sampling = ask.sampling.without_stops();
    Ok(ask)
}

/// The schema of an answer's format; `None` for text.
fn json_schema(format: &Value) -> Result<Option<Value>, Problem> {
    if format.is_null() {
        return Ok(None);
    }
    let fields =
        |known: &[&str]| match format.as_object().and_then(|all| all.keys().find(|name| !known.contains(&&***name))) {
            Some(name) => {
                problem("response_format", format!("response_format: expected {}, found {name}", known.join(", ")))
            }
            None => Ok(()),
        };
    match format["type"].as_str() {
        Some("text") => fields(&["type"]).map(|()| None),
        Some("json_object") => fields(&["type"]).map(|()| Some(json!({ "type": "object" }))),
        Some("json_schema") => {
            fields(&["type", "json_schema"])?;
            let schema = &format["json_schema"]["schema"];
            if !schema.is_object() && !schema.is_boolean() {
                let message = format!("response_format: json_schema.schema: expected a JSON Schema, found {schema}");
                return problem("response_format", message);
            }
            Ok(Some(schema.clone()))
        }
        _ => {
            let found = &format["type"];
            problem(
                "response_format",
                format!("response_format: type: expected text, json_object or json_schema, found {found}"),
            )
        }
    }
}

fn completion(mut body: Map<String, Value>, options: &BatchOptions) -> Result<Ask, Problem> {
    let Some(prompt) = prompt(body.remove("prompt").unwrap_or_default()) else {
        return problem("prompt", "prompt: expected a string or a list of token ids");
    };
    Ok(Ask { prompt, sampling: sampling(body, options)?, schema: None, chat: false })
}

/// A text, or the ids of its tokens.
pub fn prompt(value: Value) -> Option<Prompt> {
    let id = |id: &Value| id.as_u64()?.try_into().ok();
    match value {
        Value::String(text) => Some(Prompt::Text(text)),
        Value::Array(ids) => ids.iter().map(id).collect::<Option<_>>().map(Prompt::Tokens),
        _ => None,
    }
}

fn chat(mut body: Map<String, Value>, options: &BatchOptions, tokenizer: &Tokenizer) -> Result<Ask, Problem> {
    let template = match &options.template {
        Ok(template) => template,
        Err(why) => return problem("messages", format!("the model cannot chat: {why}")),
    };
    let Some(Value::Array(messages)) = body.remove("messages") else {
        return problem("messages", "messages: expected a list of messages");
    };
    let mut read = Vec::with_capacity(messages.len());
    for (i, message) in messages.into_iter().enumerate() {
        read.push(self::message(message).or_else(|wrong| problem("messages", format!("messages[{i}]: {wrong}")))?);
    }
    let variables = match body.remove("chat_template_kwargs") {
        None => Map::new(),
        Some(Value::Object(variables)) => variables,
        Some(_) => return problem("chat_template_kwargs", "chat_template_kwargs: expected an object"),
    };
    if let Some(most) = body.remove("max_completion_tokens") {
        body.insert("max_tokens".to_owned(), most);
    }
    let top = body.remove("top_logprobs");
    match (body.remove("logprobs"), top) {
        (None | Some(Value::Bool(false)), None) => {}
        (Some(Value::Bool(true)), top) => {
            body.insert("logprobs".to_owned(), top.unwrap_or(0.into()));
        }
        (None | Some(Value::Bool(false)), Some(_)) => {
            return problem("top_logprobs", "top_logprobs: expected logprobs: true");
        }
        (Some(found), _) => return problem("logprobs", format!("logprobs: expected true or false, found {found}")),
    }
    let tools = tools(&mut body)?;
    let chat = template.render_chat(tokenizer, &read, tools.as_ref(), true, &variables);
    let chat = chat.or_else(|why| problem("messages", why.to_string()))?;
    Ok(Ask { prompt: Prompt::Chat(chat), sampling: sampling(body, options)?, schema: None, chat: true })
}

/// The functions that the model may call, for the template. The model writes its calls as text.
fn tools(body: &mut Map<String, Value>) -> Result<Option<Value>, Problem> {
    let tools = match body.remove("tools") {
        None => None,
        Some(Value::Array(tools)) if tools.iter().all(Value::is_object) => {
            Some(Value::Array(tools)).filter(|tools| *tools != json!([]))
        }
        Some(_) => return problem("tools", "tools: expected a list of objects"),
    };
    match body.remove("tool_choice") {
        None => Ok(tools),
        Some(choice) if choice == "auto" => Ok(tools),
        Some(choice) if choice == "none" => Ok(None),
        Some(found) => problem(
            "tool_choice",
            format!("tool_choice: expected \"auto\" or \"none\", found {found}: it is not supported in batches"),
        ),
    }
}

/// A message of text alone.
fn message(value: Value) -> Result<Message, String> {
    let message: Message = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let parts = message.content.as_array().into_iter().flatten();
    match parts.map(|part| &part["type"]).find(|kind| *kind != "text") {
        Some(kind) => Err(format!("content: expected parts of type \"text\", found {kind}")),
        None => Ok(message),
    }
}

/// What is left of a body: the sampling options, over those that hold where it says nothing.
fn sampling(body: Map<String, Value>, options: &BatchOptions) -> Result<Sampling, Problem> {
    let fields = || serde_json::to_value(&options.sampling).map_err(|error| error.to_string());
    let read = |mut body: Map<String, Value>| {
        let Value::Object(mut all) = fields()? else { return Err("options are no object".to_owned()) };
        all.append(&mut body);
        serde_json::from_value::<Sampling>(Value::Object(all)).map_err(|error| error.to_string())
    };
    // One by one, so that a message names the field.
    for (name, value) in &body {
        if let Err(wrong) = read(Map::from_iter([(name.clone(), value.clone())])) {
            return problem(name, format!("{name}: {wrong}"));
        }
    }
    read(body).map_err(|message| Problem { param: None, message })
}
