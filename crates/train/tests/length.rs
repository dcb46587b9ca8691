//! A step over 16,384 tokens of one document takes memory in proportion to them, not to their square.

use cap::Cap;
use serde_json::json;
use std::alloc::System;
use std::ops::ControlFlow;
use tempfile::TempDir;
use trine_model::vocab_metadata;
use trine_tensor::gguf;
use trine_text::{BpeOptions, OwnedVocab};
use trine_train::{Config, Error, Trainer};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const TOKENS: usize = 16384;
/// The scores of one head alone would take twice as much.
const LIMIT: usize = 512 << 20;

#[test]
fn memory_is_linear_in_length() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text: String = (0..TOKENS).map(|i| format!(" {}", i * i % 89)).collect();
    std::fs::write(path("text.txt"), &text).unwrap();
    let json =
        BpeOptions { vocab_size: 300, ..BpeOptions::default() }.train([Ok::<_, Error>(text)].into_iter()).unwrap();
    let language = OwnedVocab::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
    gguf::write(path("tokenizer.gguf"), &vocab_metadata(&language.vocab()), &[]).unwrap();
    let config: Config = serde_json::from_value(json!({
        "model": {
            "tokenizer": path("tokenizer.gguf"), "architecture": "llama",
            "n_layers": 1, "hidden_size": 64, "n_heads": 2, "n_kv_heads": 1, "intermediate_size": 64,
        },
        "data": {"files": [path("text.txt")], "validation": 0},
        "train": {"steps": 1, "batch": 1, "sequence": TOKENS, "threads": 2},
        "quantization": {"weights": "none"},
        "schedule": {"warmup": 1},
        "output": {"folder": path("run")},
    }))
    .unwrap();
    let mut trainer = Trainer::new(&config, false, &mut |_| ControlFlow::Continue(())).unwrap();
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + LIMIT).unwrap();
    let step = trainer.advance().unwrap();
    ALLOCATOR.set_limit(usize::MAX).unwrap();
    assert!(step.tokens == TOKENS as u64 && step.grad_norm > 0.0 && step.loss.is_finite(), "{step:?}");
}
