//! What bodies of each protocol may say, and what they mean.

mod common;

use common::{fields, message, plain, served, with};
use serde_json::{Value, json};
use trine_api::openai::Shared;
use trine_api::{Ask, Fields, Problem, Stop, Writer, anthropic, ollama, openai, responses, tokens};
use trine_engine::{Choice, FinishReason};
use trine_grammar::{Constraint, ToolChoice};

type Read = fn(Fields, &Shared, &str) -> Result<(Ask, Box<dyn Writer>), Problem>;

#[test]
fn a_protocol_takes_no_field_of_another() {
    let served = plain();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let protocols: &[(Read, Value, &[&str])] = &[
        (anthropic::messages, json!({"messages": messages, "max_tokens": 5}), &["messages", "max_tokens", "tools"]),
        (responses::response, json!({"input": "Hi", "max_output_tokens": 5}), &["tools", "top_logprobs", "prompt"]),
        (ollama::chat, json!({"messages": messages}), &["messages", "tools", "logprobs", "top_logprobs"]),
        (ollama::generate, json!({"prompt": "Hi"}), &["prompt", "logprobs", "top_logprobs"]),
    ];
    let foreign = [
        ("messages", messages.clone()),
        ("max_tokens", json!(3)),
        ("max_completion_tokens", json!(3)),
        ("stop", json!("x")),
        ("n", json!(1)),
        ("best_of", json!(1)),
        ("logprobs", json!(true)),
        ("top_logprobs", json!(2)),
        ("response_format", json!({"type": "json_object"})),
        ("reasoning_effort", json!("low")),
        ("prompt", json!("Hello")),
        ("tools", json!([])),
    ];
    for (read, body, own) in protocols {
        assert_eq!(message(read(fields(body), &served, "1")), "", "{body}");
        for (name, value) in foreign.iter().filter(|(name, _)| !own.contains(name)) {
            let refused = message(read(fields(&with(body, &json!({*name: value}))), &served, "1"));
            assert!(refused.starts_with(&format!("{name}: ")), "{name}: {body}: {refused:?}");
        }
    }
    // A field that another one says is not lost.
    let both = json!({"thinking": {"type": "disabled"}, "chat_template_kwargs": {"enable_thinking": true}});
    let refused = message(anthropic::messages(fields(&with(&protocols[0].1, &both)), &served, "1"));
    assert_eq!(refused, "chat_template_kwargs: thinking says the same");
    let both = json!({"think": true, "chat_template_kwargs": {"enable_thinking": false}});
    let refused = message(ollama::chat(fields(&with(&protocols[2].1, &both)), &served, "1"));
    assert_eq!(refused, "chat_template_kwargs: think says the same");
    // Ollama's options are those of sampling.
    for name in ["raw", "tools", "messages", "n", "logprobs", "system", "format"] {
        let options = json!({"options": {name: true}});
        let refused = message(ollama::generate(fields(&with(&protocols[3].1, &options)), &served, "1"));
        assert_eq!(refused, format!("options.{name}: there is no such option"));
    }
    let options =
        json!({"options": {"stop": ["x"], "num_predict": 4, "repeat_penalty": 1.1, "min_p": 0.1, "numa": true}});
    let (ask, _) = ollama::generate(fields(&with(&protocols[3].1, &options)), &served, "1").unwrap();
    assert_eq!((ask.sampling.max_tokens, ask.sampling.stop), (Some(4), vec!["x".to_owned()]));
}

#[test]
fn what_ollamas_clients_send_passes() {
    let served = plain();
    let none = json!({"logprobs": false, "top_logprobs": 0, "truncate": true, "shift": false, "options": {"num_ctx": 1 << 21, "num_predict": 0, "num_thread": 4}});
    let messages = json!([{"role": "user", "content": "Hi", "images": null, "thinking": null}]);
    let chat = with(&json!({"messages": messages}), &none);
    assert_eq!(message(ollama::chat(fields(&chat), &served, "1")), "");
    let more =
        json!({"prompt": "Hi", "template": "", "system": "", "suffix": "", "images": null, "context": [], "raw": true});
    assert_eq!(message(ollama::generate(fields(&with(&more, &none)), &served, "1")), "");
    for (more, expected) in [
        (json!({"logprobs": 1}), "logprobs: expected true or false"),
        (json!({"top_logprobs": 2}), "top_logprobs: expected logprobs: true beside it"),
        (json!({"truncate": 1}), "truncate: expected true or false"),
        (json!({"options": {"num_ctx": 0}}), "options.num_ctx: expected a whole number of at least 1, found 0"),
    ] {
        let refused = message(ollama::chat(fields(&with(&chat, &more)), &served, "1"));
        assert!(refused.starts_with(expected), "{refused:?}");
    }
    // Options have their own place.
    for name in ["num_predict", "temperature", "repeat_penalty", "seed"] {
        let refused = message(ollama::chat(fields(&with(&chat, &json!({name: 1}))), &served, "1"));
        assert_eq!(refused, format!("{name}: expected it in options"));
    }
    // A body without a prompt loads the model.
    let load: &[(Read, Value, &str)] = &[
        (ollama::chat, json!({"messages": []}), "message"),
        (ollama::chat, json!({"model": "stories"}), "message"),
        (ollama::generate, json!({"model": "stories", "keep_alive": -1}), "response"),
        (ollama::generate, json!({"prompt": ""}), "response"),
    ];
    for (read, body, part) in load {
        let (ask, mut writer) = read(fields(body), &served, "1").unwrap();
        assert!(ask.stream && ask.requests(&served, &Stop::default()).unwrap().is_empty(), "{body}");
        let whole = writer.whole(Vec::new());
        assert_eq!((&whole["done"], &whole["done_reason"]), (&true.into(), &"load".into()), "{body}: {whole}");
        assert!(whole.get(part).is_some() && writer.begin().is_empty());
        let line: Value = serde_json::from_str(&writer.end()[0].data).unwrap();
        assert_eq!((&line["done_reason"], &line[part]), (&"load".into(), &whole[part]));
    }
}

#[test]
fn a_list_that_is_too_long_is_refused_before_it_is_read() {
    let served = plain();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"messages": messages});
    let anthropic = with(&chat, &json!({"max_tokens": 5}));
    // None of the entries is what its field takes.
    let many = |most: usize| json!(vec![Value::Null; most + 1]);
    let biases = (0..=65_536).map(|id| (id.to_string(), Value::Null)).collect::<Value>();
    let namespace = json!([{"type": "namespace", "name": "x", "tools": many(1024)}]);
    let cases: &[(Read, &Value, &str, Value, &str, usize)] = &[
        (openai::chat, &chat, "messages", many(10_000), "messages", 10_000),
        (openai::chat, &chat, "tools", many(1024), "tools", 1024),
        (openai::chat, &chat, "stop", many(64), "stop", 64),
        (openai::chat, &chat, "stop_token_ids", many(1024), "stop_token_ids", 1024),
        (openai::chat, &chat, "bad_words", many(1024), "bad_words", 1024),
        (openai::chat, &chat, "bad_words_ids", many(1024), "bad_words_ids", 1024),
        (openai::chat, &chat, "logit_bias", biases, "logit_bias", 65_536),
        (responses::response, &json!({}), "input", many(10_000), "input", 10_000),
        (responses::response, &json!({"input": "Hi"}), "tools", namespace, "tools", 1024),
        (anthropic::messages, &anthropic, "stop_sequences", many(64), "stop_sequences", 64),
        (openai::chat, &chat, "functions", many(1024), "functions", 1024),
        (ollama::chat, &chat, "options", json!({"stop": many(64)}), "options.stop", 64),
    ];
    for (read, body, name, value, field, most) in cases {
        let body = with(body, &json!({*name: value}));
        let refused = message(Fields::new(body).and_then(|fields| read(fields, &served, "1")));
        assert_eq!(refused, format!("{field}: expected at most {most} entries, found {}", most + 1), "{name}");
    }
    // The tokens of one text.
    assert!(Fields::new(json!({"input": vec![1; 20_000]})).is_ok());
}

#[test]
fn problems_name_the_field_that_the_body_has() {
    let served = plain();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let chat = json!({"messages": messages});
    let anthropic = with(&chat, &json!({"max_tokens": 5}));
    let long = json!("x ".repeat(1 << 21));
    let no_schema = json!({"type": "array", "uniqueItems": true});
    let text = json!({"format": {"type": "json_schema", "name": "x", "schema": no_schema}});
    let schema = json!({"format": {"type": "json_schema", "name": "x", "schema": 1}});
    let output = json!({"format": {"type": "json_schema", "schema": no_schema}});
    let cases: &[(Read, &Value, Value, &str)] = &[
        (openai::chat, &chat, json!({"max_completion_tokens": "x"}), "max_completion_tokens"),
        (openai::chat, &chat, json!({"max_tokens": "x"}), "max_tokens"),
        (openai::completion, &json!({"prompt": "Hi"}), json!({"n_predict": "x"}), "n_predict"),
        (anthropic::messages, &anthropic, json!({"stop_sequences": 5}), "stop_sequences"),
        (anthropic::messages, &anthropic, json!({"output_config": output}), "output_config"),
        (responses::response, &json!({"input": "Hi"}), json!({"max_output_tokens": "x"}), "max_output_tokens"),
        (responses::response, &json!({}), json!({"input": long}), "input"),
        (responses::response, &json!({"input": "Hi"}), json!({"text": text}), "text.format"),
        (responses::response, &json!({"input": "Hi"}), json!({"text": {"format": {"type": "xml"}}}), "text.format"),
        (responses::response, &json!({"input": "Hi"}), json!({"text": schema}), "text.format.schema"),
        (responses::response, &json!({"input": "Hi"}), json!({"text": {"verbosity": "loud"}}), "text.verbosity"),
        (responses::response, &json!({"input": "Hi"}), json!({"reasoning": {"effort": 1}}), "reasoning.effort"),
        (responses::response, &json!({"input": "Hi"}), json!({"top_logprobs": "x"}), "top_logprobs"),
        (openai::chat, &chat, json!({"logprobs": true, "top_logprobs": "x"}), "top_logprobs"),
        (anthropic::messages, &anthropic, json!({"output_config": {"effort": 1}}), "output_config.effort"),
        (ollama::chat, &chat, json!({"think": 1}), "think"),
        (ollama::chat, &chat, json!({"keep_alive": {}}), "keep_alive: expected a duration"),
        (ollama::chat, &chat, json!({"options": {"num_predict": []}}), "options.num_predict: expected a whole number"),
        (
            ollama::chat,
            &chat,
            json!({"options": {"num_predict": "x"}}),
            "options.num_predict: expected a whole number of tokens, -1 for no limit, or -2 to fill the context, found",
        ),
        (
            openai::chat,
            &chat,
            json!({"functions": [{"name": "f"}], "function_call": {"name": "f", "x": 1}}),
            "function_call.x: there is no such field",
        ),
        (openai::chat, &chat, json!({"guided_choice": 5}), "guided_choice: expected a list of strings, found 5"),
        (
            openai::chat,
            &chat,
            json!({"stop_token_ids": ["x"]}),
            "stop_token_ids: expected at most 1024 token ids from 0 to 4294967295, found [\"x\"]",
        ),
        (openai::chat, &chat, json!({"request_id": "a b"}), "request_id: expected 1 to 128 letters"),
        (
            responses::response,
            &json!({"input": "Hi"}),
            json!({"text": {"format": {"type": "json_schema"}}}),
            "text.format.schema: expected a JSON Schema, found null",
        ),
        (
            ollama::chat,
            &chat,
            json!({"options": {"max_tokens": 5}}),
            "options.max_tokens: there is no such option: expected num_predict",
        ),
        (ollama::chat, &chat, json!({"options": {"num_predict": -9}}), "options.num_predict"),
        (ollama::generate, &json!({"prompt": "Hi"}), json!({"options": {"num_predict": "x"}}), "options.num_predict"),
        (ollama::generate, &json!({}), json!({"prompt": long}), "prompt"),
        (ollama::chat, &chat, json!({"format": no_schema}), "format"),
        (ollama::chat, &chat, json!({"json_schema": no_schema}), "json_schema"),
    ];
    for (read, body, more, name) in cases {
        let refused =
            read(fields(&with(body, more)), &served, "1").and_then(|(ask, _)| ask.requests(&served, &Stop::default()));
        let problem = refused.err().unwrap();
        let is_named = problem.message.starts_with(name) || problem.message.starts_with("the prompt of ");
        assert!(is_named && problem.param.as_deref() == name.split(':').next(), "{name}: {problem:?}");
    }
}

#[test]
fn what_a_response_does_not_know_is_refused_wherever_it_is() {
    let served = served(CALLS);
    let read = |more: &Value| responses::response(fields(&with(&json!({"input": "Hi"}), more)), &served, "1");
    let item = |item: Value| json!({"input": [{"role": "user", "content": "Hi"}, item]});
    let part = |part: Value| item(json!({"role": "user", "content": [part]}));
    let format = |format: Value| json!({"text": {"format": format}});
    let refused = [
        (
            json!({"tool_choice": "any"}),
            r#"tool_choice: expected "auto", "none", "required" or {"type":"function","name":"..."}, found "any""#,
        ),
        (json!({"tool_choice": {"type": "function", "function": {"name": "x"}}}), r#"tool_choice: expected "auto""#),
        (
            json!({"tool_choice": {"type": "function", "name": "x", "y": 1}}),
            "tool_choice.y: there is no such field; expected type, name, namespace",
        ),
        (json!({"reasoning": {"effrot": "low"}}), "reasoning.effrot: there is no such field"),
        (
            json!({"reasoning": {"summary": "long"}}),
            r#"reasoning.summary: expected one of auto, concise, detailed, found "long""#,
        ),
        (json!({"reasoning": {"mode": "pro"}}), "reasoning.mode: expected"),
        (json!({"include": ["everything"]}), "include: expected a list of message.output_text.logprobs,"),
        (json!({"include": "reasoning.encrypted_content"}), "include: expected a list, found a string"),
        (
            json!({"stream": true, "stream_options": {"include_obfuscation": 1}}),
            "stream_options.include_obfuscation: expected true or false, found 1",
        ),
        (
            json!({"stream": true, "stream_options": {"include_usage": true}}),
            "stream_options.include_usage: there is no such field",
        ),
        (format(json!({"type": "text", "x": 1})), "text.format.x: there is no such field; expected type"),
        (
            format(json!({"type": "json_object", "schema": {}})),
            "text.format.schema: there is no such field; expected type",
        ),
        (
            format(json!({"type": "json_schema", "name": 5, "schema": {}})),
            "text.format.name: expected a string, found 5",
        ),
        (
            format(json!({"type": "json_schema", "strict": "yes", "schema": {}})),
            "text.format.strict: expected true or false",
        ),
        (item(json!(5)), "input[1]: expected an object, found 5"),
        (
            item(json!({"type": 5})),
            "input[1]: expected a message, function_call, function_call_output or reasoning, found 5",
        ),
        (
            item(json!({"role": "user", "content": "x", "x": 1})),
            "input[1].x: there is no such field; expected role, content, phase, type, id, status",
        ),
        (
            item(json!({"role": "assistant", "content": "x", "status": "done"})),
            "input[1].status: expected one of in_progress",
        ),
        (
            item(json!({"type": "function_call", "call_id": 5, "name": "x", "arguments": "{}"})),
            "input[1].call_id: expected a string, found 5",
        ),
        (
            item(json!({"type": "reasoning", "summary": [{"type": "x"}]})),
            "input[1].summary[0]: expected a part with its type and text",
        ),
        (
            item(json!({"type": "reasoning", "content": "x"})),
            "input[1].content: expected a list of parts, found a string",
        ),
        (
            part(json!({"type": "input_text", "text": "x", "x": 1})),
            "input[1].content[0].x: there is no such field; expected type, text,",
        ),
    ];
    for (body, expected) in refused {
        let problem = message(read(&body));
        assert!(problem.starts_with(expected), "{body}: {problem:?}");
    }
    // What clients send, and what answers have.
    let text = json!({"type": "output_text", "text": "x", "annotations": [], "logprobs": []});
    for body in [
        json!({"tool_choice": "auto", "stream": true, "stream_options": {"include_obfuscation": true}}),
        json!({"max_tool_calls": 5, "truncation": "auto"}),
        item(json!({"type": "function_call", "call_id": "1", "name": "x", "arguments": "{}", "parsed_arguments": {}})),
        json!({"reasoning": {"effort": "low", "summary": "auto", "context": null}, "include": ["reasoning.encrypted_content"]}),
        item(
            json!({"type": "reasoning", "id": "1", "summary": [], "content": [{"type": "reasoning_text", "text": "x"}], "status": "completed"}),
        ),
        item(
            json!({"type": "message", "id": "1", "role": "assistant", "status": "completed", "content": [text], "phase": null}),
        ),
    ] {
        assert_eq!(message(read(&body)), "", "{body}");
    }
    let (ask, _) = read(&json!({"include": ["message.output_text.logprobs"]})).unwrap();
    assert_eq!(ask.sampling.logprobs, Some(0));
}

#[test]
fn problems_within_the_input_of_a_response_name_its_items() {
    let served = served(CALLS);
    let other = |id: &str, arguments: Value| json!({"type": "function_call", "call_id": id, "name": "x", "arguments": arguments});
    let call = |arguments: Value| other("1", arguments);
    let thought = json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm"}]});
    let user = |content: Value| json!({"role": "user", "content": content});
    let image = json!([{"type": "input_text", "text": "a"}, {"type": "input_image"}]);
    let answer = json!({"role": "assistant", "content": image});
    let output = json!({"type": "function_call_output", "call_id": "1", "output": image});
    let cases = [
        (json!([user(json!("a")), {"role": "robot", "content": "b"}]), "input[1].role"),
        (json!([user(json!(5))]), "input[0].content"),
        (json!([user(json!("a")), user(image)]), "input[1].content[1]"),
        (json!([user(json!("a")), thought, call(json!("{}")), other("2", json!(5))]), "input[3].arguments"),
        (json!([user(json!("a")), call(json!("{}")), output]), "input[2].output[1]"),
        (json!([user(json!("a")), thought, answer]), "input[2].content[1]"),
        (json!([user(json!("a")), thought, answer, answer]), "input[2].content[1]"),
        (json!([{"type": "robot"}]), "input[0]"),
    ];
    for (input, place) in cases {
        let body = json!({"instructions": "Be brief.", "input": input});
        let problem = responses::response(fields(&body), &served, "1").err().unwrap();
        let is_named = problem.message.starts_with(&format!("{place}: "));
        assert!(is_named && problem.param.as_deref() == Some(place), "{place}: {problem:?}");
    }
}

#[test]
fn numbers_below_zero_mean_what_they_mean_to_others() {
    let served = plain();
    let sampling = |more: Value| {
        let body = with(&json!({"prompt": "Hi"}), &more);
        openai::completion(fields(&body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}")).0.sampling
    };
    assert_eq!(sampling(json!({"seed": -5})).seed, Some(u64::MAX - 4));
    assert_eq!(sampling(json!({"seed": i64::MIN})).seed, Some(1 << 63));
    assert_eq!(sampling(json!({"seed": u64::MAX})).seed, Some(u64::MAX));
    assert_eq!(sampling(json!({"seed": -1})).seed, None);
    assert_eq!(sampling(json!({"repeat_last_n": -1})).repeat_last_n, usize::MAX);
    assert_eq!(sampling(json!({"dry_penalty_last_n": -1})).dry_penalty_last_n, usize::MAX);
    assert!(
        message(openai::completion(fields(&json!({"prompt": "Hi", "repeat_last_n": -2})), &served, "1")).contains("-2")
    );
    let predicted = |most: Value| {
        ollama::generate(fields(&json!({"prompt": "Hi", "options": {"num_predict": most}})), &served, "1")
    };
    for (most, meant) in [(json!(-1), None), (json!(0), None), (json!(-2), None), (json!(7), Some(7))] {
        assert_eq!(predicted(most).map(|(ask, _)| ask.sampling.max_tokens), Ok(meant));
    }
    let expected =
        "options.num_predict: expected a whole number of tokens, -1 for no limit, or -2 to fill the context, found -9";
    assert_eq!(message(predicted(json!(-9))), expected);
}

/// A template with the calls of Hermes.
const CALLS: &str = r#"{%- for tool in tools or [] %}{{ tool.function.name }} {% endfor %}
{#- <tool_call> {"name": <function-name>, "arguments": <args-json-object>} </tool_call> #}
{%- for m in messages %}{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}{% endfor %}"#;

#[test]
fn functions_in_a_namespace_are_called_by_both_names() {
    let served = served(CALLS);
    let function = |name: &str| json!({"type": "function", "name": name, "parameters": {"type": "object"}});
    let call =
        json!({"type": "function_call", "call_id": "1", "namespace": "agents", "name": "spawn", "arguments": "{}"});
    let body = json!({
        "tools": [function("shell"), {"type": "namespace", "name": "agents", "description": "", "tools": [function("spawn")]}],
        "tool_choice": {"type": "function", "namespace": "agents", "name": "spawn"},
        "input": [
            {"role": "user", "content": "Hi"}, call,
            {"type": "function_call_output", "call_id": "1", "output": "done"},
        ],
    });
    let read = |body: &Value| responses::response(fields(body), &served, "1");
    let (ask, mut writer) = read(&body).unwrap_or_else(|problem| panic!("{problem:?}"));
    let prompt = served.tokenizer.decode(&ask.prompts[0]);
    assert!(prompt.contains("shell agents__spawn") && prompt.contains(r#""name": "agents__spawn""#), "{prompt}");
    let text = r#"<tool_call>{"name": "agents__spawn", "arguments": {}}</tool_call><tool_call>{"name": "shell", "arguments": {}}</tool_call>"#;
    let choice = Choice { text: text.to_owned(), finish_reason: FinishReason::EndToken, ..Choice::new(0) };
    let whole = writer.whole(vec![choice]);
    let output = &whole["output"];
    assert_eq!((&output[0]["namespace"], &output[0]["name"]), (&"agents".into(), &"spawn".into()), "{whole}");
    assert_eq!((output[1].get("namespace"), &output[1]["name"]), (None, &"shell".into()), "{whole}");
    for (tools, expected) in [
        (json!([{"type": "namespace", "name": "x"}]), "tools[0]: expected a namespace with its name and tools"),
        (
            json!([{"type": "namespace", "name": "x", "tools": [{"type": "custom"}]}]),
            "tools[0].tools[0]: expected type",
        ),
        (
            json!([{"type": "namespace", "name": "x", "tools": [function("y"), function("y")]}]),
            "tools[0].tools[1]: an earlier tool",
        ),
    ] {
        let refused = message(read(&json!({"input": "Hi", "tools": tools})));
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn a_field_in_another_place_is_not_its_own_neighbour() {
    let served = plain();
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}]});
    let read = |more: Value| openai::chat(fields(&with(&chat, &more)), &served, "1");
    for name in ["prompt", "input", "echo", "max_output_tokens"] {
        assert_eq!(message(read(json!({name: true}))), format!("{name}: there is no such field in this place"));
    }
    assert!(message(read(json!({"tempreature": 1}))).ends_with("a similar one is temperature"));
    let format = |inner: Value| read(json!({"response_format": {"type": "json_schema", "json_schema": inner}}));
    for inner in [json!({"name": "any"}), json!({"name": "any", "schema": 1}), Value::Null] {
        assert!(message(format(inner)).contains("expected a JSON Schema"));
    }
}

/// A body of each protocol that takes functions, and how it is read.
fn with_calls() -> [(Read, Value); 4] {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    [
        (openai::chat, json!({"messages": messages})),
        (responses::response, json!({"input": "Hi"})),
        (anthropic::messages, json!({"messages": messages, "max_tokens": 5})),
        (ollama::chat, json!({"messages": messages})),
    ]
}

#[test]
fn what_is_nested_is_known_or_refused_by_its_place() {
    let served = served(CALLS);
    let [chat, response, anthropic, ollama] = &with_calls();
    let tool = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    let flat = |more: Value| json!({"tools": [with(&json!({"type": "function", "name": "x"}), &more)]});
    let own = |more: Value| json!({"tools": [with(&json!({"name": "x", "input_schema": {}}), &more)]});
    let message_of = |role: &str, part: Value| json!({"messages": [{"role": role, "content": [part]}]});
    let user = |part: Value| message_of("user", part);
    let one = |message: Value| json!({"messages": [message]});
    let items = |role: &str, part: Value| json!({"input": [{"role": role, "content": [part]}]});
    let refusal = json!({"type": "refusal", "refusal": "No."});
    let cases: &[(&(Read, Value), Value, &str)] = &[
        (
            chat,
            tool(json!({"name": "x", "paramters": {}})),
            "tools[0].function.paramters: there is no such field; expected name,",
        ),
        (
            chat,
            tool(json!({"name": "x", "description": 5})),
            "tools[0].function.description: expected a string, found 5",
        ),
        (
            chat,
            tool(json!({"name": "x", "strict": "yes"})),
            "tools[0].function.strict: expected true or false, found a string",
        ),
        (chat, tool(json!({"name": "x", "parameters": {}, "description": null, "strict": null})), ""),
        (
            chat,
            json!({"tools": [{"type": "function", "function": {"name": "x"}, "x": 1}]}),
            "tools[0].x: there is no such field",
        ),
        (
            chat,
            json!({"tools": [{"type": "custom", "custom": {"name": "x"}}]}),
            "tools[0]: expected type \"function\", found \"custom\": a call is",
        ),
        (
            chat,
            user(json!({"type": "text", "text": "a", "x": 1})),
            "messages[0].content[0].x: there is no such field; expected type, text,",
        ),
        (chat, user(json!({"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}})), ""),
        (
            chat,
            user(json!({"type": "text", "text": "a", "cache_control": 5})),
            "messages[0].content[0].cache_control: expected an object, found 5",
        ),
        (
            chat,
            user(json!({"type": "image_url", "image_url": {"url": "x", "detail": "low"}})),
            "messages[0].content[0]: image_url: the model takes text alone: leave it out, or say",
        ),
        (chat, message_of("assistant", refusal.clone()), ""),
        (chat, user(json!({"type": "text", "text": 5})), "messages[0].content[0].text: expected a string, found 5"),
        (chat, one(json!({"role": "user"})), "messages[0].content: expected a string or a list of parts, found null"),
        (chat, one(json!({"role": "user", "content": "a", "name": 3})), "messages[0].name: expected a string, found 3"),
        (
            chat,
            one(json!({"role": "assistant", "content": "a", "reasoning_content": 3})),
            "messages[0].reasoning_content: expected a string, found 3",
        ),
        (
            chat,
            one(json!({"role": "assistant", "content": "a", "reasoning": 3})),
            "messages[0].reasoning: expected a string, found 3",
        ),
        (
            ollama,
            one(json!({"role": "assistant", "content": "a", "thinking": 3})),
            "messages[0].thinking: expected a string, found 3",
        ),
        (
            ollama,
            one(json!({"role": "tool", "content": "a", "tool_name": 3})),
            "messages[0].tool_name: expected a string, found 3",
        ),
        (chat, one(json!({"role": "tool", "content": "a"})), "messages[0].tool_call_id: expected the id of a call"),
        (
            chat,
            one(json!({"role": "tool", "content": "a", "tool_call_id": 3})),
            "messages[0].tool_call_id: expected a string, found 3",
        ),
        (ollama, json!({"messages": [{"role": "user"}, {"role": "tool", "content": "a", "tool_name": "x"}]}), ""),
        (
            chat,
            json!({"tools": [{"type": "function", "function": {"name": "x"}, "cache_control": {"type": "ephemeral"}}]}),
            "",
        ),
        (
            anthropic,
            user(json!({"type": "document", "source": {"type": "base64", "data": "x"}})),
            "messages[0].content[0].source: base64: the model takes text alone: leave it out, or say",
        ),
        (
            anthropic,
            user(json!({"type": "document", "source": {"type": "text", "data": "x"}, "citations": {"enabled": true}})),
            "messages[0].content[0].citations.enabled: expected false, found true: answers cite nothing",
        ),
        (
            anthropic,
            user(json!({"type": "search_result", "source": "x", "title": "y", "content": [{"type": "image"}]})),
            "messages[0].content[0].content[0]: image: the model takes text alone: leave it out, or say",
        ),
        (
            anthropic,
            user(json!({"type": "search_result", "title": "y", "content": []})),
            "messages[0].content[0].source: expected one, found none",
        ),
        (
            anthropic,
            user(json!({"type": "search_result", "source": "x", "content": []})),
            "messages[0].content[0].title: expected one, found none",
        ),
        (
            anthropic,
            user(json!({"type": "search_result", "source": "x", "title": "y", "content": "z"})),
            "messages[0].content[0].content: expected a list, found a string",
        ),
        (
            anthropic,
            user(json!({"type": "document", "source": {"type": "text", "media_type": "text/html", "data": "<p>"}})),
            "messages[0].content[0].source.media_type: expected \"text/plain\", found \"text/html\": what",
        ),
        (
            anthropic,
            with(&json!({"system": "a"}), &user(json!({"type": "tool_result", "content": "a"}))),
            "messages[0].content[0].tool_use_id: expected one, found none",
        ),
        (
            anthropic,
            message_of("assistant", json!({"type": "tool_use", "name": "x", "input": {}})),
            "messages[0].content[0].id: expected one, found none",
        ),
        (
            chat,
            one(
                json!({"role": "assistant", "tool_calls": [{"type": "function", "function": {"name": "x", "arguments": "{}"}}]}),
            ),
            "messages[0].tool_calls[0].id: expected the id of the call",
        ),
        (ollama, one(json!({"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": {}}}]})), ""),
        (
            response,
            json!({"input": [{"type": "function_call", "name": "x", "arguments": "{}"}]}),
            "input[0].call_id: expected the id of the call",
        ),
        (
            response,
            json!({"input": [{"type": "function_call_output", "output": "x"}]}),
            "input[0].call_id: expected the id of the call",
        ),
        (
            response,
            json!({"tools": [{"type": "namespace", "name": "n", "tools": [flat(json!({}))["tools"][0], {"type": "function", "name": "?"}]}]}),
            "tools[0].tools[1]: expected a function whose name has",
        ),
        (anthropic, json!({"tools": [{"name": "x"}]}), "tools[0].input_schema: expected a JSON Schema"),
        (chat, user(refusal.clone()), "messages[0].content[0]: expected a part of type \"text\""),
        (
            chat,
            json!({"response_format": {"type": "json_object", "x": 1}}),
            "response_format.x: there is no such field",
        ),
        (
            chat,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": 5}}}),
            "response_format.json_schema.name: expected a string",
        ),
        (response, flat(json!({"paramters": {}})), "tools[0].paramters: there is no such field; expected type, name,"),
        (response, flat(json!({"strict": 1})), "tools[0].strict: expected true or false, found 1"),
        (
            response,
            flat(json!({"strict": null, "defer_loading": false, "allowed_callers": ["direct"], "output_schema": {}})),
            "",
        ),
        (
            response,
            flat(json!({"defer_loading": true})),
            "tools[0].defer_loading: expected false, found true: the model is told",
        ),
        (
            response,
            json!({"tools": [{"type": "namespace", "name": "n", "tools": [], "x": 1}]}),
            "tools[0].x: there is no such field",
        ),
        (response, items("assistant", refusal), ""),
        (
            response,
            items("assistant", json!({"type": "refusal", "refusal": "No.", "x": 1})),
            "input[0].content[0].x: there is no such field",
        ),
        (
            response,
            items("user", json!({"type": "input_text", "text": "a", "annotations": 5})),
            "input[0].content[0].annotations: expected a list, found 5",
        ),
        (anthropic, own(json!({"paramters": {}})), "tools[0].paramters: there is no such field; expected type, name,"),
        (anthropic, own(json!({"description": 5})), "tools[0].description: expected a string, found 5"),
        (anthropic, own(json!({"type": "custom", "strict": true, "cache_control": {"type": "ephemeral"}})), ""),
        (anthropic, own(json!({"input_examples": [{}]})), "tools[0].input_examples: expected []"),
        (
            anthropic,
            user(json!({"type": "text", "text": "a", "x": 1})),
            "messages[0].content[0].x: there is no such field",
        ),
        (
            anthropic,
            user(
                json!({"type": "text", "text": "a", "citations": null, "cache_control": {"type": "ephemeral", "ttl": "1h"}}),
            ),
            "",
        ),
        (anthropic, user(json!({"type": "text"})), "messages[0].content[0]: expected text, found {"),
        (
            anthropic,
            user(json!({"type": "image", "source": {}})),
            "messages[0].content[0]: image: the model takes text alone: leave it out, or say",
        ),
        (
            anthropic,
            user(json!({"type": "tool_result", "tool_use_id": 5})),
            "messages[0].content[0].tool_use_id: expected a string, found 5",
        ),
        (anthropic, message_of("assistant", json!({"type": "thinking", "thinking": "Hm", "signature": ""})), ""),
        (
            anthropic,
            message_of("assistant", json!({"type": "tool_use", "id": "1", "name": "x", "input": "{}"})),
            "messages[0].content[0].input: expected an object",
        ),
        (
            anthropic,
            json!({"messages": [{"role": "user", "content": "a", "name": "x"}]}),
            "messages[0].name: there is no such field; expected role, content",
        ),
        (anthropic, json!({"system": [{"type": "text", "text": "a", "x": 1}]}), "system[0].x: there is no such field"),
        (anthropic, json!({"thinking": {"type": "enabled", "budget": 5}}), "thinking.budget: there is no such field"),
        (
            anthropic,
            with(&own(json!({})), &json!({"tool_choice": {"type": "auto", "x": 1}})),
            "tool_choice.x: there is no such field",
        ),
        (
            anthropic,
            json!({"output_config": {"x": 1}}),
            "output_config.x: there is no such field; expected effort, format",
        ),
        (ollama, tool(json!({"name": "x", "x": 1})), "tools[0].function.x: there is no such field"),
        (
            ollama,
            one(json!({"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{}"}}]})),
            "messages[0].tool_calls[0].function.arguments: expected an object, found a string",
        ),
        (
            anthropic,
            user(json!({"type": "bogus"})),
            "messages[0].content[0]: expected a block of type text, thinking, redacted_thinking, tool_use,",
        ),
    ];
    for ((read, body), more, expected) in cases {
        let problem = read(fields(&with(body, more)), &served, "1").err();
        let text = problem.as_ref().map_or("", |problem| &problem.message);
        assert!(text.starts_with(expected) && expected.is_empty() == text.is_empty(), "{more}: {text:?}");
        let place = text.split(": ").next().filter(|place| !place.is_empty());
        assert_eq!(problem.as_ref().and_then(|problem| problem.param.as_deref()), place, "{more}");
    }
}

#[test]
fn a_function_whose_arguments_are_no_object_is_refused() {
    let served = served(CALLS);
    let [chat, response, anthropic, ollama] = with_calls();
    let other = [
        json!(false),
        json!({"type": "integer"}),
        json!({"type": ["string", "null"]}),
        json!({"enum": [1, "a"]}),
        json!({"anyOf": [{"type": "array"}, {"const": 5}]}),
        json!({"allOf": [{"type": "object"}, {"type": "string"}]}),
        json!({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"type": "string"}}}),
    ];
    let objects = [
        json!({}),
        json!({"type": "object"}),
        json!({"type": ["object", "null"]}),
        json!({"anyOf": [{"type": "array"}, {"type": "object"}]}),
        json!({"$ref": "#/$defs/x", "$defs": {"x": {"type": "object"}}}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
    ];
    let function = |schema: &Value| json!({"name": "x", "parameters": schema});
    let tool = |schema: &Value| json!({"tools": [{"type": "function", "function": function(schema)}]});
    let flat = |schema: &Value| json!({"tools": [with(&json!({"type": "function"}), &function(schema))]});
    let own = |schema: &Value| json!({"tools": [{"name": "x", "input_schema": schema}]});
    let former = |schema: &Value| json!({"functions": [function(schema)]});
    type Tools<'a> = &'a dyn Fn(&Value) -> Value;
    let cases: [(&(Read, Value), Tools, &str); 5] = [
        (&chat, &tool, "tools[0].function.parameters"),
        (&chat, &former, "functions[0].parameters"),
        (&response, &flat, "tools[0].parameters"),
        (&anthropic, &own, "tools[0].input_schema"),
        (&ollama, &tool, "tools[0].function.parameters"),
    ];
    for ((read, body), tools, place) in cases {
        let read = |schema: &Value| read(fields(&with(body, &tools(schema))), &served, "1");
        for schema in &objects {
            assert_eq!(message(read(schema)), "", "{place}: {schema}");
        }
        for schema in &other {
            let problem = read(schema).err().unwrap();
            assert_eq!(problem.param.as_deref(), Some(place), "{schema}");
            assert!(problem.message.contains(": expected "), "{}", problem.message);
        }
    }
}

#[test]
fn a_result_is_that_of_a_call() {
    let served = served(CALLS);
    let [chat, response, anthropic, ollama] = with_calls();
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "x", "arguments": "{}"}});
    let calls =
        |ids: &[&str]| json!({"role": "assistant", "tool_calls": ids.iter().map(|id| call(id)).collect::<Vec<_>>()});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "1"});
    let list = |messages: &[Value]| json!({"messages": messages});
    let item = |id: &str| json!({"type": "function_call", "call_id": id, "name": "x", "arguments": "{}"});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": "1"});
    let block = |id: &str| json!({"type": "tool_use", "id": id, "name": "x", "input": {}});
    let of_block = |id: &str| json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": id}]});
    let blocks =
        |ids: &[&str]| json!({"role": "assistant", "content": ids.iter().map(|id| block(id)).collect::<Vec<_>>()});
    let cases: &[(&(Read, Value), Value, &str)] = &[
        (&chat, list(&[calls(&["a", "b"]), result("b"), result("a")]), ""),
        // The calls of a history that was cut are not there; others count the calls of each message from 0.
        (&chat, list(&[result("a"), calls(&["b"]), result("b"), calls(&["b"]), result("b")]), ""),
        (&chat, list(&[calls(&["a"]), result("b")]), "messages[1].tool_call_id: no call before it has the id \"b\""),
        (&chat, list(&[calls(&["a", "a"])]), "messages[0].tool_calls[1].id: another call of the message has the id"),
        (&response, json!({"input": [item("a"), item("b"), output("b"), output("a"), item("a")]}), ""),
        (&response, json!({"input": [item("a"), output("b")]}), "input[1].call_id: no call before it has the id"),
        (&response, json!({"input": [output("b")]}), "input[0].call_id: no call before it has the id"),
        (&response, json!({"input": [item("a"), item("a")]}), "input[1].call_id: another call of the message has"),
        (&anthropic, list(&[blocks(&["a", "b"]), of_block("b"), of_block("a")]), ""),
        (&anthropic, list(&[of_block("b")]), "messages[0].content[0].tool_use_id: no call before it has the id \"b\""),
        (&anthropic, list(&[blocks(&["a", "a"])]), "messages[0].content[1].id: another call of the message has the id"),
        (&ollama, list(&[json!({"role": "tool", "content": "1"}), json!({"role": "tool", "content": "2"})]), ""),
    ];
    for ((read, body), more, expected) in cases {
        let problem = read(fields(&with(body, more)), &served, "1").err();
        let text = problem.as_ref().map_or("", |problem| &problem.message);
        assert!(text.starts_with(expected) && expected.is_empty() == text.is_empty(), "{more}: {text:?}");
        let place = text.split(": ").next().filter(|place| !place.is_empty());
        assert_eq!(problem.as_ref().and_then(|problem| problem.param.as_deref()), place, "{more}");
    }
}

#[test]
fn an_answer_has_the_id_that_its_request_says() {
    let served = plain();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let bodies: [(Read, Value, &str); 3] = [
        (openai::chat, json!({"messages": messages}), "chatcmpl-mine"),
        (openai::completion, json!({"prompt": "Hi"}), "cmpl-mine"),
        (responses::response, json!({"input": "Hi"}), "resp_mine"),
    ];
    for (read, body, expected) in bodies {
        let (_, mut writer) = read(fields(&with(&body, &json!({"request_id": "mine"}))), &served, "1").unwrap();
        assert_eq!(writer.whole(vec![Choice::new(0)])["id"], expected);
    }
}

#[test]
fn tokens_of_texts_and_chats_are_told() {
    let served = plain();
    let tokenized = |body: Value| tokens::tokenize(fields(&body), &served).map(|answer| json!(answer));
    let chat = json!({"messages": [{"role": "user", "content": "Once upon"}], "return_token_strs": true});
    let answer = tokenized(chat).unwrap();
    let (ids, names) = (answer["tokens"].as_array().unwrap(), answer["token_strs"].as_array().unwrap());
    assert!(ids.len() == names.len() && names.contains(&json!("Ġupon")), "{answer}");
    assert_eq!(message(tokenized(json!({"prompt": 5}))), "prompt: expected a string, found 5");
    let flag = json!({"prompt": "a", "add_special_tokens": "y"});
    assert_eq!(message(tokenized(flag)), "add_special_tokens: expected true or false, found a string");
    let detokenized = |body: Value| tokens::detokenize(fields(&body), &served);
    assert_eq!(message(detokenized(json!({}))), "tokens: expected a list of token ids");
    let beyond = message(detokenized(json!({"tokens": [5, 1_000_000]})));
    assert!(beyond.starts_with("tokens[1]: token 1000000 is not one of the model's "), "{beyond}");
}

#[test]
fn what_clients_send_back_of_an_answer_changes_nothing() {
    // A template that writes all of a call.
    let served = served(CALLS.replace("c.function | tojson", "c | tojson").as_str());
    let body = |more: &Value, of_call: &Value, of_function: &Value| {
        let function = with(&json!({"name": "now", "arguments": "{}"}), of_function);
        let call = with(&json!({"id": "1", "type": "function", "function": function}), of_call);
        json!({"messages": [
            {"role": "user", "content": "Hi"},
            with(&json!({"role": "assistant", "content": "x", "tool_calls": [call]}), more),
            {"role": "tool", "tool_call_id": "1", "content": "noon"},
        ]})
    };
    let none = json!({});
    let prompt = |body: &Value| {
        let (ask, _) = openai::chat(fields(body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
        served.tokenizer.decode(&ask.prompts[0])
    };
    let plain = prompt(&body(&none, &none, &none));
    let message = json!({
        "refusal": null, "annotations": [], "audio": null, "function_call": null, "id": "a", "parsed": {"a": 1},
        "provider_specific_fields": {"refusal": null}, "reasoning_details": [], "cache_control": {"type": "ephemeral"},
        "thinking_blocks": [{"type": "thinking", "thinking": "Hm", "signature": ""}],
    });
    let call = json!({"index": 0, "extra_content": {"google": {}}, "provider_specific_fields": {}});
    let function = json!({"index": 0, "parsed_arguments": {}, "provider_specific_fields": null});
    assert_eq!(prompt(&body(&message, &call, &function)), plain);
    assert!(plain.contains("now") && !plain.contains("index"), "{plain}");
}

#[test]
fn functions_are_called_as_before_there_were_tools() {
    let served = served(CALLS);
    let function = json!({"name": "now", "parameters": {"type": "object"}});
    let body = json!({"functions": [function], "function_call": {"name": "now"}, "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": null, "function_call": {"name": "now", "arguments": "{}"}},
        {"role": "function", "name": "now", "content": "noon"},
    ]});
    let read = |body: &Value| openai::chat(fields(body), &served, "1");
    let (ask, mut writer) = read(&body).unwrap_or_else(|problem| panic!("{problem:?}"));
    let prompt = served.tokenizer.decode(&ask.prompts[0]);
    assert!(prompt.contains(r#"<tool_call>{"name": "now", "arguments": {}}</tool_call>noon"#), "{prompt}");
    let Some((_, Constraint::Chat(form))) = ask.constraint else { panic!("no form") };
    assert_eq!((form.tool_choice, form.parallel_tool_calls), (ToolChoice::Named("now".to_owned()), false));
    let text = r#"<tool_call>{"name": "now", "arguments": {"zone": "UTC"}}</tool_call>"#.to_owned();
    let whole = writer.whole(vec![Choice { text, finish_reason: FinishReason::EndToken, ..Choice::new(0) }]);
    let (choice, call) = (&whole["choices"][0], &whole["choices"][0]["message"]["function_call"]);
    assert_eq!((&choice["finish_reason"], &call["name"]), (&"function_call".into(), &"now".into()), "{whole}");
    assert_eq!(call["arguments"].as_str().unwrap().replace(' ', ""), r#"{"zone":"UTC"}"#);
    assert!(choice["message"].get("tool_calls").is_none(), "{whole}");
    let messages = |messages: Value| json!({"messages": messages});
    let user = json!({"role": "user", "content": "Hi"});
    let call = |call: Value| json!({"role": "assistant", "function_call": call});
    let result = |name: &str| json!({"role": "function", "name": name, "content": "noon"});
    for (more, expected) in [
        (json!({"functions": []}), "functions: expected at least one"),
        (json!({"functions": [{"name": "?"}]}), "functions[0]: expected a function whose name has"),
        (json!({"functions": [function, {"name": "x", "strict": 1}]}), "functions[1].strict: expected true or false"),
        (json!({"function_call": {"name": "x"}}), "function_call: no tool is called \"x\""),
        (
            messages(json!([user, call(json!({"name": "now", "arguments": 5}))])),
            "messages[1].function_call.arguments: ",
        ),
        (
            messages(json!([user, call(json!({"name": "now", "x": 5}))])),
            "messages[1].function_call.x: there is no such",
        ),
        (messages(json!([user, call(json!({"arguments": "{}"}))])), "messages[1].function_call: expected a function"),
        (messages(json!([user, result("now")])), "messages[1].name: expected a function_call of \"now\" before"),
        (messages(json!([user, {"role": "function", "content": ""}])), "messages[1].name: expected the name of a"),
        (json!({"functions": null}), "function_call: expected functions beside it"),
        (json!({"tools": []}), "tools: functions says the same"),
        (
            json!({"function_call": "any"}),
            "function_call: expected \"auto\", \"none\" or {\"name\":\"...\"}, found \"any\"",
        ),
    ] {
        let problem = read(&with(&body, &more)).err().unwrap();
        assert!(problem.message.starts_with(expected), "{problem:?}");
        assert_eq!(problem.param.as_deref(), expected.split(':').next());
    }
    let prompt = |body: &Value| openai::apply_template(fields(body), &served).unwrap()["prompt"].clone();
    let mut of_template = body.clone();
    of_template.as_object_mut().unwrap().remove("function_call");
    let tools = json!({"functions": null, "tools": [{"type": "function", "function": function}]});
    let written = prompt(&of_template);
    assert_eq!(written.as_str().map(str::trim), Some(served.tokenizer.decode(&ask.prompts[0]).trim()));
    assert_eq!(written, prompt(&with(&of_template, &tools)));
}

#[test]
fn a_model_that_does_not_think_keeps_within_any_budget() {
    let served = plain();
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let bodies: &[(Read, Value)] = &[
        (openai::chat, json!({"messages": messages})),
        (openai::completion, json!({"prompt": "Hi"})),
        (ollama::generate, json!({"prompt": "Hi", "raw": true})),
    ];
    for (read, body) in bodies {
        let more = |budget: Value| match body.get("raw") {
            Some(_) => json!({"options": {"thinking_budget": budget}}),
            None => json!({"thinking_budget": budget}),
        };
        let (ask, _) = read(fields(&with(body, &more(json!(100)))), &served, "1").unwrap();
        assert_eq!(ask.sampling.thinking_budget, None, "{body}");
        let refused = message(read(fields(&with(body, &more(json!("x")))), &served, "1"));
        assert!(refused.contains("thinking_budget: expected"), "{refused}");
    }
}

#[test]
fn fields_of_other_servers_pass_where_they_ask_for_nothing() {
    let served = plain();
    let none = json!({
        "return_tokens_as_token_ids": false, "return_tokens": false, "detokenize": true, "n_indent": 0, "n_discard": 0,
        "t_max_predict_ms": 0, "response_fields": [], "backend_sampling": false, "speculative.n_max": 0, "tfs_z": 1,
        "post_sampling_probs": false, "include_stop_str_in_output": false, "mm_processor_kwargs": {}, "vllm_xargs": {},
        "kv_transfer_params": {},
    });
    let of_chats = json!({"add_special_tokens": false, "parse_tool_calls": true, "documents": []});
    let of_texts = json!({"add_special_tokens": true});
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let bodies: &[(Read, Value, &Value)] = &[
        (openai::chat, json!({"messages": messages}), &of_chats),
        (openai::completion, json!({"prompt": "Hi"}), &of_texts),
    ];
    for (read, body, own) in bodies {
        let more = |more: Value| read(fields(&with(body, &more)), &served, "1");
        let passes = json!({"n_keep": 0, "top_n_sigma": -1, "penalize_nl": false});
        assert_eq!(more(passes).map(|(ask, _)| ask.sampling.top_n_sigma), Ok(0.0));
        let penalized = more(json!({"penalize_nl": false, "repeat_penalty": 1.5}));
        assert!(message(penalized).starts_with("penalize_nl: expected true: line breaks are penalized"));
        let neutral = with(&none, own);
        assert_eq!(message(read(fields(&with(body, &neutral)), &served, "1")), "", "{body}");
        for (name, value) in neutral.as_object().unwrap() {
            let other = match value {
                Value::Bool(flag) => json!(!flag),
                Value::Array(_) => json!(["content"]),
                _ => json!(7),
            };
            let refused = message(read(fields(&with(body, &json!({name: other}))), &served, "1"));
            assert!(refused.starts_with(&format!("{name}: expected {value}, found {other}: ")), "{refused:?}");
        }
    }
}

#[test]
fn what_is_text_in_a_message_becomes_its_text() {
    let served = plain();
    let content = json!([
        {"type": "document", "title": "Tale", "context": "Old", "source": {"type": "text", "media_type": "text/plain", "data": "Once"}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "upon"}]}},
        {"type": "search_result", "source": "x", "title": "Found", "content": [{"type": "text", "text": "a time"}]},
    ]);
    let body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 5});
    let (ask, _) = anthropic::messages(fields(&body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
    let prompt = served.tokenizer.decode(&ask.prompts[0]);
    assert!(prompt.ends_with("Tale\nOld\nOnce\nupon\nFound\na time"), "{prompt:?}");
}

#[test]
fn thoughts_are_told_or_not_at_all() {
    // A template with thoughts.
    let served = served("{% for m in messages %}{{ m.content }}{% endfor %}<think>\n{# </think> #}");
    for (display, told) in [("summarized", "Hm"), ("omitted", "")] {
        let thinking = json!({"type": "adaptive", "display": display});
        let body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "thinking": thinking});
        let (_, mut writer) =
            anthropic::messages(fields(&body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
        let text = "Hm</think>Yes".to_owned();
        let whole = writer.whole(vec![Choice { text, finish_reason: FinishReason::EndToken, ..Choice::new(0) }]);
        let content = &whole["content"];
        assert_eq!((&content[0]["thinking"], &content[1]["text"]), (&told.into(), &"Yes".into()), "{whole}");
    }
    let body = json!({"messages": [], "max_tokens": 5, "thinking": {"type": "adaptive", "display": "updates"}});
    assert!(message(anthropic::messages(fields(&body), &served, "1")).starts_with("thinking.display: expected"));
}

#[test]
fn the_tokens_of_an_input_are_counted() {
    let served = plain();
    let (ask, _) = responses::response(fields(&json!({"input": "Hi there"})), &served, "1").unwrap();
    let counted = responses::input_tokens(fields(&json!({"input": "Hi there"})), &served);
    let expected = json!({"object": "response.input_tokens", "input_tokens": ask.prompts[0].len()});
    assert_eq!(counted, Ok(expected));
}

#[test]
fn anthropics_clients_go_on_without_threads() {
    let body = json!({"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "thread": {"type": "create"}});
    let problem = anthropic::messages(fields(&body), &plain(), "1").err().unwrap();
    let error = &anthropic::problem(&problem)["error"];
    let details = json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]});
    assert_eq!((&error["type"], &error["details"]), (&"invalid_request_error".into(), &details), "{error}");
}

#[test]
fn what_says_who_asks_has_its_types() {
    let served = plain();
    let [chat, response, anthropic, ollama] = &with_calls();
    let completion: (Read, Value) = (openai::completion, json!({"prompt": "Hi"}));
    let of_openai = [chat, response, &completion];
    let good = json!({
        "user": "ann", "store": true, "service_tier": "auto", "safety_identifier": "a", "prompt_cache_key": "b",
        "prompt_cache_retention": "24h", "prompt_cache_options": {"ttl": "30m", "mode": "explicit"}, "metadata": {"a": "b"},
    });
    let long_name = format!("metadata.{}: expected a name of at most 64 characters", "x".repeat(65));
    let many: Value = (0..17).map(|i| (i.to_string(), json!("x"))).collect();
    for (read, body) in of_openai {
        let many = many.clone();
        assert_eq!(message(read(fields(&with(body, &good)), &served, "1")), "", "{body}");
        for (name, value, expected) in [
            ("user", json!(5), "user: expected a string, found 5"),
            ("store", json!("yes"), "store: expected true or false, found a string"),
            ("service_tier", json!("best"), "service_tier: expected one of auto, default,"),
            ("safety_identifier", json!({}), "safety_identifier: expected a string, found an object"),
            ("prompt_cache_retention", json!("1h"), "prompt_cache_retention: expected one of in_memory,"),
            ("prompt_cache_options", json!({"mode": "none"}), "prompt_cache_options.mode: expected one of implicit,"),
            ("metadata", json!({"a": 5}), "metadata.a: expected a string, found 5"),
            ("metadata", json!({"a": null}), "metadata.a: expected a string, found null"),
            ("metadata", json!({"a": "x".repeat(513)}), "metadata.a: expected at most 512 characters"),
            ("metadata", json!({"x".repeat(65): "a"}), &long_name),
            ("metadata", many, "metadata: expected at most 16 entries, found 17"),
            ("moderation", json!({"model": "x"}), "moderation: no model here moderates"),
            ("context_management", json!([{"type": "compaction"}]), "context_management: a prompt is never cut"),
        ] {
            let refused = message(read(fields(&with(body, &json!({name: value}))), &served, "1"));
            assert!(refused.starts_with(expected), "{name}: {refused:?}");
        }
    }
    let option = |name: &str, value: Value| json!({"options": {name: value}});
    let cases: &[(&(Read, Value), Value, &str)] = &[
        (
            response,
            json!({"max_output_tokens": -1}),
            "max_output_tokens: expected a whole number of at least 1, found -1",
        ),
        (response, json!({"max_output_tokens": 16.0}), ""),
        (response, json!({"reasoning": {"effort": "max"}, "text": {"verbosity": "low"}}), ""),
        (chat, json!({"max_tokens": 16.0, "n": 1.0, "seed": 7.0, "stop_token_ids": [5.0]}), ""),
        (chat, json!({"max_tokens": 16.5}), "max_tokens: expected a whole number"),
        (chat, json!({"reasoning_effort": "max", "verbosity": "high"}), ""),
        (chat, json!({"verbosity": "loud"}), "verbosity: expected one of low, medium, high, found \"loud\""),
        (anthropic, json!({"max_tokens": 16.0, "metadata": {"user_id": "ann"}}), ""),
        (anthropic, json!({"metadata": {"user_id": 5}}), "metadata.user_id: expected a string, found 5"),
        (anthropic, json!({"service_tier": "flex"}), "service_tier: expected one of auto, standard_only"),
        (anthropic, json!({"container": "x"}), "container: no code runs here"),
        (
            anthropic,
            json!({
                "speed": "standard", "diagnostics": {}, "user_profile_id": "a", "workspace_id": "b", "billing_policy": {},
                "compaction": {}, "fallbacks": [], "cache_control": {"type": "ephemeral", "ttl": "1h"},
            }),
            "",
        ),
        (anthropic, json!({"speed": "fast"}), "speed: expected \"standard\", found \"fast\": there is one speed"),
        (anthropic, json!({"compaction": {"x": 1}}), "compaction: expected {}, found {\"x\":1}: a prompt is never cut"),
        (anthropic, json!({"fallbacks": ["x"]}), "fallbacks: expected [], found [\"x\"]: no other model answers"),
        (anthropic, json!({"cache_control": {"type": "x"}}), "cache_control.type: expected one of ephemeral"),
        (anthropic, json!({"stop_sequences": "x"}), "stop_sequences: expected a list, found a string"),
        (anthropic, json!({"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 2048}}), ""),
        (
            anthropic,
            json!({"max_tokens": 4096, "thinking": {"type": "enabled", "budget_tokens": 1023}}),
            "thinking.budget_tokens: expected a whole number of at least 1024, found 1023",
        ),
        (
            anthropic,
            json!({"max_tokens": 2048, "thinking": {"type": "enabled", "budget_tokens": 2048}}),
            "thinking.budget_tokens: expected less than max_tokens, 2048, found 2048",
        ),
        (response, json!({"stream_options": {}}), "stream_options: expected stream: true"),
        (
            anthropic,
            json!({"thinking": {"type": "enabled", "budget_tokens": "x"}}),
            "thinking.budget_tokens: expected a whole number of at least 1024, found a string",
        ),
        (anthropic, json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens: expected a number of tokens"),
        (chat, json!({"stream": true, "stream_options": {"zz": 1}}), "stream_options.zz: there is no such field"),
        (chat, json!({"logit_bias": {"x": 1}}), "logit_bias: `x` is no token id"),
        (chat, json!({"structured_outputs": {"choice": []}}), "structured_outputs: choice: expected a list of strings"),
        (chat, json!({"guided_json": 5}), "guided_json: expected a JSON Schema, found 5"),
        (chat, json!({"guided_choice": ["a", "b"]}), ""),
        (chat, json!({"reasoning": {"effort": "low"}, "enable_thinking": false, "usage": {"include": true}}), ""),
        (chat, json!({"reasoning": {"efort": "low"}}), "reasoning.efort: there is no such field"),
        (chat, json!({"usage": {"x": true}}), "usage.x: there is no such field"),
        (
            chat,
            json!({
                "use_beam_search": false, "n_probs": 0, "id_slot": -1, "lora": [], "length_penalty": 1.0,
                "spaces_between_special_tokens": true, "reasoning_format": "auto", "include_reasoning": true, "request_id": "x",
            }),
            "",
        ),
        (
            chat,
            json!({"use_beam_search": true}),
            "use_beam_search: expected false, found true: there is no beam search",
        ),
        (ollama, option("num_predict", json!(16.0)), ""),
        (ollama, option("num_gpu", json!(99)), "options.num_gpu: expected -1 or 0, found 99: models run on the CPU"),
        (ollama, option("num_gpu", json!(0)), ""),
        (ollama, option("main_gpu", json!(1)), "options.main_gpu: expected 0, found 1: models run on the CPU"),
        (
            ollama,
            option("num_thread", json!(-1)),
            "options.num_thread: expected a whole number of at least 0, found -1",
        ),
        (
            ollama,
            option("num_keep", json!("x")),
            "options.num_keep: expected a whole number of at least -1, found a string",
        ),
        (ollama, option("num_keep", json!(24)), ""),
        (ollama, option("use_mmap", json!("x")), "options.use_mmap: expected true or false"),
        (
            ollama,
            json!({"keep_alive": "abc"}),
            "keep_alive: expected a duration such as \"5m\", or a number of seconds, found \"abc\"",
        ),
        (ollama, json!({"keep_alive": "5x"}), "keep_alive: expected a duration"),
        (ollama, json!({"keep_alive": ""}), "keep_alive: expected a duration"),
        (ollama, json!({"keep_alive": "h"}), "keep_alive: expected a duration"),
        (ollama, json!({"keep_alive": "1h30m"}), ""),
        (ollama, json!({"keep_alive": "-1"}), ""),
        (ollama, json!({"keep_alive": "1.5s"}), ""),
        (ollama, json!({"keep_alive": 0}), ""),
    ];
    for ((read, body), more, expected) in cases {
        let refused = message(read(fields(&with(body, more)), &served, "1"));
        assert!(refused.starts_with(expected) && expected.is_empty() == refused.is_empty(), "{more}: {refused:?}");
    }
    // What a template reads, it is told.
    let told = common::served("{{ messages[0].content }}{{ verbosity }} {{ reasoning_effort }}");
    let body = with(&chat.1, &json!({"verbosity": "low", "reasoning_effort": "max"}));
    let (ask, _) = openai::chat(fields(&body), &told, "1").unwrap();
    assert!(told.tokenizer.decode(&ask.prompts[0]).ends_with("low max"));
}

#[test]
fn of_allowed_tools_alone_is_called() {
    let served = served(CALLS);
    let names = ["shell", "search", "now"];
    let function = |name: &str| json!({"name": name, "parameters": {"type": "object"}});
    let whole = |name: &str| json!({"type": "function", "function": function(name)});
    let flat = |name: &str| with(&json!({"type": "function"}), &function(name));
    let inner = |mode: &str, tools: Value| json!({"mode": mode, "tools": tools});
    let named =
        json!([{"type": "function", "function": {"name": "now"}}, {"type": "function", "function": {"name": "shell"}}]);
    let short = json!([{"type": "function", "name": "now"}, {"type": "function", "name": "shell"}]);
    let [chat, response, ..] = &with_calls();
    let choice = |tools: Value, choice: Value| json!({"tools": tools, "tool_choice": choice});
    let of_chat =
        |inner: Value| choice(names.map(whole).into(), json!({"type": "allowed_tools", "allowed_tools": inner}));
    let of_response = |inner: Value| choice(names.map(flat).into(), with(&json!({"type": "allowed_tools"}), &inner));
    for (mode, expected) in [("auto", ToolChoice::Auto), ("required", ToolChoice::Required)] {
        for ((read, body), more) in
            [(chat, of_chat(inner(mode, named.clone()))), (response, of_response(inner(mode, short.clone())))]
        {
            let (ask, _) =
                read(fields(&with(body, &more)), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
            let Some((_, Constraint::Chat(form))) = ask.constraint else { panic!("{more}") };
            let called: Vec<&str> = form.tools.iter().map(|tool| &*tool.name).collect();
            assert_eq!((called, form.tool_choice), (vec!["shell", "now"], expected.clone()));
            // The prompt has all of them, so that its beginning stays the same.
            assert!(served.tokenizer.decode(&ask.prompts[0]).contains("shell search now"));
        }
    }
    for ((read, body), more, expected) in [
        (chat, of_chat(inner("any", named.clone())), "tool_choice.allowed_tools.mode: expected one of auto, required"),
        (chat, of_chat(inner("auto", json!([]))), "tool_choice: allowed_tools: expected tools, each with its name"),
        (
            chat,
            of_chat(inner("auto", short.clone())),
            "tool_choice.allowed_tools.tools[0].name: there is no such field",
        ),
        (
            chat,
            of_chat(inner("auto", json!([{"type": "function", "function": {"name": "x"}}]))),
            "tool_choice: no tool is called \"x\"",
        ),
        (response, of_response(inner("auto", named)), "tool_choice.tools[0].function: there is no such field"),
        (
            response,
            of_response(json!({"mode": "auto", "tools": short, "x": 1})),
            "tool_choice.x: there is no such field",
        ),
    ] {
        let refused = message(read(fields(&with(body, &more)), &served, "1"));
        assert!(refused.starts_with(expected), "{refused:?}");
    }
}

#[test]
fn a_response_repeats_what_it_was_asked() {
    let served = served(CALLS);
    let schema = json!({"type": "json_schema", "name": "x", "schema": {"type": "object"}});
    let body = json!({
        "input": "Hi", "user": "ann", "safety_identifier": "a", "prompt_cache_key": "b", "service_tier": "flex",
        "metadata": {"c": "d"}, "tools": [{"type": "function", "name": "now"}], "text": {"format": schema, "verbosity": "low"},
        "tool_choice": "none", "truncation": "auto", "max_tool_calls": 5, "prompt_cache_options": {"mode": "explicit"},
    });
    let whole = |body: &Value| {
        let (_, mut writer) =
            responses::response(fields(body), &served, "1").unwrap_or_else(|problem| panic!("{problem:?}"));
        writer.whole(vec![Choice { finish_reason: FinishReason::EndToken, ..Choice::new(0) }])
    };
    let response = whole(&body);
    for name in [
        "user",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_options",
        "metadata",
        "truncation",
        "max_tool_calls",
    ] {
        assert_eq!(response[name], body[name], "{response}");
    }
    let tool = json!({"type": "function", "name": "now", "description": null, "parameters": null, "strict": false});
    assert_eq!((&response["service_tier"], &response["tools"]), (&"default".into(), &json!([tool])));
    assert_eq!(response["text"], json!({"format": schema, "verbosity": "low"}));
    let bare = whole(&json!({"input": "Hi"}));
    assert!(bare.get("user").is_none() && bare["metadata"] == json!({}), "{bare}");
    assert_eq!(bare["truncation"], "disabled", "{bare}");
}

#[test]
fn a_call_that_is_cut_keeps_the_arguments_that_are_whole() {
    let served = served(CALLS);
    let [_, _, anthropic, ollama] = &with_calls();
    let own = json!({"tools": [{"name": "now", "input_schema": {"type": "object"}}]});
    let theirs = json!({"tools": [{"type": "function", "function": {"name": "now"}}]});
    for ((read, body), tools) in [(anthropic, own), (ollama, theirs)] {
        let (_, mut writer) = read(fields(&with(body, &tools)), &served, "1").unwrap();
        let text = r#"<tool_call>{"name": "now", "arguments": {"zone": "UTC", "days": [1, 2], "place": "Os"#.to_owned();
        let whole = writer.whole(vec![Choice { text, finish_reason: FinishReason::MaxTokens, ..Choice::new(0) }]);
        let (arguments, end) = match whole.get("content") {
            Some(content) => (&content[0]["input"], &whole["stop_reason"]),
            None => (&whole["message"]["tool_calls"][0]["function"]["arguments"], &whole["done_reason"]),
        };
        assert_eq!(*arguments, json!({"zone": "UTC", "days": [1, 2]}), "{whole}");
        assert!(["max_tokens", "length"].contains(&end.as_str().unwrap()), "{whole}");
    }
}
