//! A `tokenizer.json` of Unigram gives the same tokens as GGUF, or is refused.

use serde_json::{Value, json};
use trine_text::{EncodeOptions, OwnedVocab, Tokenizer, TokenizerJson};

const SPACE: &str = "\u{2581}";

fn unigram(normalizers: &[Value], pre_tokenizer: &Value) -> String {
    let pieces =
        ["<unk>", "<s>", "</s>", "<x>", "\u{2581}", "a", "b", "\u{2581}a", "\u{2581}b", "ab", "c", "d", "1", "\n"];
    let vocab: Vec<Value> = (0..pieces.len()).map(|i| json!([pieces[i], -(1.0 + i as f32 / 8.0)])).collect();
    let added = |id: usize, special: bool| {
        json!({ "id": id, "content": pieces[id], "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": special })
    };
    let normalizer = json!({ "type": "Sequence", "normalizers": normalizers });
    // The decoder takes away the space that is added.
    let scheme = pre_tokenizer.get("prepend_scheme").filter(|_| normalizers.iter().all(|one| one["type"] != "Prepend"));
    let removed = scheme.cloned().unwrap_or("always".into());
    json!({
        "version": "1.0", "truncation": null, "padding": null,
        "added_tokens": [added(0, true), added(1, true), added(2, true), added(3, false)],
        "normalizer": if normalizers.is_empty() { Value::Null } else { normalizer },
        "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": { "type": "Metaspace", "replacement": SPACE, "prepend_scheme": removed, "split": true },
        "model": { "type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": false },
    })
    .to_string()
}

#[test]
fn spaces_of_unigram_are_the_same_or_refused() {
    let strip = json!({ "type": "Strip", "strip_left": false, "strip_right": true });
    let runs = |content: &str| json!({ "type": "Replace", "pattern": { "Regex": " {2,}" }, "content": content });
    let prepend = json!({ "type": "Prepend", "prepend": SPACE });
    let space =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true });
    let words = json!({ "type": "Sequence", "pretokenizers": [{ "type": "WhitespaceSplit" }, space("always")] });
    for (normalizers, pre_tokenizer, refused) in [
        (vec![], space("always"), None),
        (vec![], space("first"), None),
        (vec![], space("never"), None),
        (vec![], words, Some("GGUF can hold")),
        (vec![runs(" ")], space("always"), None),
        (vec![runs(" ")], space("first"), None),
        (vec![runs(" ")], space("never"), None),
        (vec![strip.clone(), runs(SPACE)], space("always"), Some("GGUF can hold")),
        (vec![strip.clone()], space("always"), Some("GGUF can hold")),
        (vec![strip, runs(SPACE)], space("never"), Some("GGUF can hold")),
        (vec![prepend], space("never"), None),
    ] {
        let what = format!("{normalizers:?} {pre_tokenizer}");
        let json = unigram(&normalizers, &pre_tokenizer);
        let own = Tokenizer::from_json(json.as_bytes(), None).unwrap();
        let vocab = match (OwnedVocab::from_json(json.as_bytes(), None), refused) {
            (Ok(vocab), None) => vocab.for_gguf().unwrap(),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{what}: {error}");
                continue;
            }
            (found, _) => panic!("{what}: {found:?}"),
        };
        let gguf = Tokenizer::new(vocab.vocab()).unwrap();
        let back = TokenizerJson::of_vocab(&vocab.vocab()).unwrap();
        let back = Tokenizer::from_json(back.tokenizer.as_bytes(), Some(back.config.as_bytes())).unwrap();
        for text in ["a", " a", "  a ", "a  ", " ", "a<s> b", "<s>a <x>b", " <x> ", "a  b<x>  a", "\u{2581}a \u{2581}"]
        {
            for parse_special in [text.contains("<s>"), true] {
                let options = EncodeOptions { parse_special, add_special: true };
                let expected = own.encode(text, options);
                assert_eq!(gguf.encode(text, options), expected, "{what}: {text:?}");
                assert_eq!(back.encode(text, options), expected, "back, {what}: {text:?}");
            }
        }
    }
}

#[test]
fn bpe_of_sentencepiece_goes_there_and_back() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizers/spm-bpe.model");
    let model = std::fs::read(path).unwrap();
    for (prefix, once) in [(true, false), (false, false), (true, true)] {
        let vocab = OwnedVocab::from_model(&model, None).unwrap().for_gguf().unwrap();
        let mut old = vocab.vocab();
        old.add_space_prefix = Some(prefix);
        old.normalization.prefix_once = once;
        let own = Tokenizer::new(old.clone()).unwrap();
        let TokenizerJson { tokenizer: json, config } = TokenizerJson::of_vocab(&old).unwrap();
        let back = OwnedVocab::from_json(json.as_bytes(), Some(config.as_bytes())).unwrap().for_gguf().unwrap();
        let new = back.vocab();
        assert_eq!((old.model, &old.tokens, &old.token_types), (new.model, &new.tokens, &new.token_types));
        assert_eq!((old.bos, old.eos, old.unk, new.add_space_prefix), (new.bos, new.eos, new.unk, Some(prefix)));
        assert_eq!(new.normalization.prefix_once, once);
        let again = Tokenizer::new(back.vocab()).unwrap();
        let folder = Tokenizer::from_json(json.as_bytes(), Some(config.as_bytes())).unwrap();
        for text in [
            "Once upon a time",
            "  lead",
            "  Hello  world's 12",
            " \u{4f60}\u{597d} na\u{ef}ve\n\n\t",
            "",
            " ",
            "a<s>b</s>",
            "x<s>y",
            "<s>a <s> b",
        ] {
            let options = EncodeOptions { parse_special: true, add_special: true };
            let expected = own.encode(text, options);
            assert_eq!(folder.encode(text, options), expected, "{prefix} {once} {text:?}");
            assert_eq!(again.encode(text, options), expected, "{prefix} {once} {text:?}");
        }
        // Merges that no scores give.
        let mut json: Value = serde_json::from_str(&json).unwrap();
        json["model"]["merges"].as_array_mut().unwrap().remove(0);
        let error = OwnedVocab::from_json(json.to_string().as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains("model.merges: expected all pairs"), "{error}");
    }
}

/// GGUF removes the space that it adds, and no other.
#[test]
fn a_decoder_that_keeps_another_space_is_refused() {
    let space =
        |scheme: &str| json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true });
    for (added, removed) in [("always", "never"), ("never", "always"), ("first", "never")] {
        let mut json: Value = serde_json::from_str(&unigram(&[], &space(added))).unwrap();
        assert!(OwnedVocab::from_json(json.to_string().as_bytes(), None).is_ok(), "{added}");
        json["decoder"] = space(removed);
        let error = OwnedVocab::from_json(json.to_string().as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains("GGUF can hold, found one whose tokens of"), "{added}, {removed}: {error}");
    }
}

#[test]
fn a_special_token_that_is_found_in_normalized_texts_is_refused() {
    let space = json!({ "type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never", "split": true });
    let prepend = json!({ "type": "Prepend", "prepend": SPACE });
    for (special, normalized) in [(true, true), (false, true), (true, false)] {
        let mut json: Value = serde_json::from_str(&unigram(std::slice::from_ref(&prepend), &space)).unwrap();
        let id = json["model"]["vocab"].as_array().unwrap().len();
        let added = json!({ "id": id, "content": "<|im|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized, "special": special });
        json["added_tokens"].as_array_mut().unwrap().push(added);
        let read = OwnedVocab::from_json(json.to_string().as_bytes(), None);
        match normalized {
            true => assert!(read.unwrap_err().to_string().contains("<|im|>"), "{special}"),
            false => assert!(read.is_ok(), "{read:?}"),
        }
    }
}

/// An id that ends texts may be that of an ordinary token: it stays one.
#[test]
fn an_ordinary_token_that_ends_texts_is_not_special_in_a_folder() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../golden/tokenizers/spm-bpe.model");
    let vocab = OwnedVocab::from_model(&std::fs::read(path).unwrap(), None).unwrap().for_gguf().unwrap();
    let mut vocab = vocab.vocab();
    let ordinary = vocab.tokens.iter().position(|token| *token == "e").unwrap() as u32;
    (vocab.eos, vocab.add_eos) = (Some(ordinary), Some(true));
    let json = TokenizerJson::of_vocab(&vocab).unwrap();
    let config: Value = serde_json::from_str(&json.config).unwrap();
    assert_eq!((&config["eos_token"], &config["add_eos_token"]), (&Value::Null, &json!(false)));
    assert_eq!(config["bos_token"], "<s>");
    let back = Tokenizer::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
    let options = EncodeOptions { parse_special: true, add_special: true };
    assert_eq!(back.encode("the time", options), Tokenizer::new(vocab).unwrap().encode("the time", options));
}
