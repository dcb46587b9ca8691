//! Answers of a given form.

mod common;

use common::{run, trine, trine_with};
use serde_json::Value;

const SCHEMA: &str = r#"{"type": "object", "properties": {"name": {"type": "string", "maxLength": 8}}, "required": ["name"],
    "additionalProperties": false}"#;

#[test]
fn an_answer_has_the_form_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (schema, lark) =
        (file("schema.json", SCHEMA), file("list.lark", "start: item item\nitem: \"- \" /[a-z]{1,5}/ \"\\n\"\n"));
    let answer = |flag: &str, value: &str| {
        let ran = trine_with(&[
            "run",
            "embedded:stories",
            "Once",
            "--json",
            "--seed",
            "3",
            "--max-tokens",
            "200",
            flag,
            value,
        ]);
        assert_eq!(ran.code, 0, "{flag}: {}", ran.err);
        assert_eq!(ran.json()["finish_reason"], "stop", "{flag}: {}", ran.out);
        ran.json()["text"].as_str().unwrap().to_owned()
    };
    assert!(["big", "small"].contains(&answer("--choices", "big,small").as_str()));
    assert!(answer("--regex", "[a-c]{3}-[0-9]").len() == 5);
    // As some editors write it.
    let marked = file("marked.json", &format!("\u{feff}{SCHEMA}"));
    assert_eq!(answer("--json-schema", &marked), answer("--json-schema", &schema));
    let value: Value = serde_json::from_str(&answer("--json-schema", &schema)).unwrap();
    assert!(value["name"].is_string(), "{value}");
    let list = answer("--grammar", &lark);
    assert!(list.lines().count() == 2 && list.lines().all(|line| line.starts_with("- ")), "{list}");
    // Cut off, which is said.
    let ran = trine_with(&["run", "embedded:stories", "Once", "--json", "--json-schema", &schema, "--max-tokens", "2"]);
    assert_eq!((ran.code, &ran.json()["finish_reason"]), (0, &"length".into()));
    // Each text of many.
    let out = file("texts.jsonl", "");
    let regex = ["--prompt", "Once: ", "--regex", "[a-c]{3}-[0-9]"];
    let ran = trine_with(&[&["generate-data", "embedded:stories", &out, "--count", "5"][..], &regex].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let texts = std::fs::read_to_string(&out).unwrap();
    let texts: Vec<Value> = texts.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let form =
        |text: &str| text.len() == 5 && text[..3].chars().all(|c| "abc".contains(c)) && text[3..].starts_with('-');
    let is_form = |text: &Value| text["text"].as_str().unwrap().strip_prefix("Once: ").is_some_and(form);
    assert!(texts.len() == 5 && texts.iter().all(is_form), "{texts:?}");
    let wrong =
        trine_with(&["generate-data", "embedded:stories", "x.jsonl", "--count", "1", "--regex", "a", "--ignore-eos"]);
    assert!(wrong.code == 2 && wrong.err.contains("'--ignore-eos'"), "{}", wrong.err);
    // Each of several answers, as alone with its seed.
    let several = |seed: &str, more: &[&str]| {
        let args = ["run", "embedded:stories", "Once", "--json", "--regex", "[a-d]{3}", "--seed", seed];
        let ran = trine_with(&[&args[..], more].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.json()
    };
    let texts = |answers: &Value| {
        let choices = answers["choices"].as_array().unwrap().iter();
        choices.map(|choice| choice["text"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let alone = ["3", "4", "5"].map(|seed| several(seed, &[])["text"].as_str().unwrap().to_owned());
    assert_eq!(texts(&several("3", &["-n", "3"])), alone);
    let best = texts(&several("3", &["--best-of", "3"]));
    assert!(best.len() == 1 && alone.contains(&best[0]), "{best:?} {alone:?}");
    // A stop string of the file holds for other answers.
    let config = file("config.toml", "stop = \"b\"");
    let ran = trine_with(&["run", "embedded:stories", "Once", "--choices", "abc", "--config", &config]);
    assert_eq!(ran.out.trim(), "abc", "{}", ran.err);
    // Each answer of a chat.
    let ran = run(trine().args(["run", "embedded:stories", "--choices", "yes,no", "-q"]), "Is it?\n");
    assert!(["yes", "no"].contains(&ran.out.trim()), "{}", ran.out);
}

#[test]
fn what_is_wrong_is_named_before_a_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let unique = file("unique.json", br#"{"properties": {"a": {"uniqueItems": true}}}"#);
    let (bytes, cut) = (file("bytes.json", b"\xff"), file("cut.json", b"{"));
    let missing = folder.path().join("missing.json").display().to_string();
    for (args, expected) in [
        (&["--json-schema", &unique][..], "#/properties/a/uniqueItems: not supported"),
        (&["--json-schema", &missing], "missing.json"),
        (&["--json-schema", &bytes], "expected UTF-8"),
        (&["--json-schema", &cut], "invalid JSON Schema: EOF"),
        (&["--regex", "("], "invalid regular expression: unclosed group"),
        (&["--choices", "a,,b"], "invalid list of choices"),
        (&["--regex", "a", "--choices", "a"], "cannot be used with"),
        (&["--json-schema", &unique, "--regex", "a"], "cannot be used with"),
        (&["--regex", "a", "--ignore-eos"], "cannot be used with"),
        (&["--choices", "abc,abd", "--stop", "b"], "cannot be used with"),
        (&["--json-schema", &unique, "--stop-token-ids", "1"], "cannot be used with"),
    ] {
        let ran = trine_with(&[&["run", "no-such-model.gguf", "Once"], args].concat());
        assert!(ran.code == 2 && ran.err.contains(expected), "{args:?}: {} {}", ran.code, ran.err);
    }
}
