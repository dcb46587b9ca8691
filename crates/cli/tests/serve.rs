//! `trine serve`: answers for clients of OpenAI's API.

mod common;

use common::server::Server;
use common::{run, trine, trine_with};
use serde_json::{Value, json};
use std::io::{Read, Write};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

fn ask(content: &str, more: Value) -> Value {
    let mut body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 12, "temperature": 0});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The content that the chunks of a stream add to a choice.
fn streamed(events: &[Value], choice: u64) -> String {
    let choices = events.iter().flat_map(|event| event["choices"].as_array().unwrap());
    let own = choices.filter(|found| found["index"] == choice);
    own.filter_map(|choice| choice["delta"]["content"].as_str().or(choice["text"].as_str())).collect()
}

#[test]
fn answers_are_those_of_run_alone_together_and_as_streams() {
    let server = Server::start(&[]);
    let prompts = ["Once upon a time", "The little dog", "Lily and Tom", "In the park", "A big red ball", "One day"];
    let alone = prompts.map(|prompt| {
        trine_with(&["run", "--temperature", "0", "--max-tokens", "12", "--json", prompt]).json()["text"].clone()
    });
    let content = |answer: &Value| answer["choices"][0]["message"]["content"].clone();
    std::thread::scope(|scope| {
        for (prompt, expected) in prompts.iter().zip(&alone) {
            let server = &server;
            scope.spawn(move || {
                let answer = server.post(CHAT, &ask(prompt, json!({}))).json();
                assert_eq!((&content(&answer), &answer["choices"][0]["finish_reason"]), (expected, &"length".into()));
                let stream = server.post(CHAT, &ask(prompt, json!({"stream": true})));
                assert_eq!(stream.headers["content-type"], "text/event-stream; charset=utf-8");
                let events = stream.events();
                // The role, an event for each token, and the end.
                assert_eq!((events.len(), streamed(&events, 0)), (14, expected.as_str().unwrap().to_owned()));
                let text = json!({"prompt": prompt, "max_tokens": 12, "temperature": 0});
                assert_eq!(&server.post(TEXT, &text).json()["choices"][0]["text"], expected);
            });
        }
    });
}

#[test]
fn options_of_requests_do_what_they_say() {
    let server = Server::start(&["--parallel", "4", "--alias", "stories"]);
    let chat = |more: Value| server.post(CHAT, &ask("Once upon a time", more));
    let usage = |events: &[Value]| events.last().unwrap()["usage"].clone();

    let first = chat(json!({"seed": 1, "temperature": 1})).json();
    assert_eq!(first["usage"]["prompt_tokens"], 5);
    assert_eq!(first["usage"]["completion_tokens"], 12);
    assert!(first["system_fingerprint"].as_str().unwrap().starts_with("fp_"));
    let again = chat(json!({"seed": 1, "temperature": 1, "n": 3})).json();
    let choices = again["choices"].as_array().unwrap();
    assert_eq!((choices.len(), &choices[0]["message"]), (3, &first["choices"][0]["message"]));

    let events = chat(json!({"stream": true, "stream_options": {"include_usage": true}, "n": 2})).events();
    assert_eq!(streamed(&events, 0), streamed(&events, 1));
    assert_eq!(usage(&events)["completion_tokens"], 24);
    assert!(events[..events.len() - 1].iter().all(|event| event["usage"].is_null()));

    let logprobs = chat(json!({"logprobs": true, "top_logprobs": 3})).json();
    let tokens = logprobs["choices"][0]["logprobs"]["content"].as_array().unwrap().clone();
    assert!(tokens.len() == 12 && tokens.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 3));
    let text: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token["bytes"].as_array().unwrap())
        .map(|byte| byte.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(String::from_utf8(text).unwrap(), logprobs["choices"][0]["message"]["content"].as_str().unwrap());

    let schema = json!({
        "type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"],
        "additionalProperties": false,
    });
    let strict = json!({"type": "json_schema", "json_schema": {"name": "age", "strict": true, "schema": schema}});
    let answer = chat(json!({"response_format": strict, "max_tokens": 60})).json();
    let content: Value = serde_json::from_str(answer["choices"][0]["message"]["content"].as_str().unwrap()).unwrap();
    assert!(content["age"].is_i64() && content.as_object().unwrap().len() == 1, "{content}");
    for (outputs, known) in [
        (json!({"structured_outputs": {"choice": ["yes", "no"]}}), &["yes", "no"][..]),
        (json!({"structured_outputs": {"regex": "(yes|no)"}}), &["yes", "no"]),
        (json!({"grammar": "root ::= \"yes\" | \"no\""}), &["yes", "no"]),
        (json!({"json_schema": {"enum": [7]}}), &["7"]),
    ] {
        let answer = chat(outputs.clone()).json();
        assert!(known.contains(&answer["choices"][0]["message"]["content"].as_str().unwrap()), "{outputs}: {answer}");
    }

    // The last message of the assistant goes on.
    let whole = chat(json!({})).json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    let begun = json!({"messages": [
        {"role": "user", "content": "Once upon a time"}, {"role": "assistant", "content": ", there was a"},
    ]});
    let rest = chat(begun).json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(whole.strip_prefix(", there was a").unwrap().starts_with(&rest[..10]), "{whole}: {rest}");

    // What lm-evaluation-harness asks.
    let scored = json!({"prompt": "Once upon a time", "max_tokens": 0, "echo": true, "logprobs": 1, "temperature": 0});
    let scored = server.post(TEXT, &scored).json();
    let choice = &scored["choices"][0];
    assert_eq!((&choice["text"], &scored["usage"]["completion_tokens"]), (&"Once upon a time".into(), &0.into()));
    let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
    assert!(logprobs.len() == 5 && logprobs[0].is_null() && logprobs[1..].iter().all(Value::is_f64), "{choice}");
    assert_eq!(choice["logprobs"]["text_offset"], json!([0, 0, 4, 9, 11]));
    let full = |tokens: usize, most: usize, more: Value| {
        let mut body = json!({"prompt": vec![300; tokens], "max_tokens": most, "echo": true, "temperature": 0});
        body.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        server.post(TEXT, &body)
    };
    // A prompt that is scored may fill the context.
    for most in [0, 1] {
        let scored = full(512, most, json!({"logprobs": 1}));
        assert_eq!(scored.status, 200, "{}", scored.text);
        let logprobs = scored.json()["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap().len();
        assert_eq!(logprobs, 512 + most);
    }
    assert_eq!(full(512, 0, json!({})).status, 200);
    let one_more = "and at least one more do not fit into the context of 512 tokens";
    for (refused, message) in [
        (full(513, 0, json!({"logprobs": 1})), "513 tokens does not fit into the context of 512 tokens"),
        (full(512, 2, json!({"logprobs": 1})), one_more),
        (full(512, 1, json!({})), one_more),
    ] {
        assert!(refused.status == 400 && refused.text.contains(message), "{}", refused.text);
    }

    let many = json!({"prompt": ["Once upon a time", [1, 2, 3], "The dog"], "n": 2, "max_tokens": 3, "temperature": 0});
    let many = server.post(TEXT, &many).json();
    let indices: Vec<u64> =
        many["choices"].as_array().unwrap().iter().map(|one| one["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3, 4, 5]);
    let ids = chat(json!({"return_token_ids": true})).json();
    assert_eq!(ids["choices"][0]["token_ids"].as_array().unwrap().len(), 12);
    assert_eq!(ids["prompt_token_ids"].as_array().unwrap().len(), 5);

    let tokens = server.post("/tokenize", &json!({"content": "Once upon a time"})).json()["tokens"].clone();
    assert_eq!(server.post("/detokenize", &json!({"tokens": tokens})).json()["content"], "Once upon a time");
    // In vLLM's words, as lm-evaluation-harness asks.
    let info = server.get("/tokenizer_info").json();
    let prompt = |fields: Value| {
        let mut body = json!({"prompt": "Once upon a time"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        server.post("/tokenize", &body).json()
    };
    assert_eq!(prompt(json!({"add_special_tokens": false}))["tokens"], tokens);
    let whole = prompt(json!({}));
    assert_eq!((&whole["count"], &whole["max_model_len"]), (&5.into(), &512.into()));
    assert_eq!(
        server.post("/detokenize", &json!({"tokens": [whole["tokens"][0]]})).json()["prompt"],
        info["bos_token"]
    );
    assert!(info["eos_token"].is_string() && info["chat_template"].is_string(), "{info}");
    let models = server.get("/v1/models").json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][0]["meta"]["chat_template"]),
        (&"stories".into(), &"plain".into())
    );
    assert_eq!(server.get("/v1/models/stories").json()["id"], "stories");
}

#[test]
fn a_stream_tells_how_far_its_prompt_is_read() {
    let server = Server::start(&["--batch", "64"]);
    let prompt = "Once upon a time there was a little dog. ".repeat(20);
    let asked = json!({"stream": true, "return_progress": true, "max_tokens": 2});
    let chat = ask(&prompt, asked.clone());
    let text = json!({"prompt": prompt, "stream": true, "return_progress": true, "max_tokens": 2});
    for (path, body, cached) in [(CHAT, &chat, false), (TEXT, &text, true)] {
        let events = server.post(path, body).events();
        let told: Vec<&Value> = events.iter().filter_map(|event| event.get("prompt_progress")).collect();
        let of = |name: &str| told.iter().map(|told| told[name].as_u64().unwrap()).collect::<Vec<_>>();
        let (processed, cache, total) = (of("processed"), of("cache"), of("total")[0]);
        assert!(total > 200 && processed.is_sorted() && processed.last() == Some(&total), "{told:?}");
        assert_eq!((cache[0] > 0, processed.len() > 3), (cached, !cached), "{told:?}");
    }
    let refused = server.post(CHAT, &ask("Hi", json!({"return_progress": true}))).json();
    assert_eq!(refused["error"]["param"], "return_progress", "{refused}");
}

#[test]
fn what_is_wrong_is_refused_by_name() {
    let server = Server::start(&["--max-body", "64KiB"]);
    let long = "word ".repeat(600);
    let deep = format!("{}1{}", "[".repeat(3000), "]".repeat(3000));
    let nested =
        |body: &str| format!("{{\"messages\": [{{\"role\": \"user\", \"content\": \"x\"}}], \"metadata\": {body}}}");
    let cases: &[(&str, String, u16, &str)] = &[
        (CHAT, ask("x", json!({"tempreature": 1})).to_string(), 400, "tempreature: there is no such field; a similar one is temperature"),
        (CHAT, ask("x", json!({"temperature": -1})).to_string(), 400, "temperature = -1: expected a number of at least 0"),
        (CHAT, ask("x", json!({"max_tokens": 0})).to_string(), 400, "max_tokens = 0"),
        (CHAT, ask("x", json!({"n": 0})).to_string(), 400, "n = 0"),
        (CHAT, ask("x", json!({"n": 300})).to_string(), 400, "n: expected at most 264 answers in all, found 300"),
        (CHAT, ask("x", json!({"temperature": "hot"})).to_string(), 400, "temperature: expected a number of at least 0"),
        (CHAT, ask("x", json!({"chat_template_kwargs": {"messages": []}})).to_string(), 400, "messages is not for a request"),
        (CHAT, ask("x", json!({"structured_outputs": {"regex": "[^\\s\\S]"}})).to_string(), 400, "no mask"),
        (CHAT, ask("x", json!({"model": "gpt-4"})).to_string(), 404, "the model `gpt-4` is not served here: expected embedded:stories"),
        (CHAT, ask("x", json!({"model": "../../etc/passwd"})).to_string(), 404, "not served here"),
        (CHAT, ask(&long, json!({})).to_string(), 400, "do not fit into the context of 512 tokens"),
        (CHAT, json!({"messages": []}).to_string(), 400, "messages: expected at least one"),
        (CHAT, json!({}).to_string(), 400, "messages: expected a list"),
        (CHAT, json!({"messages": [{"role": "king", "content": "x"}]}).to_string(), 400, "messages[0].role: expected system"),
        (CHAT, json!({"messages": [{"role": "user", "content": "x", "colour": 1}]}).to_string(), 400, "messages[0].colour"),
        (CHAT, json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}).to_string(), 400,
         "messages[0].content[0]: image_url: the model takes text alone: leave it out, or say in text what it shows"),
        (CHAT, ask("x", json!({"tools": [{"type": "web_search"}]})).to_string(), 400, "tools[0]"),
        (CHAT, ask("x", json!({"audio": {}})).to_string(), 400, "audio: answers are text"),
        (CHAT, ask("x", json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"uniqueItems": true, "type": "array"}}}})).to_string(),
         400, "uniqueItems"),
        (CHAT, ask("x", json!({"stream_options": {}})).to_string(), 400, "stream_options: expected stream: true"),
        (CHAT, nested(&deep), 400, "recursion limit"),
        (CHAT, "{".to_owned(), 400, "the body is no JSON"),
        (CHAT, "[]".to_owned(), 400, "expected an object, found a list"),
        (CHAT, "{\"messages\": \"\u{0}\"}".to_owned(), 400, "no JSON"),
        (CHAT, " ".repeat(70 << 10), 413, "expected a body of at most 65536 bytes"),
        (TEXT, json!({"prompt": [9_999_999]}).to_string(), 400, "token 9999999 is not one of the model's 2048"),
        (TEXT, json!({"prompt": ""}).to_string(), 200, ""),
        (TEXT, json!({"prompt": "x", "suffix": "y"}).to_string(), 400, "suffix"),
        (TEXT, json!({"prompt": "x", "max_tokens": 1u64 << 31}).to_string(), 200, ""),
        (TEXT, json!({"prompt": "x", "logit_bias": {"99999": 1}}).to_string(), 400, "logit_bias: token 99999"),
        ("/v1/embeddings", json!({"input": "x"}).to_string(), 400, "no model for embeddings"),
        ("/v1/nothing", json!({}).to_string(), 404, "there is no POST /v1/nothing"),
        ("/health", json!({}).to_string(), 405, "/health takes no POST"),
    ];
    for (path, body, status, message) in cases {
        let response = server.post_text(path, body);
        let shown = &body[..body.len().min(200)];
        assert_eq!(response.status, *status, "{shown}: {}", response.text);
        if *status != 200 {
            let error = &response.json()["error"];
            assert!(error["message"].as_str().unwrap().contains(message), "{shown}: {error}");
            assert!(["type", "param", "code"].iter().all(|field| error.get(field).is_some()), "{error}");
        }
    }
    let errors = server.get("/health?verbose").json()["error_rate"].clone();
    assert_eq!(errors, 0.0, "what a client does wrong is no fault of the server");
}

#[test]
fn connections_that_are_no_requests_harm_nobody() {
    let server = Server::start(&["--io-timeout", "1"]);
    let body = ask("Once upon a time", json!({})).to_string();
    let post = |headers: &str, body: &str| {
        format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n{body}").into_bytes()
    };
    let length = body.len();
    for (bytes, status) in [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01".to_vec(), "400"),
        (b"GET / HTTP/9.9\r\n\r\n".to_vec(), "400"),
        (post(&format!("content-length: {length}\r\ncontent-encoding: gzip\r\n"), &body), "400"),
        (post(&format!("content-length: {length}\r\ncontent-length: 4\r\n"), &body), "400"),
        (post(&format!("x: {}\r\ncontent-length: {length}\r\n", "x".repeat(300 << 10)), &body), "431"),
        (post("content-length: 9999\r\n", "{"), "408"),
        (post("content-length: 99999999999999\r\n", "{"), "413"),
        (post(&format!("content-length: {length}\r\n"), &body), "200"),
    ] {
        let answer = server.raw(&bytes);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{}: {answer}",
            String::from_utf8_lossy(&bytes[..160.min(bytes.len())])
        );
    }
    // Headers that never end: the connection is closed.
    let mut slow = server.connect();
    slow.write_all(b"GET /health HTTP/1.1\r\nhost: ").unwrap();
    let mut rest = Vec::new();
    let _ = slow.read_to_end(&mut rest);
    assert_eq!(server.get("/health").json()["status"], "ok");
}

#[test]
fn a_client_that_goes_away_cancels_its_request() {
    let server = Server::start(&["--parallel", "1"]);
    let endless = ask("Once upon a time", json!({"max_tokens": 500, "ignore_eos": true, "stream": true})).to_string();
    let text = format!("POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{endless}", endless.len());
    let mut streams: Vec<_> = (0..4).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(text.as_bytes()).unwrap());
    let mut begun = [0; 64];
    streams[0].read_exact(&mut begun).unwrap();
    drop(streams);
    server.wait_for("trine_num_requests_running", 0.0);
    server.wait_for("trine_num_requests_waiting", 0.0);
    server.wait_for("trine_active_requests", 1.0);
}

#[test]
fn a_server_listens_where_it_may() {
    let refused = trine_with(&["serve", "--host", "0.0.0.0"]);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("--host 0.0.0.0 lets other machines connect"), "{}", refused.err);
    let empty = trine_with(&["serve", "--host", "0.0.0.0", "--api-key", ""]);
    assert_eq!(empty.code, 2, "{}", empty.err);
    let taken = Server::start(&[]);
    let port = taken.url.rsplit(':').next().unwrap();
    let again = run(trine().args(["serve", "--port", port]), "");
    assert_eq!(again.code, 1);
    assert!(again.err.contains(&format!("cannot listen at 127.0.0.1:{port}")), "{}", again.err);
}

#[cfg(unix)]
#[test]
fn a_server_that_is_told_to_end_finishes_its_answers() {
    let mut server = Server::start(&[]);
    let long = ask("Once upon a time", json!({"max_tokens": 400, "ignore_eos": true, "stream": true})).to_string();
    let mut stream = server.connect();
    let text = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{long}",
        long.len()
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = vec![0; 256];
    stream.read_exact(&mut answer).unwrap();
    server.signal("-TERM");
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains("\"finish_reason\":\"length\"") && answer.contains("data: [DONE]"), "{answer}");
    assert_eq!(server.wait(), 0);
}

#[cfg(unix)]
#[test]
fn a_unix_socket_serves_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trine.sock");
    let server = Server::start(&["--host", &format!("unix:{}", path.display())]);
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{\"status\":\"ok\"}"), "{answer}");
    let mut server = server;
    server.signal("-TERM");
    assert_eq!((server.wait(), path.exists()), (0, false));
    // A file is in nobody's way.
    std::fs::write(&path, "precious").unwrap();
    let ran = trine_with(&["serve", "--host", &format!("unix:{}", path.display())]);
    assert!(ran.code == 1 && std::fs::read_to_string(&path).unwrap() == "precious", "{}", ran.err);
}

#[cfg(unix)]
#[test]
fn a_log_of_json_has_every_line_and_no_prompt() {
    let server = Server::start(&["--log-format", "json", "--watch-memory", "--mem-limit", "40GiB"]);
    let id = server.post(TEXT, &json!({"prompt": "A secret", "max_tokens": 1})).headers["x-request-id"].clone();
    server.signal("-USR1");
    let (mut request, mut memory) = (None, None);
    while request.is_none() || memory.is_none() {
        let line = server.line();
        assert!(!line.contains("secret"), "{line}");
        let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if event["message"] == "request" {
            assert_eq!((&event["id"], &event["status"]), (&id.to_str().unwrap().into(), &200.into()), "{line}");
            request = Some(event);
        } else if let Some(told) = event["message"].as_str().and_then(|told| told.strip_prefix("memory: ")) {
            memory = Some(serde_json::from_str::<Value>(told).unwrap());
        }
    }
    let memory = memory.unwrap();
    assert!(memory["anonymous"].as_u64() > Some(1 << 20) && memory["planned"]["kv_cache"].is_u64(), "{memory}");
    assert_eq!(memory["kv_blocks_used"], 0, "{memory}");
}

#[test]
fn log_probabilities_have_the_text_of_the_answer() {
    for model in ["embedded:stories".to_owned(), common::llama()] {
        let server = Server::start(&[&model]);
        let body =
            json!({"prompt": "Once upon a time", "max_tokens": 6, "temperature": 0, "logprobs": 2, "echo": true});
        let answer = server.post(TEXT, &body).json();
        let choice = &answer["choices"][0];
        let (logprobs, text) = (&choice["logprobs"], choice["text"].as_str().unwrap());
        let tokens = logprobs["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap());
        for (token, offset) in tokens.zip(logprobs["text_offset"].as_array().unwrap()) {
            let rest: String = text.chars().skip(offset.as_u64().unwrap() as usize).collect();
            let is_text = !token.starts_with('<') && !token.contains('\u{FFFD}');
            assert!(!is_text || rest.starts_with(token), "{model}: {token:?} at {offset} of {text:?}");
        }
    }
}

#[test]
fn an_encoder_makes_embeddings_beside_another_model() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/encoders/bert");
    let texts = ["the cat sat", "the dog ran on the mat"];
    let alone = texts.map(|text| trine_with(&["embed", golden, text]).json());
    for args in [&[golden][..], &["--embedding-model", golden, "embedded:stories"]] {
        let server = Server::start(args);
        let found = server.post("/v1/embeddings", &json!({"input": texts, "model": "bert"})).json();
        for (i, expected) in alone.iter().enumerate() {
            assert_eq!(&found["data"][i]["embedding"], expected);
        }
        let chat = server.post(CHAT, &ask("x", json!({})));
        assert_eq!(chat.status, if args.len() == 1 { 400 } else { 200 }, "{}", chat.text);
    }
}

#[test]
fn models_of_one_name_are_told_apart() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders/bert");
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("stories");
    std::os::unix::fs::symlink(golden, &link).unwrap();
    let link = link.display().to_string();
    for (alias, names) in [("stories", ["stories", "stories-embeddings"]), ("tales", ["tales", "stories"])] {
        let server = Server::start(&["--alias", alias, "--embedding-model", &link, "embedded:stories"]);
        let models = server.get("/v1/models").json();
        let listed: Vec<&str> =
            models["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
        assert_eq!(listed, names);
        let made = server.post("/v1/embeddings", &json!({"input": "a cat", "model": names[1]}));
        assert_eq!((made.status, &made.json()["model"]), (200, &names[1].into()), "{}", made.text);
        assert_eq!(server.post(CHAT, &ask("x", json!({"model": names[0]}))).status, 200);
    }
}

#[test]
fn pages_of_other_sites_may_not_ask() {
    let server = Server::start(&["--cors-origin", "https://chat.example"]);
    let body = ask("Once upon a time", json!({})).to_string();
    let with = |headers: &str| {
        let length = body.len();
        let text =
            format!("POST {CHAT} HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        server.raw(text.as_bytes())
    };
    let own = server.url.strip_prefix("http://").unwrap().to_owned();
    for (headers, status) in [
        (format!("host: {own}\r\norigin: http://{own}\r\n"), "200"),
        (format!("host: {own}\r\norigin: https://chat.example\r\n"), "200"),
        (format!("host: {own}\r\norigin: https://evil.example\r\n"), "403"),
        (format!("host: {own}\r\norigin: null\r\n"), "403"),
        ("host: evil.example\r\n".to_owned(), "403"),
        ("host: evil.example\r\norigin: http://evil.example\r\n".to_owned(), "403"),
    ] {
        let answer = with(&headers);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{headers}: {answer}");
        assert_eq!(
            answer.contains("access-control-allow-origin: https://chat.example"),
            headers.contains("chat.example")
        );
    }
    let asked = format!(
        "OPTIONS {CHAT} HTTP/1.1\r\nhost: {own}\r\norigin: https://chat.example\r\naccess-control-request-method: POST\r\n\
        access-control-request-headers: authorization\r\nconnection: close\r\n\r\n"
    );
    let answer = server.raw(asked.as_bytes());
    assert!(answer.contains("access-control-allow-headers: authorization"), "{answer}");
}

#[cfg(unix)]
#[test]
fn keys_open_every_path_but_health() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.toml").display().to_string();
    let new = |name: &str, more: &[&str]| {
        let ran = trine_with(&[&["key", "new", name, "--keys", &path], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.trim().to_owned()
    };
    let (ann, admin) = (new("ann", &["--requests-per-minute", "3"]), new("root", &["--admin"]));
    assert!(ann.starts_with("sk-") && ann.len() > 40 && !std::fs::read_to_string(&path).unwrap().contains(&ann));
    for (name, expected) in [
        ("ann", "there is a key called `ann`"),
        ("", "expected a name, found an empty one"),
        (" ", "expected a name, found an empty one"),
        ("..", "expected a name with a letter or digit, found \"..\""),
        ("../x", "expected a name of letters, digits, spaces and ._-@+, found '/' in \"../x\""),
        ("a\nb", "found '\\n' in \"a\\nb\""),
        (&"x".repeat(65), "expected a name of at most 64 letters, found 65"),
    ] {
        let ran = trine_with(&["key", "new", name, "--keys", &path]);
        assert!(ran.code == 2 && ran.err.contains(expected), "{name:?}: {}", ran.err);
    }
    let server = Server::start(&["--keys", &path, "--host", "0.0.0.0", "--isolate-keys"]);
    let url = server.url.replace("0.0.0.0", "127.0.0.1");
    let address = url.strip_prefix("http://").unwrap().to_owned();
    let send = |method: &str, route: &str, header: &str| {
        let body = if method == "POST" { ask("Once upon a time", json!({})).to_string() } else { String::new() };
        let length = body.len();
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        let text = format!(
            "{method} {route} HTTP/1.1\r\nhost: {address}\r\n{header}connection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer[9..12].parse::<u16>().unwrap(), answer)
    };
    let routes = [
        ("POST", CHAT),
        ("POST", TEXT),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("GET", "/metrics"),
        ("POST", "/tokenize"),
        ("GET", "/nothing"),
        ("POST", "/health"),
        ("GET", "/health?verbose"),
        ("GET", "/debug/memory"),
        ("POST", "/admin/keys/reload"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/responses"),
        ("POST", "/api/chat"),
        ("GET", "/api/tags"),
        ("GET", "//v1/models"),
        ("GET", "/health/../metrics"),
    ];
    for (method, route) in routes {
        for header in ["", "authorization: Bearer sk-wrong\r\n", "authorization: Basic sk\r\n", "x-api-key: \r\n"] {
            let (status, answer) = send(method, route, header);
            // The health of others needs no key, and takes nothing but GET.
            assert_eq!(status, if route == "/health" { 405 } else { 401 }, "{method} {route} {header}: {answer}");
        }
    }
    assert_eq!((send("GET", "/health", "").0, send("GET", "/ready", "").0, send("GET", "/", "").0), (200, 200, 200));
    let bearer = |key: &str| format!("authorization: Bearer {key}\r\n");
    assert_eq!(send("GET", "/debug/memory", &bearer(&ann)).0, 403);
    assert_eq!(send("GET", "/debug/memory", &bearer(&admin)).0, 200);
    assert!((0..3).all(|_| send("POST", CHAT, &format!("x-api-key: {ann}\r\n")).0 == 200));
    let (status, answer) = send("POST", CHAT, &bearer(&ann));
    assert_eq!(status, 429);
    // A third of a minute, less what the requests took.
    let retry_after = answer.lines().find_map(|line| line.strip_prefix("retry-after: ")?.trim().parse::<u64>().ok());
    assert!(retry_after.is_some_and(|seconds| (1..=20).contains(&seconds)), "{answer}");
    assert!(answer.contains("3 requests per minute"), "{answer}");
    // A key that is revoked opens nothing when the file is read again.
    assert_eq!(trine_with(&["key", "revoke", "ann", "--keys", &path]).code, 0);
    assert_eq!(send("GET", "/v1/models", &bearer(&ann)).0, 200);
    server.signal("-HUP");
    let begun = std::time::Instant::now();
    while send("GET", "/v1/models", &bearer(&ann)).0 != 401 {
        assert!(begun.elapsed() < common::server::PATIENCE);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let others: std::fs::Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, others).unwrap();
    let ran = trine_with(&["serve", "--keys", &path]);
    assert!(ran.code != 0 && ran.err.contains("expected mode 600"), "{}", ran.err);
}

#[test]
fn all_protocols_give_the_same_text() {
    let server = Server::start(&[]);
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    let text =
        server.post(CHAT, &ask("Once upon a time", json!({}))).json()["choices"][0]["message"]["content"].clone();
    let cases = [
        (
            "/v1/messages",
            json!({"messages": messages, "max_tokens": 12, "temperature": 0}),
            "/content/0/text",
            "content_block_delta",
            "/delta/text",
        ),
        (
            "/v1/messages",
            json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "Once upon a time"}]}], "max_tokens": 12, "temperature": 0}),
            "/content/0/text",
            "content_block_delta",
            "/delta/text",
        ),
        (
            "/v1/responses",
            json!({"input": "Once upon a time", "max_output_tokens": 12, "temperature": 0}),
            "/output/0/content/0/text",
            "response.output_text.delta",
            "/delta",
        ),
        (
            "/v1/responses",
            json!({"input": messages, "max_output_tokens": 12, "temperature": 0}),
            "/output/0/content/0/text",
            "response.output_text.delta",
            "/delta",
        ),
        (
            "/api/chat",
            json!({"messages": messages, "options": {"num_predict": 12, "temperature": 0}}),
            "/message/content",
            "",
            "/message/content",
        ),
        (
            "/api/generate",
            json!({"prompt": "Once upon a time", "options": {"num_predict": 12, "temperature": 0}}),
            "/response",
            "",
            "/response",
        ),
        (
            "/api/generate",
            json!({"prompt": "Once upon a time", "raw": true, "options": {"num_predict": 12, "temperature": 0}}),
            "/response",
            "",
            "/response",
        ),
    ];
    for (path, mut body, whole, event, delta) in cases {
        body["stream"] = false.into();
        let answer = server.post(path, &body);
        assert_eq!(answer.json().pointer(whole), Some(&text), "{path}: {}", answer.text);
        if path == "/v1/responses" {
            // The answer was cut.
            let answer = answer.json();
            assert_eq!([&answer["status"], &answer["output"][0]["status"]], ["incomplete"; 2], "{answer}");
            assert!(answer["completed_at"].is_null(), "{answer}");
        }
        body["stream"] = true.into();
        let answer = server.post(path, &body).text;
        let data =
            answer.lines().filter_map(|line| line.strip_prefix("data: ").or(line.starts_with('{').then_some(line)));
        let events = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
        let own = events.filter(|found| event.is_empty() || found["type"] == event);
        let joined: String = own.filter_map(|event| Some(event.pointer(delta)?.as_str()?.to_owned())).collect();
        assert_eq!(joined, text.as_str().unwrap(), "{path}: {answer}");
        // Errors have the shape of the protocol.
        body["temperature"] = "hot".into();
        body["options"] = json!({"temperature": "hot"});
        let error = server.post(path, &body);
        assert_eq!(error.status, 400, "{path}: {}", error.text);
        let message = if path.starts_with("/api/") { "/error" } else { "/error/message" };
        assert!(error.json().pointer(message).is_some_and(Value::is_string), "{path}: {}", error.text);
    }
    let count = server.post("/v1/messages/count_tokens", &json!({"messages": messages})).json();
    assert_eq!(count, json!({"input_tokens": 5}));
    for (path, body, param) in [
        ("/v1/responses", json!({"input": "x", "previous_response_id": "resp_1"}), "previous_response_id"),
        ("/v1/responses", json!({"input": "x", "tools": [{"type": "web_search"}]}), "tools[0]"),
        ("/v1/responses", json!({"input": [{"type": "image"}]}), "input[0]"),
        ("/v1/responses", json!({"input": "x", "truncation": "cut"}), "truncation"),
        // A regular expression that nothing matches is known when its first mask is.
        (CHAT, json!({"messages": messages, "structured_outputs": {"regex": "[^\\s\\S]"}}), "structured_outputs"),
    ] {
        assert_eq!(server.post(path, &body).json()["error"]["param"], param);
    }
    // What a protocol cannot tell is refused.
    for (path, body) in [
        ("/v1/messages", json!({"messages": messages, "max_tokens": 1, "n": 2})),
        ("/v1/messages", json!({"messages": messages, "max_tokens": 1, "logprobs": true})),
        ("/v1/responses", json!({"input": "x", "best_of": 2})),
        ("/api/chat", json!({"messages": messages, "options": {"n": 2}})),
        ("/api/chat", json!({"messages": messages, "options": {"num_ctx": 0}})),
        ("/api/generate", json!({"prompt": "x", "raw": true, "options": {"n": 2}})),
        ("/api/show", json!({"model": "embedded:stories", "colour": 1})),
        (CHAT, json!({"messages": messages, "prompt_logprobs": 1})),
        (TEXT, json!({"prompt": "x", "prompt_logprobs": 1})),
    ] {
        assert_eq!(server.post(path, &body).status, 400, "{path}: {body}");
    }
    let image = json!({"max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]});
    assert!(
        server.post("/v1/messages", &image).text.contains("messages[0].content[0]: image: the model takes text alone")
    );
}

#[cfg(unix)]
#[test]
fn requests_of_the_guide_are_answered() {
    let guide = include_str!("../../../docs/src/serving.md");
    let mut blocks = guide.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).peekable();
    assert!(blocks.peek().is_some());
    if std::process::Command::new("curl").arg("--version").output().is_err() {
        return println!("skipped: needs curl");
    }
    let server = Server::start(&[]);
    for line in blocks.flat_map(str::lines) {
        let line =
            line.replace("http://127.0.0.1:8080", &server.url).replace("curl ", "curl --silent --show-error --fail ");
        let ran = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        assert!(ran.status.success(), "{line}: {}", String::from_utf8_lossy(&ran.stderr));
        serde_json::from_slice::<Value>(&ran.stdout).unwrap();
    }
}

/// A template that describes tools as Hermes does, for a model with a short context.
const TOOLS: &str = r#"{%- if tools %}{% for tool in tools %}{{ tool.function.name }} {% endfor %}
{#- <tool_call> {"name": <function-name>, "arguments": <args-json-object>} </tool_call> #}{% endif %}
{%- for m in messages %}{{ m.content + "" }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}"#;

#[test]
fn calls_of_tools_keep_to_their_schemas_in_every_protocol() {
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("tools.jinja");
    std::fs::write(&template, TOOLS).unwrap();
    let server = Server::start(&["--template", &template.display().to_string()]);
    let schema = json!({
        "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}, "days": {"type": "integer", "maximum": 9}},
        "required": ["city", "days"], "additionalProperties": false,
    });
    let check = |arguments: &Value| {
        assert!(["Oslo", "Rome"].contains(&arguments["city"].as_str().unwrap()), "{arguments}");
        assert!(arguments["days"].as_i64().unwrap() <= 9, "{arguments}");
    };
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let tools = json!([
        {"type": "function", "function": {"name": "weather", "parameters": schema, "strict": true}},
        {"type": "function", "function": {"name": "now"}},
    ]);
    let named = json!({"type": "function", "function": {"name": "weather"}});
    let more = json!({"tools": tools, "tool_choice": named, "max_tokens": 400, "parallel_tool_calls": false, "logprobs": true});
    let answer = server.post(CHAT, &ask("Once upon a time", more.clone())).json();
    let choice = &answer["choices"][0];
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!(
        (&choice["finish_reason"], &choice["message"]["content"]),
        (&"tool_calls".into(), &Value::Null),
        "{answer}"
    );
    assert_eq!((&call["type"], &call["function"]["name"]), (&"function".into(), &"weather".into()));
    check(&parse(call["function"]["arguments"].as_str().unwrap()));

    // A call that a stop string cuts off is none.
    let mut stopped = more.clone();
    stopped["stop"] = json!(["slo", "ome"]);
    let answer = server.post(CHAT, &ask("Once upon a time", stopped)).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "stop", "{answer}");

    let mut streaming = ask("Once upon a time", more);
    streaming["stream"] = true.into();
    let events = server.post(CHAT, &streaming).events();
    let deltas: Vec<&Value> = events.iter().map(|event| &event["choices"][0]["delta"]).collect();
    let calls: Vec<&Value> = deltas.iter().filter_map(|delta| delta["tool_calls"].as_array()).flatten().collect();
    let arguments: String = calls.iter().filter_map(|call| call["function"]["arguments"].as_str()).collect();
    assert_eq!(arguments, call["function"]["arguments"].as_str().unwrap());
    assert_eq!(calls[0]["function"]["name"], "weather");
    assert!(
        deltas.iter().all(|delta| delta["content"].as_str().is_none_or(str::is_empty)),
        "no marker leaks: {deltas:?}"
    );

    let own = json!({
        "max_tokens": 400, "temperature": 0, "messages": [{"role": "user", "content": "Once upon a time"}],
        "tools": [{"name": "weather", "input_schema": schema}], "tool_choice": {"type": "tool", "name": "weather"},
    });
    let answer = server.post("/v1/messages", &own).json();
    assert_eq!(
        (&answer["stop_reason"], &answer["content"][0]["type"]),
        (&"tool_use".into(), &"tool_use".into()),
        "{answer}"
    );
    check(&answer["content"][0]["input"]);
    let own = json!({
        "max_output_tokens": 400, "temperature": 0, "input": "Once upon a time",
        "tools": [{"type": "function", "name": "weather", "parameters": schema}], "tool_choice": {"type": "function", "name": "weather"},
    });
    let answer = server.post("/v1/responses", &own).json();
    assert_eq!(answer["output"][0]["type"], "function_call", "{answer}");
    check(&parse(answer["output"][0]["arguments"].as_str().unwrap()));

    // What the tool gave goes back, and the conversation goes on.
    let conversation = json!([
        {"role": "user", "content": "Once upon a time"},
        {"role": "assistant", "content": null, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": "rain"},
    ]);
    let rest = server.post(CHAT, &json!({"messages": conversation, "tools": tools, "max_tokens": 8, "temperature": 0}));
    assert_eq!(rest.status, 200, "{}", rest.text);
    // Clients send back what they got, with both names of thoughts.
    let thought = json!([
        {"role": "user", "content": "Once"},
        {"role": "assistant", "content": "x", "reasoning": "r", "reasoning_content": "r"},
        {"role": "user", "content": "upon"},
    ]);
    assert_eq!(server.post(CHAT, &json!({"messages": thought, "max_tokens": 1})).status, 200);
    let capabilities = server.get("/v1/models").json()["data"][0]["meta"]["capabilities"].clone();
    assert_eq!(capabilities, json!(["completion", "tools"]));
    for (more, message) in [
        (
            json!({"tools": tools, "tool_choice": {"type": "function", "function": {"name": "later"}}}),
            "no tool is called",
        ),
        (json!({"tool_choice": "required"}), "expected tools to choose from"),
        (json!({"tools": [tools[0], tools[0]]}), "an earlier tool is called"),
        (json!({"tools": [{"type": "function", "function": {"name": "a b"}}]}), "expected a function whose name"),
    ] {
        let refused = server.post(CHAT, &ask("x", more));
        assert!(refused.status == 400 && refused.text.contains(message), "{message}: {}", refused.text);
    }
    // A template that describes no tools has none.
    let plain = Server::start(&[]);
    let refused = plain.post(CHAT, &ask("x", json!({"tools": tools})));
    assert!(refused.status == 400 && refused.text.contains("does not describe tools"), "{}", refused.text);
}
