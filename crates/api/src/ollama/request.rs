use super::answer::OllamaWriter;
use super::options::{Places, common};
use crate::chat::{self, CallIds, Turn};
use crate::fields::kind;
use crate::openai::Shared;
use crate::{Ask, Fields, Problem, Writer, sampling};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use trine_engine::{PrefixCache, Prompt, Scheduling};
use trine_text::ChatFormat;

/// The answer to a body that has no prompt: the model is loaded.
fn load(served: &Shared, stream: bool, chat: bool) -> (Ask, Box<dyn Writer>) {
    let (scheduling, prefix_cache) = (Scheduling::default(), PrefixCache::default());
    let sampling = served.sampling.clone();
    let ask =
        Ask { prompts: Vec::new(), sampling, constraint: None, scheduling, prefix_cache, stream, progress: false };
    (ask, Box::new(OllamaWriter::new(served, plain(), chat, false)))
}

/// An answer that is no chat: it has no parts.
fn plain() -> Turn {
    Turn::new(ChatFormat::of("").parser(&[], false), CallIds::Usual, false)
}

/// Reads a body of `/api/chat`.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn chat(fields: Fields, served: &Shared, _: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let mut places = Places::default();
    read_chat(fields, served, &mut places).map_err(|problem| problem.placed(&places))
}

fn read_chat(mut fields: Fields, served: &Shared, places: &mut Places) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let stream = common(&mut fields, &["messages", "tools", "logprobs", "top_logprobs"], places)?;
    let list = fields.list("messages")?.unwrap_or_default();
    if list.is_empty() {
        return Ok(load(served, stream, true));
    }
    let mut ids = Ids::default();
    let translate = |(i, message): (usize, Value)| message_of(message, &format!("messages[{i}]"), &mut ids, places);
    let messages = list.into_iter().enumerate().map(translate).collect::<Result<Vec<_>, _>>()?;
    fields.put("messages", messages);
    let (ask, turn) = chat::read_one(fields, served)?;
    let logprobs = ask.sampling.logprobs.is_some();
    Ok((ask, Box::new(OllamaWriter::new(served, turn, true, logprobs))))
}

/// Ids for the calls of a conversation, in which this protocol has none, and which templates write. The same conversation has the same.
#[derive(Default)]
struct Ids {
    calls: usize,
    /// Names and ids of calls that have no result yet.
    open: VecDeque<(Value, Value)>,
}

impl Ids {
    /// An id that no call has yet. Nine digits: Mistral's templates take no other length.
    fn next(&mut self) -> Value {
        self.calls += 1;
        format!("{:09}", self.calls - 1).into()
    }

    /// Gives a message the ids that it lacks: its calls new ones, and a result that of the first call of its name, or of any.
    fn add(&mut self, message: &mut Map<String, Value>) {
        if message.get("role") == Some(&json!("tool")) {
            let of_its_name = |(name, _): &(Value, Value)| message.get("tool_name") == Some(name);
            let at = self.open.iter().position(of_its_name).unwrap_or_default();
            let id = self.open.remove(at).map_or_else(|| self.next(), |(_, id)| id);
            message.entry("tool_call_id").or_insert(id);
        }
        for call in message.get_mut("tool_calls").and_then(Value::as_array_mut).into_iter().flatten() {
            let Some(call) = call.as_object_mut() else { continue };
            let id = call.get("id").cloned().unwrap_or_else(|| self.next());
            call.insert("id".to_owned(), id.clone());
            let name = call.get("function").map_or(Value::Null, |function| function["name"].clone());
            self.open.push_back((name, id));
        }
    }
}

/// A message in OpenAI's words.
fn message_of(mut message: Value, place: &str, ids: &mut Ids, places: &mut Places) -> Result<Value, Problem> {
    let Some(fields) = message.as_object_mut() else { return Ok(message) };
    ids.add(fields);
    // A message without content is one with an empty text.
    let content = fields.entry("content").or_insert(Value::Null);
    if content.is_null() {
        *content = "".into();
    }
    let none = [Value::Null, json!([])];
    if fields.remove("images").is_some_and(|images| !none.contains(&images)) {
        return Err(Problem::field(&format!("{place}.images"), chat::NO_TEXT));
    }
    let calls = fields.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
    for (j, call) in calls.enumerate() {
        let arguments = &call["function"]["arguments"];
        if !arguments.is_object() && !arguments.is_null() {
            let place = format!("{place}.tool_calls[{j}].function.arguments");
            return Err(Problem::field(&place, format_args!("expected an object, found {}", kind(arguments))));
        }
    }
    for (own, name) in [("thinking", "reasoning_content"), ("tool_name", "name")] {
        if let Some(value) = fields.remove(own) {
            fields.insert(name.to_owned(), value);
            places.push((format!("{place}.{name}"), format!("{place}.{own}")));
        }
    }
    Ok(message)
}

/// Reads a body of `/api/generate`.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn generate(fields: Fields, served: &Shared, _: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let mut places = Places::default();
    read_generate(fields, served, &mut places).map_err(|problem| problem.placed(&places))
}

fn read_generate(mut fields: Fields, served: &Shared, places: &mut Places) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let stream = common(&mut fields, &["prompt", "logprobs", "top_logprobs"], places)?;
    let raw = fields.boolean("raw")?.unwrap_or_default();
    fields.only("suffix", &json!(""), "models that fill in the middle are not supported")?;
    fields.only("images", &json!([]), chat::NO_TEXT)?;
    fields.only("context", &json!([]), "deprecated: expected /api/chat")?;
    fields.only("template", &json!(""), "the template is that of the model")?;
    let prompt = fields.string("prompt")?.unwrap_or_default();
    let system = fields.string("system")?.filter(|system| !system.is_empty());
    if prompt.is_empty() {
        return Ok(load(served, stream, false));
    }
    if !raw {
        let system = system.map(|text| json!({"role": "system", "content": text}));
        let user = json!({"role": "user", "content": prompt});
        fields.put_as("messages", system.into_iter().chain([user]).collect::<Vec<_>>(), "prompt");
        let (ask, turn) = chat::read_one(fields, served)?;
        let logprobs = ask.sampling.logprobs.is_some();
        return Ok((ask, Box::new(OllamaWriter::new(served, turn, false, logprobs))));
    }
    if system.is_some() {
        return Err(Problem::field("system", "expected none with raw: true"));
    }
    let constraint = crate::constraint::constraint(&mut fields)?;
    fields.take("stream");
    chat::top_logprobs(&mut fields)?;
    let mut chosen = sampling::sampling(fields.clone(), served)?;
    if let Some((field, _)) = &constraint {
        chosen = crate::constraint::ends(field, &fields, chosen)?;
    }
    let prompts = vec![served.tokens(Prompt::Text(prompt), "prompt", &chosen)?];
    let (scheduling, prefix_cache) = (Scheduling::default(), PrefixCache::default());
    let logprobs = chosen.logprobs.is_some();
    let ask = Ask { prompts, sampling: chosen, constraint, scheduling, prefix_cache, stream, progress: false };
    Ok((ask, Box::new(OllamaWriter::new(served, plain(), false, logprobs))))
}
