//! The tokens that the libraries of each kind of file give for the same texts (golden/vocabularies.py).

mod common;

use common::{golden, shared};
use serde_json::Value;
use trine_text::{EncodeOptions, Result, Tokenizer};

fn open(name: &str) -> Option<Result<Tokenizer>> {
    let bytes = match name.strip_prefix("shared/") {
        Some(name) => std::fs::read(shared(&format!("tokenizers/{name}"))?).unwrap(),
        None => golden(name),
    };
    Some(if name.ends_with(".json") { Tokenizer::from_json(&bytes, None) } else { Tokenizer::from_model(&bytes, None) })
}

#[test]
fn every_file_gives_the_tokens_of_its_own_library() {
    let all: serde_json::Map<String, Value> = serde_json::from_slice(&golden("golden.json")).unwrap();
    let mut wrong = Vec::new();
    for (name, rows) in &all {
        let Some(tokenizer) = open(name) else { continue };
        let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{name}: {error}"));
        for row in rows.as_array().unwrap() {
            let text = row[0].as_str().unwrap();
            let expected: Vec<u32> = row[1].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            // SentencePiece and tiktoken take the names of control tokens as text.
            let ids =
                tokenizer.encode(text, EncodeOptions { parse_special: name.ends_with(".json"), add_special: false });
            if ids != expected {
                wrong.push(format!("{name}: {text:?}\n  expected {expected:?}\n  found    {ids:?}"));
            }
            let decoded = tokenizer.decode(&expected);
            if row[2].as_str().is_some_and(|text| text != decoded) {
                wrong.push(format!("{name}: {:?} is decoded as {decoded:?}", row[2]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
