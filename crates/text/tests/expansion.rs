//! A malicious `tokenizer.json` is refused, or encodes in bounded time and memory.

use serde_json::{Value, json};
use trine_text::{EncodeOptions, Tokenizer};

/// A byte-level tokenizer of the letters a and b, with a change.
fn tokenizer(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, String> {
    let mut json = json!({
        "version": "1.0", "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    });
    change(&mut json);
    Tokenizer::from_json(json.to_string().as_bytes(), None).map_err(|error| error.to_string())
}

#[test]
fn normalizers_that_blow_up_a_text_are_refused() {
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let ten = replace(json!({"String": "a"}), "aaaaaaaaaa");
    let both = json!({"type": "Sequence", "normalizers": [ten, ten]});
    for normalizer in [
        both.clone(),
        json!({"type": "Sequence", "normalizers": vec![ten.clone(); 100]}),
        json!({"type": "Sequence", "normalizers": [{"type": "Sequence", "normalizers": [both]}]}),
        replace(json!({"Regex": "."}), &"b".repeat(64)),
    ] {
        let error = tokenizer(|json| json["normalizer"] = normalizer).unwrap_err();
        assert!(error.contains("normalizer: expected steps"), "{error}");
    }
    let usual = [replace(json!({"String": " "}), "▁"), replace(json!({"Regex": " {2,}"}), " "), ten];
    let usual = json!({"type": "Sequence", "normalizers": usual});
    let tokenizer = tokenizer(|json| json["normalizer"] = usual).unwrap();
    assert_eq!(tokenizer.encode("ab", EncodeOptions::default()).len(), 10);
}

#[test]
fn what_makes_the_library_panic_is_refused() {
    for (part, value) in [
        ("normalizer", json!({"type": "Replace", "pattern": {"String": ""}, "content": "aa"})),
        ("normalizer", json!({"type": "Replace", "pattern": {"Regex": ""}, "content": "aa"})),
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="})),
        ("normalizer", json!({"type": "Precompiled", "precompiled_charsmap": "CAAAAP////////8/AA=="})),
        ("pre_tokenizer", json!({"type": "FixedLength", "length": 0})),
        (
            "post_processor",
            json!({"type": "TemplateProcessing", "special_tokens": {}, "pair": [],
            "single": [{"SpecialToken": {"id": "x", "type_id": 0}}]}),
        ),
    ] {
        let error = tokenizer(|json| json[part] = value).unwrap_err();
        assert!(error.starts_with("tokenizer.json: "), "{error}");
    }
}

#[test]
fn patterns_that_try_everything_come_to_an_end() {
    for regex in ["(a+)+$", "(?=((a+a+)+c))z", "(a|aa)+(?!b)c", "(a|a)*(?=c)"] {
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let tokenizer = tokenizer(|json| json["pre_tokenizer"] = split).unwrap();
        assert!(tokenizer.encode(&"a".repeat(100), EncodeOptions::default()).len() <= 100);
    }
}
