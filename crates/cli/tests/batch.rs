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
            completion("c", json!({"prompt": "x", "n": 2})),
            wrong(message, "n: expected 1, found 2: it is not supported in batches"),
        ),
        (completion("d", json!({"prompt": 7})), wrong(message, "prompt: expected a string or a list of token ids")),
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
            wrong(message, "messages[0]: content: expected parts of type \"text\", found \"image_url\""),
        ),
    ];
    let lines: Vec<&str> = cases.iter().map(|(line, _)| line.as_str()).collect();
    // A byte order mark, and a last line without an end.
    std::fs::write(&input, format!("\u{FEFF}{}", lines.join("\n"))).unwrap();
    let ran = batch(&input, &output, &["--template", &template.display().to_string(), "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
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
    for (output, more, code) in [(&output, &[][..], 2), (&input, &["--force"], 1), (&input, &["--resume"], 1)] {
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
        (ask("more", json!({"type": "text", "strict": true})), Some((message, "found strict"))),
        (ask("string", json!("json")), Some((param, "response_format"))),
        (
            completion("ends", json!({"prompt": "x", "ignore_eos": true, "response_format": {"type": "json_object"}})),
            Some((param, "ignore_eos")),
        ),
    ];
    std::fs::write(&input, cases.each_ref().map(|(line, _)| line.as_str()).join("\n")).unwrap();
    let ran = batch(&input, &output, &["--json"]);
    assert_eq!((ran.code, &ran.json()["failed"]), (0, &6.into()), "{}", ran.err);
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
    assert!(ran.code == 1 && ran.err.contains("expected the answer to none, found custom_id \"119\""), "{}", ran.err);
}
