//! OpenAI's API.

mod chat;
mod completion;
mod embedding;
mod functions;
mod head;
pub(crate) mod logprobs;

pub(crate) use chat::rendered;
pub use chat::{apply_template, chat};
pub use completion::completion;
pub use embedding::{EmbeddingAsk, embedding, embeddings};
pub(crate) use head::finish_stream_options;
pub use head::{Shared, new_id, now};

use crate::form::{self, Form};
use crate::{Event, Fields, Problem};
use head::{Head, StreamOptions, Timings, Total};
use serde_json::{Value, json};
use trine_engine::PromptProgress;

/// Fields that say who asks, and change no answer.
const OF_THE_CALLER: form::Fields = &[
    ("user", Form::Text),
    ("metadata", Form::Metadata),
    ("store", Form::Flag),
    ("service_tier", Form::Word(&["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"])),
    ("safety_identifier", Form::Text),
    ("prompt_cache_key", Form::Text),
    ("prompt_cache_retention", Form::Word(&["in_memory", "in-memory", "24h"])),
    ("prompt_cache_options", PROMPT_CACHE),
];

/// Prompts are cached with marks and without.
const PROMPT_CACHE: Form = Form::Object(&[("ttl", Form::Text), ("mode", Form::Word(&["implicit", "explicit"]))]);

/// Fields of llama-server's and vLLM's with what holds anyway.
const OF_OTHERS: form::Fields = &[
    ("use_beam_search", Form::Only(&["false"], "there is no beam search")),
    ("length_penalty", Form::Only(&["1"], "there is no beam search")),
    ("early_stopping", Form::Only(&["false"], "there is no beam search")),
    ("spaces_between_special_tokens", Form::Only(&["true"], "texts of tokens are as they are")),
    ("n_probs", Form::Only(&["0"], "expected logprobs")),
    ("id_slot", Form::Only(&["-1"], "a request has the next place that is free")),
    ("lora", Form::Only(&["[]"], "the server has no adapters to choose from")),
    ("reasoning_format", Form::Only(&["\"auto\"", "\"deepseek\""], "thoughts are given apart from the answer")),
    ("include_reasoning", Form::Only(&["true"], "thoughts are given as they are")),
    ("return_tokens_as_token_ids", Form::Only(&["false"], "expected return_token_ids")),
    ("return_tokens", Form::Only(&["false"], "expected return_token_ids")),
    ("detokenize", Form::Only(&["true"], "answers are text")),
    ("n_indent", Form::Only(&["0"], "the text may have any indentation")),
    ("n_keep", Form::Whole(-1)),
    ("n_discard", Form::Only(&["0"], "nothing is shifted out of the context")),
    ("t_max_predict_ms", Form::Only(&["0"], "expected timeout, in seconds")),
    ("response_fields", Form::Only(&["[]"], "an answer has all its fields")),
    ("backend_sampling", Form::Only(&["false"], "the server samples")),
    ("tfs_z", Form::Only(&["1"], "there is no tail-free sampling")),
    ("post_sampling_probs", Form::Only(&["false"], "log probabilities are the model's")),
    ("include_stop_str_in_output", Form::Only(&["false"], "answers end before the text that stops them")),
    ("mm_processor_kwargs", Form::Only(&["{}"], "the model takes text alone")),
    ("vllm_xargs", Form::Only(&["{}"], "there are no other options")),
    ("kv_transfer_params", Form::Only(&["{}"], "no keys and values come from other servers")),
    ("speculative.n_max", Form::Only(&["0"], "options of the server say how it speculates")),
];

/// Fields of all APIs of OpenAI's that are known, and not supported.
const REFUSED: &[(&str, &str)] =
    &[("moderation", "no model here moderates"), ("context_management", "a prompt is never cut or compacted")];

/// Takes the fields of all bodies that change nothing.
///
/// # Errors
/// When one is not what it should be, or another is known and not supported.
pub(crate) fn common(fields: &mut Fields) -> Result<(), Problem> {
    fields.take("model");
    fields.refuse(REFUSED)?;
    fields.pass(OF_THE_CALLER)?;
    fields.pass(OF_OTHERS)
}

/// The id of an answer, which a request may say in vLLM's words.
///
/// # Errors
/// When it is none that a log or a URL could have.
pub(crate) fn answer_id(fields: &mut Fields, id: &str) -> Result<String, Problem> {
    let fits = |id: &String| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    match fields.string("request_id")? {
        Some(id) if !fits(&id) => {
            Err(Problem::field("request_id", "expected 1 to 128 letters, digits and signs of ASCII, without spaces"))
        }
        own => Ok(own.unwrap_or_else(|| id.to_owned())),
    }
}

/// A chunk of a stream with this choice.
fn chunk(head: &Head, options: StreamOptions, choice: Value, timings: &Timings, total: &Total) -> Event {
    let mut chunk = head.with(vec![choice]);
    if options.timings {
        chunk["timings"] = timings.to_json();
    }
    if options.include_usage || options.continuous_usage {
        chunk["usage"] = if options.continuous_usage { total.to_json() } else { Value::Null };
    }
    Event::new(&chunk)
}

/// A chunk that tells how far a prompt is read, with llama-server's field.
fn progress(head: &Head, choice: Value, progress: PromptProgress) -> Event {
    let mut chunk = head.with(vec![choice]);
    chunk["prompt_progress"] = json!({
        "total": progress.prompt_tokens,
        "cache": progress.cached_tokens,
        "processed": progress.processed_tokens,
        "time_ms": progress.time.as_millis() as u64,
    });
    Event::new(&chunk)
}

/// The end of a stream.
fn end(head: &Head, options: StreamOptions, total: &Total) -> Vec<Event> {
    let mut events = Vec::new();
    if options.include_usage {
        let mut last = head.with(Vec::new());
        last["usage"] = total.to_json();
        events.push(Event::new(&last));
    }
    events.push(Event { name: None, data: "[DONE]".to_owned() });
    events
}

/// The end of a stream that fails.
fn fail(problem: &Problem) -> Vec<Event> {
    vec![Event::new(&problem.openai())]
}
