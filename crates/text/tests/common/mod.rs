//! Test data: paths, and vocabularies read from them.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::{Path, PathBuf};
use trine_tensor::{File, Strings};
use trine_text::{EncodeOptions, Tokenizer, Vocab};

/// A file of the shared data; prints a message and returns `None` if it is absent.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("TRINE_SHARED")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")), PathBuf::from);
    let path = root.join("data").join(path);
    if !path.exists() {
        eprintln!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

/// The vocabulary of a GGUF file, which stays open.
pub fn gguf(path: &str) -> Option<Vocab<'static>> {
    let file: &File = Box::leak(Box::new(File::open(shared(path)?).unwrap()));
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let strings = |name: &str| file.metadata().strs(&key(name)).unwrap().into_iter().flat_map(Strings::iter).collect();
    let string = |name: &str| file.metadata().str(&key(name)).unwrap();
    let id = |name: &str| file.metadata().u32(&key(name)).unwrap();
    let flag = |name: &str| file.metadata().bool(&key(name)).unwrap();
    Some(Vocab {
        model: string("model").unwrap(),
        pre: string("pre"),
        tokens: strings("tokens"),
        scores: file.metadata().f32s(&key("scores")).unwrap().unwrap_or_default(),
        token_types: file.metadata().i32s(&key("token_type")).unwrap().unwrap_or_default(),
        merges: strings("merges"),
        bos: id("bos_token_id"),
        eos: id("eos_token_id"),
        eot: id("eot_token_id"),
        unk: id("unknown_token_id"),
        pad: id("padding_token_id"),
        add_bos: flag("add_bos_token"),
        add_eos: flag("add_eos_token"),
        add_space_prefix: flag("add_space_prefix"),
        sep: id("seperator_token_id"),
        mask: id("mask_token_id"),
        ..Vocab::default()
    })
}

/// Llama 3's vocabulary, which has no GGUF file among the data, without its control tokens.
pub fn llama_3() -> Option<Vocab<'static>> {
    let read = |name| Some(&*std::fs::read_to_string(shared(name)?).unwrap().leak());
    let ids: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(read("tokenizers/llama3/encoder.json")?).unwrap();
    let mut tokens = vec![""; ids.len()];
    for (token, id) in ids {
        tokens[id.as_u64().unwrap() as usize] = &*token.leak();
    }
    let merges = read("tokenizers/llama3/vocab.bpe")?;
    let merges = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    Some(Vocab {
        model: "gpt2",
        pre: Some("llama-bpe"),
        token_types: vec![1; tokens.len()].into(),
        tokens,
        merges: merges.collect(),
        add_bos: Some(false),
        ..Vocab::default()
    })
}

/// A file of golden/tokenizers.
pub fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/tokenizers").join(name)).unwrap()
}

/// Every tokenizer that the shared data has.
pub fn tokenizers() -> Vec<(&'static str, Tokenizer)> {
    let gguf = ["llama-spm", "phi-3", "gpt-2", "starcoder", "falcon", "deepseek-coder", "bert-bge"]
        .map(|name| (name, gguf(&format!("tokenizers/ggml-vocab-{name}.gguf"))));
    let all = gguf.into_iter().chain([("llama-bpe", llama_3())]);
    all.filter_map(|(name, vocab)| Some((name, Tokenizer::new(vocab?).unwrap()))).collect()
}

/// A tokenizer of each algorithm, from golden/tokenizers.
pub fn algorithms() -> Vec<(&'static str, Tokenizer)> {
    let models = ["spm-bpe", "spm-bpe-rules", "spm-unigram", "spm-unigram-bytes"];
    let models = models.map(|name| (name, Tokenizer::from_model(&golden(&format!("{name}.model")), None).unwrap()));
    let json = ["wordpiece", "unigram", "byte-fallback", "byte-fallback-bare", "byte-level"];
    let json = json.map(|name| (name, Tokenizer::from_json(&golden(&format!("{name}.json")), None).unwrap()));
    models.into_iter().chain(json).collect()
}

/// Tokenizers that do not preserve every text. Decoding preserves only text that was decoded before.
pub const LOSSY: [&str; 6] = ["bert-bge", "spm-bpe-rules", "spm-unigram", "wordpiece", "unigram", "byte-level"];

/// Tokenizers that use U+2581 for a space.
pub const SPACED: [&str; 6] =
    ["llama-spm", "phi-3", "spm-bpe", "spm-unigram-bytes", "byte-fallback", "byte-fallback-bare"];

/// Texts and their tokens as llama.cpp has them.
pub fn vectors(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let inp = std::fs::read_to_string(shared(&format!("tokenizers/ggml-vocab-{name}.gguf.inp"))?).unwrap();
    let out = std::fs::read_to_string(shared(&format!("tokenizers/ggml-vocab-{name}.gguf.out"))?).unwrap();
    let texts = inp.split("\n__ggml_vocab_test__\n").map(str::to_owned);
    let ids = out.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    Some(texts.zip(ids).collect())
}

pub const PLAIN: EncodeOptions = EncodeOptions { parse_special: false, add_special: false };
