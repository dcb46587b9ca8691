//! What is true of every tokenizer: round trips, streams, and that nothing hostile gets through.

mod common;

use common::{LOSSY, PLAIN, SPACED};
use proptest::prelude::*;
use std::sync::LazyLock;
use trine_text::{DecodeStream, EncodeOptions, TokenType, Tokenizer, Vocab};

static TOKENIZERS: LazyLock<Vec<(&str, Tokenizer)>> =
    LazyLock::new(|| common::algorithms().into_iter().chain(common::tokenizers()).collect());

/// Decoding gives the text back, whole and token by token.
fn check(name: &str, tokenizer: &Tokenizer, text: &str) {
    // SentencePiece has no other spelling for U+2581 than the one for a space.
    let spaced = SPACED.contains(&name) || LOSSY.contains(&name);
    let text = &if spaced { text.replace('\u{2581}', " ") } else { text.to_owned() };
    let ids = tokenizer.encode(text, PLAIN);
    let decoded = tokenizer.decode(&ids);
    let known =
        ids.iter().all(|&id| !matches!(tokenizer.token_type(id), Some(TokenType::Unknown | TokenType::Control)));
    if LOSSY.contains(&name) {
        let again = tokenizer.decode(&tokenizer.encode(&decoded, PLAIN));
        assert!(again == decoded || !known, "{name}: {text:.60?} {decoded:.60?} {again:.60?}");
    } else {
        assert!(decoded == *text, "{name}: {text:.60?} {decoded:.60?}");
    }
    for (mut stream, expected) in [
        (DecodeStream::new(tokenizer), decoded),
        (DecodeStream::with_special(tokenizer), tokenizer.decode_with_special(&ids)),
    ] {
        let mut streamed: String = ids.iter().map(|&id| stream.push(tokenizer, id).to_owned()).collect();
        streamed.push_str(stream.finish());
        assert_eq!(streamed, expected, "{name}");
    }
}

/// A token by itself has the space before its word, which only the beginning of a text lacks.
#[test]
fn the_texts_of_tokens_joined_are_the_text() {
    for (name, tokenizer) in TOKENIZERS.iter() {
        let ids = tokenizer.encode("the cat sat on the mat", PLAIN);
        let joined: String = ids.iter().map(|&id| tokenizer.token_text(id)).collect();
        let text = tokenizer.decode(&ids);
        assert!(joined == text || joined.strip_prefix(' ') == Some(&text), "{name}: {joined:?} and {text:?}");
    }
}

proptest! {
    #[test]
    fn decoding_gives_any_text_back(text in any::<String>(), words in "[ a-zA-Z0-9'.,\n\t▁é你🦙<|>_]{0,60}") {
        for (name, tokenizer) in TOKENIZERS.iter() {
            check(name, tokenizer, &text);
            check(name, tokenizer, &words);
        }
    }

    #[test]
    fn any_tokens_decode_as_they_stream(ids in prop::collection::vec(any::<u16>(), 0..60)) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids: Vec<u32> = ids.iter().map(|&id| u32::from(id)).collect();
            let mut stream = DecodeStream::after_prompt(tokenizer);
            let mut streamed: String = ids.iter().map(|&id| stream.push(tokenizer, id).to_owned()).collect();
            streamed.push_str(stream.finish());
            let text = |&&id: &&u32| tokenizer.token_type(id).is_some_and(|kind| !matches!(kind, TokenType::Control | TokenType::Unknown));
            let bytes: Vec<u8> = ids.iter().filter(text).flat_map(|&id| tokenizer.piece(id).unwrap()).copied().collect();
            assert_eq!(streamed, String::from_utf8_lossy(&bytes), "{name}");
        }
    }

    #[test]
    fn no_vocabulary_panics(
        model in "llama|gpt2|bert|t5|gemma4|",
        pre in prop::option::of("llama-bpe|qwen2|gpt-2|default|falcon|[a-z]{0,3}"),
        tokens in prop::collection::vec("[a-c▁Ġ]{0,3}|<0x[0-9A-F]{1,2}>|<s>|</s>|<\\|end\\|>|<0x-1>|\\PC{0,3}", 0..30),
        scores in prop::collection::vec(any::<f32>(), 0..30),
        types in prop::collection::vec(0..8i32, 0..30),
        merges in prop::collection::vec("[a-cĠ]{0,2} [a-cĠ]{0,2}|[ab]{0,3}", 0..8),
        ids in prop::array::uniform4(prop::option::of(0..40u32)),
        flags in any::<[Option<bool>; 3]>(),
        fit in any::<bool>(),
        text in "[a-c ▁é<s>|end]{0,40}|\\PC{0,20}",
    ) {
        let len = tokens.len();
        let fitted = |id: Option<u32>| id.map(|id| if fit { id % len.max(1) as u32 } else { id });
        let [bos, eos, eot, unk] = ids.map(fitted);
        let fill = |x: f32| if fit && x.is_nan() { 0.0 } else { x };
        let vocab = Vocab {
            scores: if fit { (0..len).map(|i| fill(*scores.get(i).unwrap_or(&0.0))).collect() } else { scores.into() },
            token_types: if fit { Vec::new() } else { types }.into(),
            merges: if fit { Vec::new() } else { merges.iter().map(String::as_str).collect() },
            model: &model, pre: pre.as_deref(), tokens: tokens.iter().map(String::as_str).collect(), bos, eos, eot, unk, pad: None,
            add_bos: flags[0], add_eos: flags[1], add_space_prefix: flags[2], ..Vocab::default()
        };
        if let Ok(tokenizer) = Tokenizer::new(vocab) {
            for (special, add_special) in [(false, false), (true, true)] {
                let ids = tokenizer.encode(&text, EncodeOptions { parse_special: special, add_special });
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.len()));
                tokenizer.decode(&ids);
            }
            tokenizer.decode_with_special(&[0, 1, 2, u32::MAX]);
        }
    }

    #[test]
    fn no_json_panics(json in prop::collection::vec(0..JSON.len(), 0..3), byte in any::<u8>(), config in "\\PC{0,20}") {
        let mut mangled = JSON.to_vec();
        json.into_iter().for_each(|at| mangled[at] = byte);
        if let Ok(tokenizer) = Tokenizer::from_json(&mangled, None) {
            let ids = tokenizer.encode("ab <s>é", EncodeOptions { parse_special: true, add_special: true });
            tokenizer.decode(&ids);
        }
        let _ = Tokenizer::from_json(JSON, Some(config.as_bytes()));
    }
}

/// The smallest SentencePiece-like `tokenizer.json`.
const JSON: &[u8] = br#"{"version": "1.0", "truncation": null, "padding": null,
 "added_tokens": [{"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
 "normalizer": {"type": "Prepend", "prepend": "_"}, "pre_tokenizer": null,
 "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
 "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
 "model": {"type": "BPE", "dropout": null, "unk_token": null, "byte_fallback": true, "fuse_unk": false, "vocab": {"<s>": 0, "a": 1, "b": 2, "ab": 3, "<0xC3>": 4, "<0xA9>": 5, "_": 6}, "merges": [["a", "b"]]}}"#;

#[test]
fn a_tokenizer_json_like_sentencepiece_is_read() {
    let tokenizer = Tokenizer::from_json(JSON, None).unwrap();
    assert_eq!(
        tokenizer.encode("ab\u{e9}", EncodeOptions { parse_special: false, add_special: true }),
        [0, 6, 3, 4, 5]
    );
    assert_eq!(tokenizer.decode(&[0, 3, 4, 5]), "ab\u{e9}");
    assert_eq!(tokenizer.token_type(4), Some(TokenType::Byte));
    let far = String::from_utf8(JSON.to_vec()).unwrap().replace("\"_\": 6", "\"_\": 4000000000");
    assert!(Tokenizer::from_json(far.as_bytes(), None).unwrap_err().to_string().contains("4000000000"));
}

#[test]
fn bos_goes_in_front_where_the_tokenizer_says_so_not_where_there_is_one() {
    let json = std::str::from_utf8(JSON).unwrap();
    let processor =
        &json[json.find("{\"type\": \"TemplateProcessing\"").unwrap()..json.find(",\n \"decoder\"").unwrap()];
    for (json, by_itself) in [(json.to_owned(), true), (json.replace(processor, "null"), false)] {
        for named in ["", r#""bos_token": "<s>""#] {
            for (key, adds) in
                [("", by_itself), (r#""add_bos_token": true"#, true), (r#""add_bos_token": false"#, false)]
            {
                let keys: Vec<&str> = [named, key].into_iter().filter(|key| !key.is_empty()).collect();
                let config = format!("{{{}}}", keys.join(", "));
                let tokenizer = Tokenizer::from_json(json.as_bytes(), Some(config.as_bytes())).unwrap();
                // No key defines the token.
                let adds = adds && (by_itself || !named.is_empty());
                assert_eq!(tokenizer.adds_bos(), adds, "{by_itself} {config}");
                assert_eq!(
                    tokenizer.encode("a", EncodeOptions { parse_special: false, add_special: true })[0] == 0,
                    adds
                );
            }
        }
    }
}

#[test]
fn long_texts_take_no_longer_than_they_are() {
    let long = [" ", "a", "\n", "ab1-", "é", "a b ", "'", "A", "<s>"].map(|part| part.repeat(200_000 / part.len()));
    for (name, tokenizer) in TOKENIZERS.iter() {
        for text in &long {
            check(name, tokenizer, text);
        }
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let good = || Vocab {
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens: vec!["a", "b", "ab"],
        merges: vec!["a b"],
        ..Vocab::default()
    };
    assert_eq!(Tokenizer::new(good()).unwrap().encode("abb", PLAIN), [2, 1]);
    type Spoil = fn(&mut Vocab);
    let cases: [(&str, Spoil); 10] = [
        ("expected one of llama, t5, bert, gpt2, gemma4, found `rwkv`", |v| v.model = "rwkv"),
        ("llama-bpe, llama3, ", |v| v.pre = Some("x")),
        ("tokenizer.ggml.token_type: expected 3 entries, one for each token, found 1", |v| {
            v.token_types = vec![1].into()
        }),
        ("tokenizer.ggml.scores: expected 3 entries, one for each token, found 0", |v| v.model = "llama"),
        ("bos_token_id: expected an id below 3", |v| v.bos = Some(3)),
        ("merge 0 (`ab`)", |v| v.merges = vec!["ab"]),
        ("has no `ba`", |v| v.merges = vec!["b a"]),
        ("found 9", |v| v.token_types = vec![1, 9, 1].into()),
        ("`<0x-1>`", |v| (v.tokens[0], v.token_types) = ("<0x-1>", vec![6, 1, 1].into())),
        ("found NaN", |v| (v.model, v.scores) = ("llama", vec![0.0, f32::NAN, 0.0].into())),
    ];
    for (part, spoil) in cases {
        let mut vocab = good();
        spoil(&mut vocab);
        let error = Tokenizer::new(vocab).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn warnings_name_the_assumed_pre_tokenizer() {
    let vocab = |last: &str, len: usize| {
        let names: Vec<String> = (0..len).map(|i| format!("t{i}")).collect();
        let tokens = names.iter().map(String::as_str).chain([last]).collect();
        let vocab = Vocab { model: "gpt2", tokens, ..Vocab::default() };
        Tokenizer::new(vocab).unwrap().warnings().join("; ")
    };
    for (last, len, pre) in [
        ("<|begin_of_text|>", 9, "`llama-bpe`"),
        ("<|im_start|>", 151_644, "`qwen2`"),
        ("<|endoftext|>", 50_256, "`gpt-2`"),
        ("x", 9, "`default`"),
    ] {
        assert!(vocab(last, len).contains(pre), "{last}");
    }
}

#[test]
fn special_tokens_are_parsed_only_on_request() {
    let vocab = || Vocab {
        model: "gpt2",
        pre: Some("gpt-2"),
        tokens: vec!["a", "<", "|", ">", "<|end|>", "<a>", "<|return|>"],
        token_types: vec![1, 1, 1, 1, 3, 4, 3].into(),
        eos: Some(6),
        ..Vocab::default()
    };
    let tokenizer = Tokenizer::new(vocab()).unwrap();
    assert_eq!(
        tokenizer.encode("a<|return|><a>", EncodeOptions { parse_special: true, add_special: false }),
        [0, 6, 5]
    );
    assert_eq!(tokenizer.encode("<|<a>", PLAIN), [1, 2, 5]);
    assert_eq!(tokenizer.decode(&[0, 6, 5]), "a<a>");
    assert_eq!(tokenizer.decode_with_special(&[0, 6, 5]), "a<|return|><a>");
    assert!(tokenizer.is_eog(4) && tokenizer.is_eog(6) && !tokenizer.is_eog(5));
    let harmony = Vocab {
        tokens: {
            let mut t = vocab().tokens;
            t[0] = "<|call|>";
            t
        },
        ..vocab()
    };
    assert!(!Tokenizer::new(harmony).unwrap().is_eog(4), "with <|return|> and <|call|>, <|end|> ends only a message");
}
