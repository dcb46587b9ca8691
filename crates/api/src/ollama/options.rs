//! What all bodies take beside their prompt.

use crate::fields::shown;
use crate::form::{self, Form};
use crate::{Fields, Problem, chat, sampling};
use serde_json::{Value, json};

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

/// Places in the words of OpenAI, and those in the body.
pub type Places = Vec<(String, String)>;

/// What both endpoints take: sampling options in an object, the format of the answer, and whether the model thinks; whether it is a stream.
/// `own` are the fields that OpenAI has, too.
pub fn common(fields: &mut Fields, own: &[&str], places: &mut Places) -> Result<bool, Problem> {
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
        let place = format!("options.{name}");
        if fields.has(&name) {
            return Err(Problem::field(&place, format_args!("{name} is there twice")));
        }
        if let Some((_, own)) = OTHER_NAMES.iter().find(|(other, _)| *other == name) {
            return Err(Problem::field(&place, format_args!("there is no such option: expected {own}")));
        }
        if !sampling::is_option(&name) || OF_MANY.contains(&name.as_str()) {
            return Err(Problem::field(&place, "there is no such option"));
        }
        fields.put(&name, value);
        places.push((name, place));
    }
    // Without end, and to the end of the context, are the same here; 0 is none in Ollama.
    fields.take_if("num_predict", |most| [json!(0), json!(-1), json!(-2)].contains(most));
    if let Some(most) = fields.get("num_predict").filter(|most| most.as_u64().is_none()) {
        let expected = "expected a whole number of tokens, -1 for no limit, or -2 to fill the context";
        return Err(Problem::field("num_predict", format_args!("{expected}, found {}", shown(most))));
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
