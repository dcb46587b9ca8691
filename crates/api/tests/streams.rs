//! What the chunks of a stream say beside the text.

mod common;

use common::{fields, plain, served, with};
use serde_json::{Value, json};
use std::time::Duration;
use trine_api::{Event, Writer, ollama, openai};
use trine_engine::{FinishReason, PromptProgress, Timing, Token, Update, Usage};

fn token() -> Update {
    Update::Token(Token { id: 5, text: "a".to_owned(), logprob: None, top: Vec::new() })
}

fn finished(prompt_tokens: usize, cached_tokens: usize, completion_tokens: usize) -> Update {
    let timing = Timing { submitted: Duration::ZERO, started: None, first_token: None, finished: Duration::ZERO };
    let usage = Usage { prompt_tokens, cached_tokens, completion_tokens };
    Update::Finished { text: String::new(), finish_reason: FinishReason::EndToken, usage, timing }
}

/// The tokens of prompts, those of answers, and both, in the usage of chunks.
fn usage(events: &[Event]) -> Vec<[u64; 3]> {
    let usage = |event: &Event| {
        let chunk: Value = serde_json::from_str(&event.data).ok()?;
        Some(["prompt_tokens", "completion_tokens", "total_tokens"].map(|name| chunk["usage"][name].as_u64().unwrap()))
    };
    events.iter().filter_map(usage).collect()
}

/// What the chunks of a stream with two answers to each prompt tell; the first answer has an end token that no chunk has.
fn told(mut writer: Box<dyn Writer>, prompts: &[usize]) -> Vec<[u64; 3]> {
    let mut events = writer.begin();
    for (i, &prompt) in prompts.iter().enumerate() {
        let (first, second) = (2 * i, 2 * i + 1);
        for (index, update) in [
            (first, token()),
            (second, token()),
            (second, token()),
            (first, finished(prompt, 1, 2)),
            (second, finished(prompt, prompt, 2)),
        ] {
            events.extend(writer.update(index, update));
        }
    }
    events.extend(writer.end());
    usage(&events)
}

#[test]
fn each_chunk_tells_the_tokens_so_far() {
    let served = plain();
    let more =
        json!({"stream": true, "n": 2, "stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    let with = |name: &str, value: Value| {
        let mut body = more.clone();
        body[name] = value;
        fields(&body)
    };
    let (ask, writer) =
        openai::chat(with("messages", json!([{"role": "user", "content": "Hi"}])), &served, "1").unwrap();
    let prompt = ask.prompts[0].len();
    let so_far = |prompt: usize, tokens: &[usize]| {
        let usage = |&tokens: &usize| [prompt, tokens, prompt + tokens].map(|tokens| tokens as u64);
        tokens.iter().map(usage).collect::<Vec<_>>()
    };
    // Each answer begins with a chunk of its role, and one at the end has the usage alone.
    assert_eq!(told(writer, &[prompt]), so_far(prompt, &[0, 1, 1, 2, 3, 4, 4, 4]));
    let (ask, writer) = openai::completion(with("prompt", json!(["Hi", "Once upon a time"])), &served, "1").unwrap();
    let prompts = ask.prompts.iter().map(Vec::len).collect::<Vec<_>>();
    let expected = so_far(prompts.iter().sum(), &[1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 8]);
    assert_eq!(told(writer, &prompts), expected);
}

#[test]
fn each_chunk_tells_what_was_cached() {
    let served = plain();
    let more = json!({"stream": true, "stream_options": {"continuous_usage_stats": true}});
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let text = json!({"prompt": "Hi"});
    let timed = with(&more, &json!({"timings_per_token": true}));
    for read in [
        openai::chat(fields(&with(&chat, &timed)), &served, "1"),
        openai::completion(fields(&with(&text, &timed)), &served, "1"),
    ] {
        let (ask, mut writer) = read.unwrap();
        assert!(ask.progress);
        let progress =
            PromptProgress { processed_tokens: 40, cached_tokens: 32, prompt_tokens: 40, ..Default::default() };
        let updates = [Update::Progress(progress), token(), finished(40, 32, 1)];
        let mut events = writer.begin();
        events.extend(updates.into_iter().flat_map(|update| writer.update(0, update)));
        for Event { data, .. } in &events {
            let chunk: Value = serde_json::from_str(data).unwrap();
            assert_eq!(chunk["usage"]["prompt_tokens_details"]["cached_tokens"], 32, "{chunk}");
            assert!(chunk.get("prompt_progress").is_none(), "{chunk}");
            assert_eq!(chunk["timings"]["cache_n"], 32, "{chunk}");
        }
        assert!(events.len() >= 2);
    }
}

#[test]
fn a_chunk_has_a_call_once() {
    let served = served(
        "{% for m in messages %}{{ m.content }}{% endfor %}{# <tool_call> {\"name\": <function-name>, \"arguments\": <args-json-object>} </tool_call> #}",
    );
    let tools = json!([{"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}]);
    let body = json!({"messages": [{"role": "user", "content": "Hi"}], "tools": tools, "stream": true});
    let (_, mut writer) = openai::chat(fields(&body), &served, "1").unwrap();
    let call = |zone: &str| format!(r#"<tool_call>{{"name": "now", "arguments": {{"zone": "{zone}"}}}}</tool_call>"#);
    let text = call("UTC") + &call("CET");
    let (first, rest) = text.split_at(60);
    let mut whole = [String::new(), String::new()];
    for text in [first, rest] {
        let token = Token { id: 5, text: text.to_owned(), logprob: None, top: Vec::new() };
        for event in writer.update(0, Update::Token(token)) {
            let chunk: Value = serde_json::from_str(&event.data).unwrap();
            let calls = chunk["choices"][0]["delta"]["tool_calls"].as_array().cloned().unwrap_or_default();
            let indices: Vec<usize> = calls.iter().map(|call| call["index"].as_u64().unwrap() as usize).collect();
            assert!(indices.is_sorted_by(|a, b| a < b), "{chunk}");
            for (index, call) in indices.iter().zip(&calls) {
                whole[*index] += call["function"]["arguments"].as_str().unwrap();
            }
        }
    }
    let zones = whole.map(|text| serde_json::from_str::<Value>(&text).unwrap()["zone"].clone());
    assert_eq!(zones, ["UTC", "CET"]);
}

#[test]
fn a_sign_of_life_is_what_clients_take() {
    let served = plain();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let bodies = [(true, json!({"messages": messages})), (false, json!({"prompt": "Hi"}))];
    for (is_chat, body) in bodies {
        let read = if is_chat { ollama::chat } else { ollama::generate };
        let (_, mut writer) = read(fields(&body), &served, "1").unwrap();
        let line: Value = serde_json::from_str(&writer.ping().data).unwrap();
        let text = if is_chat { &line["message"]["content"] } else { &line["response"] };
        assert_eq!((text, &line["done"], &line["model"]), (&"".into(), &false.into(), &"stories".into()), "{line}");
    }
}
