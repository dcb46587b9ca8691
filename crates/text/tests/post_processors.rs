//! What is added around a text is what the tokenizers crate adds, also by several post-processors in a row.

use serde_json::{Value, json};
use std::panic::catch_unwind;
use trine_text::{EncodeOptions, Tokenizer};

fn template(pieces: &[&str]) -> Value {
    let piece = |piece: &&str| match *piece {
        "$A" => json!({"Sequence": {"id": "A", "type_id": 0}}),
        name => json!({"SpecialToken": {"id": name, "type_id": 0}}),
    };
    let special = |name: &str, ids: &[u32]| json!({"id": name, "ids": ids, "tokens": vec![name; ids.len()]});
    json!({
        "type": "TemplateProcessing", "single": pieces.iter().map(piece).collect::<Vec<_>>(), "pair": [],
        "special_tokens": {"<s>": special("<s>", &[1]), "</s>": special("</s>", &[2]), "<2>": special("<2>", &[1, 5])},
    })
}

fn tokenizer(post_processor: &Value) -> String {
    let added = |id: u32, name: &str| json!({"id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null,
        "added_tokens": [added(1, "<s>"), added(2, "</s>")],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": post_processor,
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": false},
        "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "<s>": 1, "</s>": 2, "the": 3, "mill": 4, "a": 5}, "unk_token": "<unk>"},
    })
    .to_string()
}

#[test]
fn post_processors_in_a_row_add_what_they_add_in_the_tokenizers_crate() {
    let level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let ends = json!({"sep": ["</s>", 2], "cls": ["<s>", 1]});
    let with = |kind: &str, more: Value| {
        let mut processor = ends.clone();
        processor["type"] = kind.into();
        processor.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        processor
    };
    let processors = [
        level,
        template(&["<s>", "$A"]),
        template(&["$A", "</s>"]),
        template(&["<2>", "$A", "</s>"]),
        template(&["$A"]),
        template(&["$A", "$A"]),
        template(&["<s>"]),
        with("RobertaProcessing", json!({"trim_offsets": true, "add_prefix_space": false})),
        with("BertProcessing", json!({})),
    ];
    let sequence = |processors: &[&Value]| json!({"type": "Sequence", "processors": processors});
    let pairs = processors.iter().flat_map(|a| processors.iter().map(move |b| (a, b)));
    let all = processors.iter().cloned().chain(pairs.clone().map(|(a, b)| sequence(&[a, b])));
    let nested = pairs.map(|(a, b)| sequence(&[&processors[0], &sequence(&[a, b])]));
    let (mut same, mut refused) = (0, 0);
    for processor in all.chain(nested) {
        let json = tokenizer(&processor);
        // It panics where a template follows what gives several parts.
        let theirs = |text: &'static str| {
            let json = json.clone();
            let encode = move || {
                let encoding = json.parse::<tokenizers::Tokenizer>().unwrap().encode(text, true).unwrap();
                encoding.get_ids().to_vec()
            };
            catch_unwind(encode).ok()
        };
        let texts = ["the mill", "a", ""];
        match Tokenizer::from_json(json.as_bytes(), None) {
            Ok(tokenizer) => {
                let options = EncodeOptions { parse_special: false, add_special: true };
                texts.iter().for_each(|text| {
                    assert_eq!(Some(tokenizer.encode(text, options)), theirs(text), "{text:?}, {processor}");
                });
                same += 1;
            }
            Err(error) => {
                let once = theirs("mill").is_some_and(|ids| ids.iter().filter(|&&id| id == 4).count() == 1);
                assert!(!once, "{error}: {processor}");
                refused += 1;
            }
        }
    }
    assert!(same > 80 && refused > 20, "{same}, {refused}");
}
