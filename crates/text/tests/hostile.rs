//! Damaged and hostile tokenizer files: an error that names what is wrong, or a tokenizer that works; and texts that are hard on them.

mod common;

use common::{PLAIN, algorithms, golden};
use proptest::prelude::*;
use serde_json::{Value, json};
use trine_text::{EncodeOptions, Result, Tokenizer, Vocab};

const JSON: [&str; 5] =
    ["wordpiece.json", "unigram.json", "byte-fallback.json", "byte-level.json", "wordpiece-cased.json"];
const MODELS: [&str; 4] = ["spm-bpe.model", "spm-bpe-rules.model", "spm-unigram.model", "spm-unigram-bytes.model"];

/// A tokenizer that could be read encodes and decodes without a panic, and gives only ids that it has.
fn works(tokenizer: Result<Tokenizer>) {
    let Ok(tokenizer) = tokenizer else { return };
    for special in [false, true] {
        let ids = tokenizer.encode(
            "ab <s> <sep>Größe 12\n\n½e\u{301} ﬁ 🦙\0",
            EncodeOptions { parse_special: special, add_special: true },
        );
        assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
        tokenizer.decode(&ids);
    }
}

proptest! {
    #[test]
    fn no_damaged_file_panics(
        file in 0..9usize,
        cut in prop::option::weighted(0.3, any::<prop::sample::Index>()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let name = MODELS.iter().chain(&JSON).nth(file).unwrap();
        let mut bytes = golden(name);
        changes.iter().for_each(|(at, byte)| *at.get_mut(&mut bytes) = *byte);
        let bytes = cut.map_or(&bytes[..], |at| &bytes[..at.index(bytes.len())]);
        works(if file < MODELS.len() { Tokenizer::from_model(bytes, None) } else { Tokenizer::from_json(bytes, None) });
    }

    #[test]
    fn no_damaged_rules_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u32>()), 1..4)) {
        let mut rules = rules();
        for (at, value) in changes {
            let at = at.index(rules.len() - 4);
            rules[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        works(Tokenizer::new(unigram(&rules)));
    }

    #[test]
    fn nothing_else_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        works(Tokenizer::from_model(&bytes, Some(&bytes)));
        works(Tokenizer::from_sentencepiece(&bytes));
        works(Tokenizer::from_tiktoken(&bytes));
        works(Tokenizer::from_json(&bytes, None));
        works(Tokenizer::new(unigram(&bytes)));
    }
}

/// The rules in a file of SentencePiece: what follows the tag and the length of its field.
fn rules() -> Vec<u8> {
    let model = golden("spm-unigram.model");
    // Blocks of 1024 bytes, so many of them that the length has two bytes.
    let blocks = |at: &usize| {
        let size = model.get(at + 3..at + 7).map_or(0, |size| u32::from_le_bytes(size.try_into().unwrap()));
        let len = usize::from(model[at + 1] & 0x7F) | usize::from(*model.get(at + 2).unwrap_or(&0)) << 7;
        model[*at] == 0x12
            && size > 0
            && size.is_multiple_of(1024)
            && (size as usize) < len
            && at + 3 + len <= model.len()
    };
    let at = (0..model.len() - 2).find(blocks).expect("rules");
    let len = usize::from(model[at + 1] & 0x7F) | usize::from(model[at + 2]) << 7;
    model[at + 3..at + 3 + len].to_vec()
}

fn unigram(rules: &[u8]) -> Vocab<'static> {
    let mut vocab = Vocab {
        model: "t5",
        tokens: vec!["<unk>", "</s>", "\u{2581}", "a", "fi"],
        scores: vec![0.0, 0.0, -1.0, -2.0, -3.0].into(),
        token_types: vec![2, 3, 1, 1, 1].into(),
        ..Vocab::default()
    };
    vocab.normalization.charsmap = rules.to_vec().into();
    vocab
}

#[test]
fn malformed_normalization_rules_are_refused() {
    let rules = rules();
    let tokenizer = Tokenizer::new(unigram(&rules)).unwrap();
    assert_eq!(tokenizer.encode("a\u{fb01}\u{200b}a", PLAIN), [3, 4, 3]);
    let size = u32::from_le_bytes(rules[..4].try_into().unwrap()) as usize;
    type Spoil = fn(&mut Vec<u8>, usize);
    let cases: [(&str, Spoil); 7] = [
        ("expected at least 4 bytes", |rules, _| rules.truncate(3)),
        ("expected an array of blocks", |rules, size| rules.truncate(size)),
        ("expected an array of blocks", |rules, _| rules[..4].copy_from_slice(&u32::MAX.to_le_bytes())),
        ("expected an array of blocks", |rules, _| rules[..4].fill(0)),
        ("unit 0: expected children below", |rules, _| rules[4..8].copy_from_slice(&(1u32 << 30).to_le_bytes())),
        ("expected a replacement in", |rules, size| rules.truncate(size + 5)),
        ("replacements: invalid utf-8", |rules, size| rules[size + 4] = 0xFF),
    ];
    for (part, spoil) in cases {
        let mut rules = rules.clone();
        spoil(&mut rules, size);
        let error = Tokenizer::new(unigram(&rules)).unwrap_err().to_string();
        assert!(error.starts_with("precompiled_charsmap: ") && error.contains(part), "{part}: {error}");
    }
}

/// A protocol buffer's field of bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![tag << 3 | 2];
    let mut len = bytes.len();
    while len > 0x7F {
        field.push(len as u8 | 0x80);
        len >>= 7;
    }
    field.push(len as u8);
    [field, bytes.to_vec()].concat()
}

#[test]
fn the_error_for_a_malformed_tokenizer_model_names_the_field() {
    let piece = |name: &str, score: f32, kind: u8| {
        field(
            1,
            &[field(1, name.as_bytes()), [vec![0x15], score.to_le_bytes().to_vec(), vec![0x18, kind]].concat()]
                .concat(),
        )
    };
    let whole = golden("spm-bpe.model");
    let cases = [
        ("ModelProto", whole[..whole.len() - 3].to_vec()),
        ("ModelProto", [vec![0x0A], vec![0xFF; 9], vec![0x7F]].concat()),
        (
            "SentencePiece.piece: ModelProto.pieces: invalid string value: data is not UTF-8",
            field(1, &field(1, &[0xFF, 0xFE])),
        ),
        ("pieces[1] (`<0x-1>`): expected a byte", [piece("a", 0.0, 1), piece("<0x-1>", 0.0, 6)].concat()),
        ("pieces[0] (`<0xGG>`): expected a byte", piece("<0xGG>", 0.0, 6)),
        ("pieces[0] (`a`): expected a finite score", piece("a", f32::NAN, 1)),
        ("pieces[0] (`a`): expected a type from 1 to 6", piece("a", 0.0, 9)),
        ("pieces[0] (`a`): expected another type than UNUSED (5)", piece("a", 0.0, 5)),
        ("trainer_spec.model_type: expected unigram (1) or bpe (2), found char (4)", field(2, &[0x18, 4])),
        ("treat_whitespace_as_suffix", field(2, &[0xC0, 0x01, 1])),
        ("escape_whitespaces", field(3, &[0x28, 0])),
        ("denormalizer_spec.precompiled_charsmap", field(5, &field(2, b"x"))),
        ("precompiled_charsmap: expected at least 4 bytes", [piece("a", 0.0, 1), field(3, &field(2, b"x"))].concat()),
        ("tokens: expected 1 to", Vec::new()),
        ("line 2: expected base64, a space and a rank", b"IQ== 0\nx 1\n".to_vec()),
        ("line 2: expected rank 1, found 4294967296", b"IQ== 0\nIg== 4294967296\n".to_vec()),
        ("line 2: expected a new token", b"IQ== 0\nIQ== 1\n".to_vec()),
        ("expected the 128000 ranks of Llama 3", b"IQ== 0\nIg== 1\n".to_vec()),
    ];
    for (part, bytes) in cases {
        let error = Tokenizer::from_model(&bytes, None).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn the_error_for_a_malformed_tokenizer_json_names_the_field() {
    let spoiled = |name: &str, pointer: &str, value: Value| {
        let mut json: Value = serde_json::from_slice(&golden(name)).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        json.to_string()
    };
    let text = |name: &str| String::from_utf8(golden(name)).unwrap();
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    let cases = [
        ("recursion limit", format!(r#"{{"decoder": {}}}"#, deep("[", "]"))),
        (
            "recursion limit",
            format!(r#"{{"normalizer": {}1{}}}"#, r#"{"normalizers":["#.repeat(9_000), "]}".repeat(9_000)),
        ),
        ("hex escape", text("byte-level.json").replace("<mask>", r"\ud800")),
        (
            "decoder: expected ByteLevel",
            spoiled("byte-level.json", "/decoder", json!({"type": "BPEDecoder", "suffix": "</w>"})),
        ),
        ("decoder: expected ByteLevel", spoiled("byte-level.json", "/decoder", Value::Null)),
        ("model.unk_id: expected a token", spoiled("unigram.json", "/model/unk_id", Value::Null)),
        ("model.unk_token: expected a token", spoiled("wordpiece.json", "/model/unk_token", json!("[X]"))),
        ("model.dropout", spoiled("byte-fallback.json", "/model/dropout", json!(0.5))),
        (
            "precompiled_charsmap: expected at least 4 bytes",
            spoiled("unigram.json", "/normalizer", json!({"type": "Precompiled", "precompiled_charsmap": ""})),
        ),
        ("out of vocabulary", spoiled("byte-fallback.json", "/model/merges", json!([["a", "no such token"]]))),
        ("4000000000", spoiled("wordpiece.json", "/model/vocab/a", json!(4_000_000_000u32))),
    ];
    for (part, json) in cases {
        let error = Tokenizer::from_json(json.as_bytes(), None).unwrap_err().to_string();
        assert!(error.starts_with("tokenizer.json: ") && error.contains(part), "{part}: {error:.300}");
    }
}

#[test]
fn ten_million_letters_and_a_million_without_a_space() {
    let letters = "a".repeat(10_000_000);
    let many = (0..1_000_000u32).map(|i| char::from(b'a' + (i.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    for (name, tokenizer) in algorithms() {
        // One of each algorithm.
        let texts = match name {
            "spm-bpe" | "spm-unigram-bytes" | "wordpiece" | "byte-fallback" | "byte-level" => vec![&letters, &many],
            _ => vec![&many],
        };
        for text in texts {
            let ids = tokenizer.encode(text, PLAIN);
            assert!(common::LOSSY.contains(&name) || tokenizer.decode(&ids) == *text, "{name}");
        }
    }
}
