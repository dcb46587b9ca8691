//! The tokens of a prompt: what a tokenizer puts before every text, once, and not what it puts after.

use serde_json::{Value, json};
use std::path::Path;
use trine_engine::prompt_tokens;
use trine_text::Tokenizer;

/// The golden byte-level tokenizer with other tokens around texts, which are 0 (`<s>`), 502 (`<mask>`) and bytes in the order of GPT-2.
fn tokenizer(around: &[&str]) -> Tokenizer {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers/byte-level.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    let part = |name: &&str| match *name {
        "A" | "B" => json!({"Sequence": {"id": name, "type_id": 0}}),
        _ => json!({"SpecialToken": {"id": name, "type_id": 0}}),
    };
    let parts = |names: &[&str]| -> Value { names.iter().map(part).collect() };
    json["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": parts(around),
        "pair": parts(&["A", "B"]),
        "special_tokens": {
            "<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]},
            "<mask>": {"id": "<mask>", "ids": [502], "tokens": ["<mask>"]},
        },
    });
    Tokenizer::from_json(json.to_string().as_bytes(), Some(br#"{"bos_token": "<s>"}"#)).unwrap()
}

#[test]
fn all_tokens_before_a_text_are_put_there_once() {
    let digits = tokenizer(&["A"]).encode("12", Default::default());
    let with = |prefix: &[u32]| [prefix, &digits].concat();
    for (around, text, expected) in [
        (&["A"][..], "12", with(&[])),
        (&["A"], "", vec![0]),
        (&["<s>", "A"], "12", with(&[0])),
        (&["<s>", "A"], "<s>12", with(&[0])),
        (&["<s>", "A"], "", vec![0]),
        (&["<s>", "A", "<mask>"], "12", with(&[0])),
        (&["<s>", "<mask>", "A"], "12", with(&[0, 502])),
        (&["<s>", "<mask>", "A"], "<s><mask>12", with(&[0, 502])),
        (&["<mask>", "A"], "12", with(&[502])),
        (&["<mask>", "A"], "<s>12", with(&[502, 0])),
        (&["<mask>", "A"], "", vec![502]),
    ] {
        assert_eq!(prompt_tokens(&tokenizer(around), text), expected, "{around:?} {text:?}");
    }
}
