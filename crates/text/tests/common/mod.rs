//! The shared test data: where it lies, and vocabularies read from it.
#![allow(dead_code, reason = "each test uses some of it")]

use std::path::PathBuf;
use trine_text::{Encode, Tokenizer, Vocab};

/// A file of the shared data, or nothing, said aloud, where the data is absent.
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

/// The vocabulary of a GGUF file.
pub fn gguf(path: &str) -> Option<Vocab> {
    let bytes = std::fs::read(shared(path)?).unwrap();
    let mut at = Reader(&bytes[8..]);
    let mut vocab = Vocab::default();
    let (_tensors, keys) = (at.u64(), at.u64());
    for _ in 0..keys {
        let key = at.string();
        let values = at.values();
        let id = || values[0].number() as u32;
        let flag = || values[0].number() != 0.0;
        let strings = || values.iter().map(Value::string).collect();
        match key.strip_prefix("tokenizer.ggml.").unwrap_or_default() {
            "model" => vocab.model = values[0].string(),
            "pre" => vocab.pre = Some(values[0].string()),
            "tokens" => vocab.tokens = strings(),
            "merges" => vocab.merges = strings(),
            "scores" => vocab.scores = values.iter().map(|v| v.number() as f32).collect(),
            "token_type" => vocab.types = values.iter().map(|v| v.number() as i32).collect(),
            "bos_token_id" => vocab.bos = Some(id()),
            "eos_token_id" => vocab.eos = Some(id()),
            "eot_token_id" => vocab.eot = Some(id()),
            "unknown_token_id" => vocab.unk = Some(id()),
            "padding_token_id" => vocab.pad = Some(id()),
            "add_bos_token" => vocab.add_bos = Some(flag()),
            "add_eos_token" => vocab.add_eos = Some(flag()),
            "add_space_prefix" => vocab.add_space_prefix = Some(flag()),
            _ => {}
        }
    }
    Some(vocab)
}

/// Llama 3's vocabulary, which has no GGUF file among the data, without its control tokens.
pub fn llama_3() -> Option<Vocab> {
    let read = |name| Some(std::fs::read_to_string(shared(name)?).unwrap());
    let ids: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(&read("tokenizers/llama3/encoder.json")?).unwrap();
    let mut tokens = vec![String::new(); ids.len()];
    for (token, id) in ids {
        tokens[id.as_u64().unwrap() as usize] = token;
    }
    let merges = read("tokenizers/llama3/vocab.bpe")?;
    let merges = merges.lines().filter(|line| !line.starts_with("#version") && !line.is_empty());
    Some(Vocab {
        model: "gpt2".into(),
        pre: Some("llama-bpe".into()),
        types: vec![1; tokens.len()],
        tokens,
        merges: merges.map(str::to_owned).collect(),
        add_bos: Some(false),
        ..Vocab::default()
    })
}

/// Every tokenizer that the shared data has.
pub fn tokenizers() -> Vec<(&'static str, Tokenizer)> {
    let gguf = ["llama-spm", "phi-3", "gpt-2", "starcoder", "falcon", "deepseek-coder"]
        .map(|name| (name, gguf(&format!("tokenizers/ggml-vocab-{name}.gguf"))));
    let all = gguf.into_iter().chain([("llama-bpe", llama_3())]);
    all.filter_map(|(name, vocab)| Some((name, Tokenizer::new(vocab?).unwrap()))).collect()
}

/// Texts and their tokens as llama.cpp has them.
pub fn vectors(name: &str) -> Option<Vec<(String, Vec<u32>)>> {
    let inp = std::fs::read_to_string(shared(&format!("tokenizers/ggml-vocab-{name}.gguf.inp"))?).unwrap();
    let out = std::fs::read_to_string(shared(&format!("tokenizers/ggml-vocab-{name}.gguf.out"))?).unwrap();
    let texts = inp.split("\n__ggml_vocab_test__\n").map(str::to_owned);
    let ids = out.lines().map(|line| line.split_whitespace().map(|id| id.parse().unwrap()).collect());
    Some(texts.zip(ids).collect())
}

pub const PLAIN: Encode = Encode { special: false, bos_eos: false };

enum Value {
    Number(f64),
    String(String),
}

impl Value {
    fn number(&self) -> f64 {
        match self {
            Value::Number(number) => *number,
            Value::String(string) => panic!("expected a number, found {string}"),
        }
    }

    fn string(&self) -> String {
        match self {
            Value::Number(number) => panic!("expected a string, found {number}"),
            Value::String(string) => string.clone(),
        }
    }
}

/// Reads the metadata of a well-formed GGUF file; the arrays of numbers and strings are all that is needed.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (head, tail) = self.0.split_first_chunk().unwrap();
        self.0 = tail;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    fn string(&mut self) -> String {
        let len = self.u64() as usize;
        let (head, tail) = self.0.split_at(len);
        self.0 = tail;
        String::from_utf8(head.to_vec()).unwrap()
    }

    /// One value, or those of an array.
    fn values(&mut self) -> Vec<Value> {
        let kind = self.u32();
        if kind != 9 {
            return vec![self.value(kind)];
        }
        let (kind, len) = (self.u32(), self.u64());
        (0..len).map(|_| self.value(kind)).collect()
    }

    fn value(&mut self, kind: u32) -> Value {
        Value::Number(match kind {
            0 | 7 => f64::from(self.take::<1>()[0]),
            1 => f64::from(i8::from_le_bytes(self.take())),
            2 => f64::from(u16::from_le_bytes(self.take())),
            3 => f64::from(i16::from_le_bytes(self.take())),
            4 => f64::from(self.u32()),
            5 => f64::from(i32::from_le_bytes(self.take())),
            6 => f64::from(f32::from_le_bytes(self.take())),
            8 => return Value::String(self.string()),
            10 | 11 => self.u64() as f64,
            12 => f64::from_le_bytes(self.take()),
            _ => panic!("no GGUF type {kind}"),
        })
    }
}
