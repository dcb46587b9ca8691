//! The tokens that other programs give for the same texts.

mod common;

use common::{PLAIN, shared, vectors};
use trine_text::{EncodeOptions, Tokenizer};

#[test]
fn every_vocabulary_gives_the_tokens_of_llama_cpp() {
    for (name, tokenizer) in common::tokenizers() {
        let vectors = vectors(name).unwrap();
        assert_eq!(vectors.len(), 46, "{name}");
        for (text, ids) in vectors {
            assert_eq!(tokenizer.encode(&text, PLAIN), ids, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_tokenizer_json_gives_the_tokens_of_the_gguf_file() {
    let Some(json) = shared("tokenizers/gpt2/tokenizer.json") else { return };
    let json = std::fs::read(json).unwrap();
    let config = br#"{"bos_token": "<|endoftext|>", "eos_token": {"content": "<|endoftext|>"}, "add_bos_token": true,
        "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#;
    let hf = Tokenizer::from_json(&json, Some(config)).unwrap();
    let gguf = Tokenizer::new(common::gguf("tokenizers/ggml-vocab-gpt-2.gguf").unwrap()).unwrap();
    assert_eq!(hf.len(), gguf.len());
    for (text, ids) in vectors("gpt-2").unwrap() {
        assert_eq!(hf.encode(&text, PLAIN), ids, "{text:?}");
        assert_eq!(hf.decode(&ids), text);
    }
    for special in [false, true] {
        let options = EncodeOptions { parse_special: special, add_special: false };
        let text = "a<|endoftext|>b";
        assert_eq!(hf.encode(text, options), gguf.encode(text, options), "special: {special}");
    }
    for id in 0..hf.len() as u32 {
        assert_eq!((hf.piece(id), hf.token_type(id)), (gguf.piece(id), gguf.token_type(id)), "{id}");
    }
    assert_eq!(hf.encode("a", EncodeOptions { parse_special: false, add_special: true }), [50_256, 64]);
    assert_eq!((hf.bos(), hf.eos(), hf.adds_bos()), (Some(50_256), Some(50_256), true));
    assert!(hf.templates().iter().eq([("default", "d"), ("tool_use", "t")]));
    assert!(hf.is_eog(50_256) && hf.is_control(50_256) && !hf.is_eog(0));
}
