//! Ollama's API, for the model that is served.

use crate::chat::{self, CallIds, Delta, Turn};
use crate::fields::shown;
use crate::form::{self, Form};
use crate::openai::{Shared, logprobs};
use crate::{Ask, Event, Fields, Framing, Problem, Writer, sampling};
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::time::Duration;
use trine_engine::{Choice, FinishReason, PrefixCache, Prompt, Scheduling, Timing, Token, Update, Usage};
use trine_text::ChatFormat;

/// Options that say how Ollama runs a model, which is settled when a server starts.
const OF_THE_RUNNER: form::Fields = &[
    ("num_gpu", Form::Only(&["-1", "0"], "models run on the CPU")),
    ("main_gpu", Form::Only(&["0"], "models run on the CPU")),
    // It changes no answer: --threads of the server sets it.
    ("num_thread", Form::Whole(0)),
    // A prompt has the context that --context sets, and one that is too long is refused.
    ("num_ctx", Form::Whole(1)),
    ("num_batch", Form::Whole(1)),
    ("draft_num_predict", Form::Whole(-1)),
    ("embedding_only", Form::Only(&["false"], "the model answers, too")),
    ("rope_frequency_base", Form::Only(&["0"], "the model's file says it")),
    ("rope_frequency_scale", Form::Only(&["0"], "the model's file says it")),
    // Nothing is shifted out of a context, of which some would be kept.
    ("num_keep", Form::Whole(-1)),
    ("num_gqa", Form::Whole(0)),
    ("use_mmap", Form::Flag),
    ("use_mlock", Form::Flag),
    ("numa", Form::Flag),
    ("low_vram", Form::Flag),
    ("vocab_only", Form::Only(&["false"], "the model is loaded already")),
    ("f16_kv", Form::Flag),
    ("logits_all", Form::Flag),
];

/// Sampling options that Ollama no longer has, with what changes nothing.
const FORMER: &[(&str, &str)] = &[("tfs_z", "1"), ("penalize_newline", "true")];

/// Names of options that have another one in this API.
const OTHER_NAMES: &[(&str, &str)] =
    &[("max_tokens", "num_predict"), ("n_predict", "num_predict"), ("repetition_penalty", "repeat_penalty")];

/// Options for several answers, which this API does not tell, or their log probabilities, which have their own fields.
const OF_MANY: &[&str] = &["n", "best_of", "logprobs", "prompt_logprobs"];

/// The time as RFC 3339 writes it.
pub fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).unwrap_or_default()
}

/// What both endpoints take: sampling options in an object, the format of the answer, and whether the model thinks. `own` are the fields
/// that OpenAI has, too.
fn common(fields: &mut Fields, own: &[&str]) -> Result<bool, Problem> {
    fields.take("model");
    keep_alive(fields)?;
    // A prompt that is too long is refused, and an answer ends with the context: nothing is cut or shifted, as if it had room.
    for name in ["truncate", "shift"] {
        fields.boolean(name)?;
    }
    chat::refuse_foreign(fields, own)?;
    if let Some(name) = fields.names().find(|name| *name != "logprobs" && sampling::is_option(name)) {
        return Err(Problem::field(name, "expected it in options"));
    }
    // Ollama streams unless told otherwise.
    let stream = fields.boolean("stream")?.unwrap_or(true);
    fields.put("stream", stream);
    let mut options = Fields::from(fields.object("options")?.unwrap_or_default());
    options.pass(OF_THE_RUNNER).map_err(|problem| problem.within("options"))?;
    for (name, value) in options.rest() {
        if FORMER.contains(&(name.as_str(), value.to_string().as_str())) {
            continue;
        }
        if fields.has(&name) {
            return Err(Problem::field("options", format_args!("{name} is there twice")));
        }
        if let Some((_, own)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
            return Err(Problem::field("options", format_args!("{name}: there is no such option: expected {own}")));
        }
        if sampling::is_option(&name) && !OF_MANY.contains(&name.as_str()) {
            fields.put(&name, value);
        } else {
            return Err(Problem::field("options", format_args!("{name}: there is no such option")));
        }
    }
    // Without end, and to the end of the context, are the same here; 0 is none in Ollama.
    fields.take_if("num_predict", |most| [json!(0), json!(-1), json!(-2)].contains(most));
    if let Some(most) = fields.get("num_predict").filter(|most| most.as_i64().is_some_and(|most| most < 0)) {
        let expected = "expected a number of tokens, -1 for no limit, or -2 to fill the context";
        return Err(Problem::field("num_predict", format_args!("{expected}, found {most}")));
    }
    match fields.take("format") {
        None => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(Value::String(text)) if text == "json" => {
            fields.put_as("response_format", json!({"type": "json_object"}), "format");
        }
        Some(schema) if schema.is_object() => fields.put_new("json_schema", schema, "format")?,
        Some(_) => return Err(Problem::field("format", "expected \"json\" or a JSON Schema")),
    }
    match fields.take("think") {
        None => {}
        Some(Value::Bool(thinks)) => {
            let variables = json!({"enable_thinking": thinks, "thinking": thinks});
            fields.put_new("chat_template_kwargs", variables, "think")?;
        }
        Some(effort) => fields.put_as("reasoning_effort", effort, "think"),
    }
    Ok(stream)
}

/// Takes `keep_alive`: the model is always kept.
///
/// # Errors
/// When it is no time.
pub fn keep_alive(fields: &mut Fields) -> Result<(), Problem> {
    let is_time = |value: &Value| value.is_number() || value.as_str().is_some_and(is_duration);
    match fields.take("keep_alive").filter(|found| !is_time(found)) {
        Some(found) => {
            let expected = "expected a duration such as \"5m\", or a number of seconds";
            Err(Problem::field("keep_alive", format_args!("{expected}, found {}", shown(&found))))
        }
        None => Ok(()),
    }
}

/// Whether a text is a duration of Go's, such as `1h30m`, or a number of seconds.
fn is_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest.parse::<u64>().is_ok() {
        return true;
    }
    loop {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let unit = rest[number..].find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len() - number);
        if rest[..number].parse::<f64>().is_err() || !UNITS.contains(&&rest[number..number + unit]) {
            return false;
        }
        rest = &rest[number + unit..];
        if rest.is_empty() {
            return true;
        }
    }
}

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
pub fn chat(mut fields: Fields, served: &Shared, _: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let stream = common(&mut fields, &["messages", "tools", "logprobs", "top_logprobs"])?;
    let list = fields.list("messages")?.unwrap_or_default();
    if list.is_empty() {
        return Ok(load(served, stream, true));
    }
    let mut ids = Ids::default();
    let translate = |(i, message): (usize, Value)| message_of(message, &format!("messages[{i}]"), &mut ids);
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
fn message_of(mut message: Value, place: &str, ids: &mut Ids) -> Result<Value, Problem> {
    let Some(fields) = message.as_object_mut() else { return Ok(message) };
    ids.add(fields);
    // A message without content is one with an empty text.
    let content = fields.entry("content").or_insert(Value::Null);
    if content.is_null() {
        *content = "".into();
    }
    let none = [Value::Null, json!([])];
    if fields.remove("images").is_some_and(|images| !none.contains(&images)) {
        return Err(Problem::field(&format!("{place}.images"), "the model reads text alone"));
    }
    if let Some(thoughts) = fields.remove("thinking") {
        fields.insert("reasoning_content".to_owned(), thoughts);
    }
    if let Some(name) = fields.remove("tool_name") {
        fields.insert("name".to_owned(), name);
    }
    Ok(message)
}

/// Reads a body of `/api/generate`.
///
/// # Errors
/// With the field that is wrong or not known.
pub fn generate(mut fields: Fields, served: &Shared, _: &str) -> Result<(Ask, Box<dyn Writer>), Problem> {
    let stream = common(&mut fields, &["prompt", "logprobs", "top_logprobs"])?;
    let raw = fields.boolean("raw")?.unwrap_or_default();
    fields.only("suffix", &json!(""), "models that fill in the middle are not supported")?;
    fields.only("images", &json!([]), "the model reads text alone")?;
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
    let mut chosen = sampling::sampling(fields.clone(), &served.sampling)?;
    if let Some((field, _)) = &constraint {
        chosen = crate::constraint::ends(field, &fields, chosen)?;
    }
    let prompts = vec![served.tokens(Prompt::Text(prompt), "prompt", &chosen)?];
    let (scheduling, prefix_cache) = (Scheduling::default(), PrefixCache::default());
    let logprobs = chosen.logprobs.is_some();
    let ask = Ask { prompts, sampling: chosen, constraint, scheduling, prefix_cache, stream, progress: false };
    Ok((ask, Box::new(OllamaWriter::new(served, plain(), false, logprobs))))
}

struct OllamaWriter {
    served: Shared,
    turn: Turn,
    /// Whether answers are messages, not texts.
    chat: bool,
    logprobs: bool,
    end: Option<(String, Usage, Timing)>,
    /// Calls that are not whole yet: name and arguments.
    calls: Vec<(String, String)>,
}

impl OllamaWriter {
    fn new(served: &Shared, turn: Turn, chat: bool, logprobs: bool) -> OllamaWriter {
        OllamaWriter { served: served.clone(), turn, chat, logprobs, end: None, calls: Vec::new() }
    }

    /// Adds the log probabilities of tokens to a line, if they are to be told.
    fn tell(&self, line: &mut Value, tokens: &[Token]) {
        if self.logprobs {
            line["logprobs"] = logprobs::chat(&self.served.tokenizer, tokens)["content"].take();
        }
    }

    /// A line with what deltas add. Calls are told when they are whole, at the end.
    fn line(&mut self, deltas: Vec<Delta>, ended: bool) -> Value {
        let (mut content, mut thoughts) = (String::new(), String::new());
        for delta in deltas {
            match delta {
                Delta::Content(text) => content.push_str(&text),
                Delta::Reasoning(text) => thoughts.push_str(&text),
                Delta::ToolCall { name, .. } => self.calls.push((name, String::new())),
                Delta::Arguments { index, text } => self.calls[index].1.push_str(&text),
            }
        }
        let mut line = Map::new();
        line.insert("model".to_owned(), self.served.name.as_str().into());
        line.insert("created_at".to_owned(), time(crate::openai::now()).into());
        if self.chat {
            let mut message = json!({"role": "assistant", "content": content});
            if !thoughts.is_empty() {
                message["thinking"] = thoughts.into();
            }
            if ended && !self.calls.is_empty() {
                let call = |(name, arguments): &(String, String)| json!({"function": {"name": name, "arguments": chat::arguments(arguments)}});
                message["tool_calls"] = self.calls.iter().map(call).collect();
            }
            line.insert("message".to_owned(), message);
        } else {
            line.insert("response".to_owned(), content.into());
            if !thoughts.is_empty() {
                line.insert("thinking".to_owned(), thoughts.into());
            }
        }
        line.insert("done".to_owned(), ended.into());
        Value::Object(line)
    }

    /// The last line, with what the answer took, if there is one.
    fn last(&mut self, deltas: Vec<Delta>) -> Value {
        let mut line = self.line(deltas, true);
        line["done_reason"] = "load".into();
        if let Some((reason, usage, timing)) = &self.end {
            let started = timing.started.unwrap_or(timing.submitted);
            let first = timing.first_token.unwrap_or(timing.finished);
            let nanoseconds = |from: Duration, to: Duration| to.saturating_sub(from).as_nanos() as u64;
            line["done_reason"] = reason.as_str().into();
            line["total_duration"] = nanoseconds(timing.submitted, timing.finished).into();
            line["load_duration"] = 0.into();
            line["prompt_eval_count"] = usage.prompt_tokens.into();
            line["prompt_eval_duration"] = nanoseconds(started, first).into();
            line["eval_count"] = usage.completion_tokens.into();
            line["eval_duration"] = nanoseconds(first, timing.finished).into();
        }
        line
    }

    fn ended(&mut self, reason: &FinishReason, usage: Usage, timing: Timing) {
        self.end = Some((reason.name().to_owned(), usage, timing));
    }
}

impl Writer for OllamaWriter {
    fn framing(&self) -> Framing {
        Framing::Lines
    }

    fn update(&mut self, _: usize, update: Update) -> Vec<Event> {
        match update {
            Update::Progress(_) | Update::Prompt(_) => Vec::new(),
            Update::Token(token) => {
                let deltas = self.turn.push(&token.text);
                let mut line = self.line(deltas, false);
                self.tell(&mut line, &[token]);
                vec![Event::new(&line)]
            }
            Update::Finished { text, finish_reason, usage, timing } => {
                let deltas = self.turn.rest(&text, &finish_reason);
                self.ended(&finish_reason, usage, timing);
                vec![Event::new(&self.last(deltas))]
            }
        }
    }

    fn end(&mut self) -> Vec<Event> {
        match self.end {
            Some(_) => Vec::new(),
            None => vec![Event::new(&self.last(Vec::new()))],
        }
    }

    fn fail(&mut self, problem: &Problem) -> Vec<Event> {
        vec![Event::new(&self::problem(problem))]
    }

    /// A line without text: this protocol has no comments.
    fn ping(&mut self) -> Event {
        Event::new(&self.line(Vec::new(), false))
    }

    fn whole(&mut self, choices: Vec<Choice>) -> Value {
        let mut deltas = Vec::new();
        for choice in &choices {
            deltas.extend(self.turn.whole(choice));
            self.ended(&choice.finish_reason, choice.usage, choice.timing);
        }
        let mut line = self.last(deltas);
        let tokens = choices.into_iter().flat_map(|choice| choice.tokens);
        self.tell(&mut line, &tokens.collect::<Vec<Token>>());
        line
    }

    fn problem(&self, problem: &Problem) -> Value {
        self::problem(problem)
    }
}

/// The body of a problem.
pub fn problem(problem: &Problem) -> Value {
    json!({"error": problem.message})
}
