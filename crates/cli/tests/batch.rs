//! `trine batch`: every line gets its answer, in order, the same however the run ends and goes on.

mod common;

use common::{Ran, trine, trine_with};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const MODEL: &str = "embedded:stories";
const CHATS: &str = "{% for m in messages %}{{ m.content }} {% endfor %}";

fn batch(input: &Path, output: &Path, more: &[&str]) -> Ran {
    let [input, output] = [input, output].map(|path| path.display().to_string());
    trine_with(&[&["batch", MODEL, &input, &output], more].concat())
}

/// The lines of an output, without what tells one run from another.
fn answers(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let mut answer: Value = serde_json::from_str(line).unwrap();
        if let Some(body) = answer.pointer_mut("/response/body").and_then(Value::as_object_mut) {
            body.remove("created");
        }
        if let Some(usage) = answer.pointer_mut("/response/body/usage").and_then(Value::as_object_mut) {
            usage.remove("prompt_tokens_details");
        }
        answer
    };
    text.lines().map(line).collect()
}

fn completion(id: &str, body: Value) -> String {
    json!({"custom_id": id, "method": "POST", "url": "/v1/completions", "body": body}).to_string()
}

#[test]
fn chats_with_a_model_that_has_no_template_go_on_with_their_text() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.jsonl", "out.jsonl"].map(|name| folder.path().join(name));
    let greedy = |more: Value| {
        let mut body = json!({"max_tokens": 4, "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let chat = greedy(json!({"messages": [{"role": "user", "content": "Once upon a time"}]}));
    let chat = json!({"custom_id": "chat", "method": "POST", "url": "/v1/chat/completions", "body": chat}).to_string();
    let plain = completion("plain", greedy(json!({"prompt": "Once upon a time"})));
    std::fs::write(&input, format!("{chat}\n{plain}\n")).unwrap();
    let ran = batch(&input, &output, &[]);
    assert!(ran.code == 0 && ran.err.contains("the model has no chat template"), "{}", ran.err);
    let choice = |answer: &Value, field: &str| answer["response"]["body"]["choices"][0].pointer(field).cloned();
    let answers = answers(&output);
    let text = choice(&answers[0], "/message/content");
    assert!(text.is_some() && text == choice(&answers[1], "/text"), "{answers:?}");
}

#[test]
fn each_line_gets_its_answer_or_what_is_wrong_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output, template] = ["in.jsonl", "out.jsonl", "chat.jinja"].map(|name| folder.path().join(name));
    std::fs::write(&template, CHATS).unwrap();
    let chat = |body: Value| json!({"custom_id": "chat", "url": "/v1/chat/completions", "body": body}).to_string();
    let hi = json!([{"role": "user", "content": [{"type": "text", "text": "Once upon a time"}]}]);
    let image = json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]);
    let greedy = json!({"prompt": "Once upon a time", "max_tokens": 4, "temperature": 0, "user": "x"});
    let deep = "[".repeat(100_000);
    let wrong = |pointer: &'static str, text: &'static str| (pointer, text);
    let (message, code) = ("/response/body/error/message", "/error/code");
    let cases: Vec<(String, (&str, &str))> = vec![
        (completion("a", greedy.clone()), wrong("/response/body/choices/0/text", ", there was a")),
        (completion("a", greedy.clone()), wrong(code, "duplicate_custom_id")),
        ("no JSON".to_owned(), wrong(code, "invalid_json_line")),
        (
            "{\"custom_id\": \"x\"}".to_owned(),
            wrong("/error/message", "line 4: missing field `url` at line 1 column 18"),
        ),
        (
            completion("b", json!({"prompt": "x", "top_p": 7})),
            wrong(message, "top_p = 7: expected a number from 0 to 1"),
        ),
        (
            completion("c", json!({"prompt": "x", "suffix": "y"})),
            wrong(message, "suffix: models that fill in the middle are not supported"),
        ),
        (
            completion("d", json!({"prompt": 7})),
            wrong(message, "prompt: expected a string, a list of token ids, or a list of either"),
        ),
        (completion("e", json!({"prompt": [9_999_999]})), wrong("/response/body/error/type", "invalid_request_error")),
        (completion("f", json!({"prompt": "x", "best": 1})), wrong("/response/body/error/param", "best")),
        (completion("g", json!({"prompt": deep})), wrong("/response/body/error/type", "invalid_request_error")),
        (deep.clone(), wrong(code, "invalid_json_line")),
        (
            json!({"custom_id": "h", "url": "/v1/embeddings", "body": {}}).to_string(),
            wrong("/response/body/error/param", "url"),
        ),
        (
            chat(
                json!({"messages": hi, "max_completion_tokens": 3, "temperature": 0, "logprobs": true, "top_logprobs": 2}),
            ),
            wrong("/response/body/choices/0/message/role", "assistant"),
        ),
        (
            chat(json!({"messages": image})).replace("\"chat\"", "\"image\""),
            wrong(
                message,
                "messages[0].content[0]: image_url: the model takes text alone: leave it out, or say in text what it shows",
            ),
        ),
    ];
    let lines: Vec<&str> = cases.iter().map(|(line, _)| line.as_str()).collect();
    // A byte order mark, and a last line without an end.
    std::fs::write(&input, format!("\u{FEFF}{}", lines.join("\n"))).unwrap();
    let ran = batch(&input, &output, &["--template", &template.display().to_string(), "--json"]);
    assert_eq!(ran.code, 5, "{}", ran.err);
    assert_eq!((&ran.json()["lines"], &ran.json()["failed"]), (&cases.len().into(), &(cases.len() - 2).into()));
    let found = answers(&output);
    for ((line, (pointer, expected)), answer) in cases.iter().zip(&found) {
        assert_eq!(
            answer.pointer(pointer),
            Some(&Value::from(*expected)),
            "{}: {answer}",
            &line[..line.len().min(200)]
        );
    }
    let content = found[12].pointer("/response/body/choices/0/logprobs/content").unwrap().as_array().unwrap();
    assert!(content.len() == 3 && content.iter().all(|token| token["top_logprobs"].as_array().unwrap().len() == 2));
    // Nothing is replaced or mistaken.
    for (output, more, code) in [(&output, &[][..], 2), (&input, &["--force"], 2), (&input, &["--resume"], 2)] {
        assert_eq!(batch(&input, output, more).code, code);
    }
    assert_eq!(answers(&output), found);
}

#[test]
fn answers_keep_to_their_response_format() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.jsonl", "out.jsonl"].map(|name| folder.path().join(name));
    let schema = json!({
        "type": "object", "properties": {"age": {"type": "integer", "maximum": 99}}, "required": ["age"],
        "additionalProperties": false,
    });
    let of =
        |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let ask = |id: &str, format: Value| {
        completion(id, json!({"prompt": "Once", "max_tokens": 60, "temperature": 1, "response_format": format}))
    };
    let param = "/response/body/error/param";
    let message = "/response/body/error/message";
    let unsupported = json!({"type": "array", "uniqueItems": true});
    let cases = [
        (ask("schema", of(&schema)), None),
        (ask("again", of(&schema)), None),
        (ask("text", json!({"type": "text"})), None),
        (ask("refused", of(&unsupported)), Some((message, "uniqueItems"))),
        (ask("none", json!({"type": "json_schema"})), Some((message, "json_schema.schema: expected a JSON Schema"))),
        (
            ask("xml", json!({"type": "xml"})),
            Some((message, "expected text, json_object or json_schema, found \"xml\"")),
        ),
        (
            ask("more", json!({"type": "text", "strict": true})),
            Some((message, "response_format.strict: there is no such field")),
        ),
        (ask("string", json!("json")), Some((param, "response_format"))),
        (
            completion("ends", json!({"prompt": "x", "ignore_eos": true, "response_format": {"type": "json_object"}})),
            Some((param, "ignore_eos")),
        ),
        (
            completion("stops", json!({"prompt": "x", "stop": ["b"], "response_format": {"type": "json_object"}})),
            Some((message, "stop: expected none with response_format")),
        ),
    ];
    std::fs::write(&input, cases.each_ref().map(|(line, _)| line.as_str()).join("\n")).unwrap();
    let ran = batch(&input, &output, &["--json"]);
    assert_eq!((ran.code, &ran.json()["failed"]), (5, &7.into()), "{}", ran.err);
    for ((line, wrong), answer) in cases.iter().zip(answers(&output)) {
        if let Some((pointer, expected)) = wrong {
            let found = answer.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{line}: {answer}"));
            assert!(found.contains(expected), "{line}: {answer}");
        }
    }
    for answer in &answers(&output)[..2] {
        let text = answer.pointer("/response/body/choices/0/text").and_then(Value::as_str).unwrap();
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(value["age"].as_i64().unwrap() <= 99 && value.as_object().unwrap().len() == 1, "{text}");
    }
}

#[test]
fn a_request_may_ask_for_several_answers_and_name_tools() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output, template] = ["in.jsonl", "out.jsonl", "chat.jinja"].map(|name| folder.path().join(name));
    std::fs::write(
        &template,
        "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}{{ messages[0].content }}\
         {# <tool_call> {\"name\": <function-name>, \"arguments\": <args-json-object>} </tool_call> #}",
    )
    .unwrap();
    let tools = json!([{"type": "function", "function": {"name": "Once"}}]);
    let chat = |id: &str, content: &str, more: Value| {
        let mut body = json!({"messages": [{"role": "user", "content": content}], "max_tokens": 5, "temperature": 0});
        body.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        json!({"custom_id": id, "url": "/v1/chat/completions", "body": body}).to_string()
    };
    let sampled = |seed: u64, more: Value| {
        let mut body = json!({"prompt": "The", "max_tokens": 6, "temperature": 2, "seed": seed});
        body.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        completion(&format!("{seed} {more}"), body)
    };
    let boolean = json!({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "boolean"}}});
    let cases = [
        sampled(7, json!({"n": 3, "logprobs": 0})),
        sampled(7, json!({})),
        sampled(8, json!({})),
        sampled(9, json!({})),
        sampled(7, json!({"n": 1, "best_of": 3})),
        sampled(7, json!({"n": 2, "best_of": 3, "response_format": boolean})),
        chat("tools", "upon a time", json!({"tools": tools, "tool_choice": "auto"})),
        chat("prompt", "Once upon a time", json!({"tools": []})),
        chat("none", "Once upon a time", json!({"tools": tools, "tool_choice": "none"})),
        chat("required", "x", json!({"tools": [], "tool_choice": "required"})),
        chat("bad", "x", json!({"tools": {}})),
    ];
    std::fs::write(&input, cases.join("\n")).unwrap();
    let ran = batch(&input, &output, &["--template", &template.display().to_string(), "--json", "--parallel", "2"]);
    assert_eq!((ran.code, &ran.json()["failed"]), (5, &2.into()), "{}", ran.err);
    let found = answers(&output);
    let at = |line: usize, pointer: &str| found[line].pointer(&format!("/response/body/{pointer}")).cloned();
    let text = |line: usize, choice: usize| at(line, &format!("choices/{choice}/text")).unwrap();
    let alone = [1, 2, 3].map(|line| text(line, 0));
    assert_eq!([0, 1, 2].map(|choice| text(0, choice)), alone);
    assert_eq!(
        (at(0, "choices/2/index"), at(0, "usage/prompt_tokens")),
        (Some(2.into()), at(1, "usage/prompt_tokens"))
    );
    assert!(alone[0] != alone[1] && alone[1] != alone[2], "{alone:?}");
    let completion_tokens = |line: usize| at(line, "usage/completion_tokens").unwrap().as_u64().unwrap();
    assert_eq!(completion_tokens(0), [1, 2, 3].map(completion_tokens).iter().sum::<u64>());
    // The likeliest of the three.
    let sum = |choice: usize| {
        let logprobs = at(0, &format!("choices/{choice}/logprobs/token_logprobs")).unwrap();
        logprobs.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).sum::<f64>()
    };
    let best = (0..3).max_by(|&a, &b| sum(a).total_cmp(&sum(b))).unwrap();
    assert_eq!(
        (text(4, 0), at(4, "choices/1"), at(4, "choices/0/logprobs")),
        (alone[best].clone(), None, Some(Value::Null))
    );
    assert!([0, 1].iter().all(|&i| ["true", "false"].contains(&text(5, i).as_str().unwrap())), "{}", found[5]);
    let content = |line: usize| at(line, "choices/0/message/content").unwrap();
    assert_eq!((content(6), content(8)), (content(7), content(7)));
    assert_eq!(at(6, "usage/prompt_tokens"), at(7, "usage/prompt_tokens"));
    assert_eq!([9, 10].map(|line| at(line, "error/param").unwrap()), ["tool_choice", "tools"].map(Value::from));
}

#[test]
fn embeddings_are_those_of_the_texts_alone() {
    let folder = tempfile::tempdir().unwrap();
    let [input, output] = ["in.jsonl", "out.jsonl"].map(|name| folder.path().join(name));
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders");
    let ask = |id: &str, body: Value| json!({"custom_id": id, "url": "/v1/embeddings", "body": body}).to_string();
    let texts: Vec<String> = (0..9).map(|i| "the cat sat ".repeat(1 + i * i % 7)).collect();
    let param = "/response/body/error/param";
    let cases = [
        ("no JSON".to_owned(), Some(("/error/code", "invalid_json_line"))),
        (ask("one", json!({"input": texts[0], "model": "x"})), None),
        (ask("many", json!({"input": texts[1..], "encoding_format": "float"})), None),
        (ask("many", json!({"input": "x"})), Some(("/error/code", "duplicate_custom_id"))),
        (ask("ids", json!({"input": [2, 3, 4]})), None),
        (ask("lists", json!({"input": [[2, 3, 4], [5]]})), None),
        (ask("long", json!({"input": ["x", "one ".repeat(3000)]})), Some((param, "input"))),
        (ask("large", json!({"input": [9_999_999]})), Some((param, "input"))),
        (ask("number", json!({"input": 7})), Some((param, "input"))),
        (ask("none", json!({})), Some((param, "input"))),
        (ask("base64", json!({"input": "x", "encoding_format": "xml"})), Some((param, "encoding_format"))),
        (ask("more", json!({"input": "x", "prompt": "x"})), Some((param, "prompt"))),
        (completion("text", json!({"prompt": "x"})), Some((param, "url"))),
    ];
    std::fs::write(&input, cases.each_ref().map(|(line, _)| line.as_str()).join("\n")).unwrap();
    for model in ["bert", "qwen3-embedding"] {
        let model = golden.join(model).display().to_string();
        let alone: Vec<Value> = texts.iter().map(|text| trine_with(&["embed", &model, text]).json()).collect();
        let together =
            trine_with(&[&["embed", &model][..], &texts.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        assert!(together.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).eq(alone.clone()));
        for passes in ["1", "20", "512"] {
            let paths = [&input, &output].map(|path| path.display().to_string());
            let ran = trine_with(&["batch", &model, &paths[0], &paths[1], "--force", "--json", "--batch", passes]);
            assert_eq!((ran.code, &ran.json()["failed"]), (5, &9.into()), "{}", ran.err);
            let found = answers(&output);
            assert_eq!(found.len(), cases.len());
            for ((line, wrong), answer) in cases.iter().zip(&found) {
                if let Some((pointer, expected)) = wrong {
                    assert_eq!(answer.pointer(pointer), Some(&Value::from(*expected)), "{line}: {answer}");
                }
            }
            let data = |line: usize| found[line].pointer("/response/body/data").unwrap().as_array().unwrap();
            let vectors = data(1).iter().chain(data(2)).map(|entry| &entry["embedding"]);
            assert!(vectors.eq(&alone), "{model}, {passes}");
            assert_eq!(data(4)[0], data(5)[0]);
            let tokens = found[5].pointer("/response/body/usage/total_tokens").unwrap();
            assert_eq!((data(5).len(), tokens), (2, &4.into()));
        }
    }
}

#[test]
fn a_prefix_that_was_computed_is_not_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let story = "Once upon a time there was a dog. ".repeat(8);
    let chat = json!({"messages": [{"role": "system", "content": "The cat sat on the mat. ".repeat(8)}]});
    let prefixes = file("prefixes.jsonl", &format!("{}\n\n{chat}\n", json!(story)));
    let template = file("chat.jinja", CHATS).display().to_string();
    let mut asked = chat.clone();
    asked["messages"].as_array_mut().unwrap().push(json!({"role": "user", "content": "And then"}));
    (asked["max_tokens"], asked["temperature"]) = (4.into(), 0.into());
    let asked = json!({"custom_id": "chat", "url": "/v1/chat/completions", "body": asked});
    let prompt = completion("text", json!({"prompt": format!("{story}It"), "max_tokens": 4, "temperature": 0}));
    let (input, output) = (file("in.jsonl", &format!("{prompt}\n{asked}")), folder.path().join("out.jsonl"));
    let warm = prefixes.display().to_string();
    let cached = |more: &[&str]| {
        let ran = batch(&input, &output, &[&["--template", &template, "--force"], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        let text = std::fs::read_to_string(&output).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let usage = |line: &Value| line.pointer("/response/body/usage").unwrap().clone();
        let counts = lines.iter().map(usage).map(|usage| {
            (
                usage["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap(),
                usage["prompt_tokens"].as_u64().unwrap(),
            )
        });
        (counts.collect::<Vec<_>>(), answers(&output))
    };
    let (cold, expected) = cached(&[]);
    let (counts, found) = cached(&["--warm", &warm]);
    assert_eq!(found, expected);
    assert!(cold.iter().all(|(cached, _)| *cached == 0), "{cold:?}");
    // All but what follows the last full block of the prefix.
    assert!(counts.iter().all(|(cached, tokens)| cached + 24 > *tokens && cached % 16 == 0), "{counts:?}");
    for (line, expected) in [
        ("[]", "line 1: expected a string or an object with messages"),
        ("\"x\"\n{\"prompt\": 1}", "line 2: unknown field `prompt`"),
        ("\"\"\n\"x", "line 2: EOF"),
    ] {
        let wrong = file("wrong.jsonl", line).display().to_string();
        let ran = batch(&input, &output, &["--force", "--warm", &wrong]);
        assert!(ran.code == 1 && ran.err.contains(expected), "{line}: {}", ran.err);
    }
    let long = file("long.jsonl", &json!("one ".repeat(5000)).to_string()).display().to_string();
    let ran = batch(&input, &output, &["--force", "--warm", &long]);
    assert!(ran.code == 1 && ran.err.contains("long.jsonl, line 1") && ran.err.contains("tokens"), "{}", ran.err);
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let body = |i: usize| json!({"prompt": format!("The {i} dogs"), "max_tokens": 5 + i % 40, "temperature": 0.9});
    let lines: Vec<String> = (0..120).map(|i| completion(&i.to_string(), body(i))).collect();
    std::fs::write(file("in.jsonl"), lines.join("\n")).unwrap();
    let whole = file("whole.jsonl");
    assert_eq!(batch(&file("in.jsonl"), &whole, &["--parallel", "3"]).code, 0);
    let expected = answers(&whole);
    assert_eq!(expected.len(), 120);

    let killed = file("killed.jsonl");
    let paths = [file("in.jsonl"), killed.clone()].map(|path| path.display().to_string());
    let mut child = trine().args(["batch", MODEL, &paths[0], &paths[1], "-q"]).spawn().unwrap();
    let begin = Instant::now();
    let written = || std::fs::metadata(&killed).map_or(0, |metadata| metadata.len());
    while written() < 10_000 && begin.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // As if it had been killed while it wrote a line.
    let mut bytes = std::fs::read(&killed).unwrap();
    bytes.truncate(bytes.len() - 40);
    std::fs::write(&killed, bytes).unwrap();
    let ran = batch(&file("in.jsonl"), &killed, &["--resume", "--json", "--parallel", "7"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.json()["resumed_after"].as_u64().unwrap() > 5, "{}", ran.out);
    assert_eq!(answers(&killed), expected);

    std::fs::write(file("other.jsonl"), completion("other", body(1))).unwrap();
    let ran = batch(&file("other.jsonl"), &killed, &["--resume"]);
    assert!(ran.code == 1 && ran.err.contains("line 1: expected the answer to this line of the input"), "{}", ran.err);
    let ran = batch(&file("in.jsonl"), &killed, &["--resume", "--seed", "4"]);
    assert!(ran.code == 1 && ran.err.contains("with this model and seed, found another"), "{}", ran.err);
    assert_eq!(answers(&killed), expected);

    let written = std::fs::File::open(&killed).unwrap();
    written.lock().unwrap();
    for how in ["--resume", "--force"] {
        let ran = batch(&file("in.jsonl"), &killed, &[how]);
        assert!(ran.code == 1 && ran.err.contains("that no other run writes"), "{}", ran.err);
    }
}

#[test]
fn a_run_goes_on_with_a_copy_of_the_model_and_not_with_another() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let lines: Vec<String> =
        (0..3).map(|i| completion(&i.to_string(), json!({"prompt": "The", "max_tokens": 2}))).collect();
    std::fs::write(at("in.jsonl"), lines.join("\n")).unwrap();
    let golden = |name: &str| common::golden(name).join("model.gguf");
    std::fs::copy(golden("llama"), at("a.gguf")).unwrap();
    std::fs::copy(golden("llama"), at("b.gguf")).unwrap();
    let run = |model: &str, more: &[&str]| {
        trine_with(&[&["batch", &at(model), &at("in.jsonl"), &at("out.jsonl")], more].concat())
    };
    assert_eq!(run("a.gguf", &[]).code, 0);
    let expected = answers(Path::new(&at("out.jsonl")));
    let cut = |lines: usize| {
        let text = std::fs::read_to_string(at("out.jsonl")).unwrap();
        std::fs::write(at("out.jsonl"), text.split_inclusive('\n').take(lines).collect::<String>()).unwrap();
    };
    cut(1);
    let ran = run("b.gguf", &["--resume", "--json"]);
    assert!(ran.code == 0 && ran.json()["resumed_after"] == 1, "{}", ran.err);
    let ids = |answers: &[Value]| answers.iter().map(|answer| answer["id"].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&answers(Path::new(&at("out.jsonl")))), ids(&expected));
    cut(1);
    std::fs::copy(golden("gpt2"), at("a.gguf")).unwrap();
    let ran = run("a.gguf", &["--resume"]);
    assert!(ran.code == 1 && ran.err.contains("with this model and seed, found another"), "{}", ran.err);
}

#[test]
fn a_run_does_not_go_on_after_a_file_changed_that_answers_depend_on() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let copy = |model: &str, files: &[&str]| {
        for file in files {
            std::fs::create_dir_all(folder.path().join("model").join(file).parent().unwrap()).unwrap();
            std::fs::copy(common::golden(model).join(file), folder.path().join("model").join(file)).unwrap();
        }
    };
    let run = |more: &[&str]| trine_with(&[&["batch", &at("model"), &at("in.jsonl"), &at("out.jsonl")], more].concat());
    let check = |request: &str, changes: &[(&str, &str)]| {
        std::fs::write(at("in.jsonl"), request).unwrap();
        let ran = run(&["--force"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert_eq!(run(&["--resume"]).code, 0);
        for (name, content) in changes {
            let path = folder.path().join("model").join(name);
            let before = std::fs::read(&path).ok();
            std::fs::write(&path, content).unwrap();
            let ran = run(&["--resume"]);
            assert!(
                ran.code == 1 && ran.err.contains("with this model and seed, found another"),
                "{name}: {}",
                ran.err
            );
            match before {
                Some(before) => std::fs::write(&path, before).unwrap(),
                None => std::fs::remove_file(&path).unwrap(),
            }
        }
        assert_eq!(run(&["--resume"]).code, 0);
    };
    let files = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    copy("llama", &files);
    let changes = [
        ("chat_template.jinja", "{{ messages }}"),
        ("generation_config.json", r#"{"top_k": 3}"#),
        ("tokenizer_config.json", r#"{"bos_token": "<|bos|>"}"#),
    ];
    check(&completion("a", json!({"prompt": "The", "max_tokens": 2})), &changes);
    std::fs::write(at("t.jinja"), CHATS).unwrap();
    assert_eq!(run(&["--resume", "--template", &at("t.jinja")]).code, 1);

    copy("../encoders/bert", &[&files[..], &["modules.json", "1_Pooling/config.json"]].concat());
    let changes = [
        ("1_Pooling/config.json", r#"{"pooling_mode": "max", "word_embedding_dimension": 32}"#),
        ("sentence_bert_config.json", r#"{"max_seq_length": 4}"#),
        ("config_sentence_transformers.json", r#"{"truncate_dim": 4}"#),
    ];
    check(r#"{"custom_id": "a", "url": "/v1/embeddings", "body": {"input": "a cat"}}"#, &changes);
}

#[cfg(target_os = "linux")]
#[test]
fn a_pipe_gets_all_answers_and_one_that_is_closed_ends_the_run() {
    use std::io::{BufRead, BufReader, Read};
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let lines: Vec<String> =
        (0..400).map(|i| completion(&i.to_string(), json!({"prompt": "The", "max_tokens": 1}))).collect();
    std::fs::write(file("in.jsonl"), lines.join("\n")).unwrap();
    let pipe = file("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let paths = [file("in.jsonl"), pipe.clone()].map(|path| path.display().to_string());
    for all in [true, false] {
        let mut child = trine().args(["batch", MODEL, &paths[0], &paths[1], "-q"]).spawn().unwrap();
        let mut reader = BufReader::new(std::fs::File::open(&pipe).unwrap());
        let mut text = String::new();
        reader.read_line(&mut text).unwrap();
        if all {
            reader.read_to_string(&mut text).unwrap();
            assert_eq!(text.lines().count(), 400);
        }
        drop(reader);
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > Duration::from_secs(60) {
                child.kill().unwrap();
                panic!("the run goes on without a reader");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
