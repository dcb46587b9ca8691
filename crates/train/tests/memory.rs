//! Memory: how much a step takes, and what happens when there is none.

use cap::Cap;
use serde_json::{Value, json};
use std::alloc::System;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;
use trine_backend::Error::NoRoom;
use trine_model::vocab_metadata;
use trine_tensor::gguf;
use trine_text::{BpeOptions, OwnedVocab};
use trine_train::{Config, Error, Trainer};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);
/// Tests take turns with the allocator.
static TURN: Mutex<()> = Mutex::new(());

const TOKENS: usize = 16384;

/// Calls `body` with room for so many more bytes.
fn within<T>(bytes: usize, body: impl FnOnce() -> T) -> T {
    ALLOCATOR.set_limit(ALLOCATOR.allocated() + bytes).unwrap();
    let result = body();
    ALLOCATOR.set_limit(usize::MAX).unwrap();
    result
}

/// A run over rows of [`TOKENS`] tokens.
fn trainer(folder: &TempDir, text: String, validation: f64, heads: Value) -> Trainer {
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("text.txt"), &text).unwrap();
    let json =
        BpeOptions { vocab_size: 300, ..BpeOptions::default() }.train([Ok::<_, Error>(text)].into_iter()).unwrap();
    let language = OwnedVocab::from_json(json.tokenizer.as_bytes(), Some(json.config.as_bytes())).unwrap();
    gguf::write(path("tokenizer.gguf"), &vocab_metadata(&language.vocab()), &[]).unwrap();
    let mut config = json!({
        "model": {
            "tokenizer": path("tokenizer.gguf"), "architecture": "llama",
            "n_layers": 1, "hidden_size": 64, "n_heads": 2, "intermediate_size": 64,
        },
        "data": {"files": [path("text.txt")], "validation": validation},
        "train": {"steps": 1, "batch": 1, "sequence": TOKENS, "threads": 2},
        "quantization": {"weights": "none"},
        "schedule": {"warmup": 1},
        "output": {"folder": path("run")},
    });
    config["model"].as_object_mut().unwrap().extend(heads.as_object().unwrap().clone());
    let config: Config = serde_json::from_value(config).unwrap();
    Trainer::new(&config, false, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn memory_is_linear_in_length() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = TempDir::new().unwrap();
    let text: String = (0..TOKENS).map(|i| format!(" {}", i * i % 89)).collect();
    let mut trainer = trainer(&folder, text, 0.0, json!({"n_kv_heads": 1}));
    // The scores of one head alone would take twice as much.
    let step = within(512 << 20, || trainer.advance()).unwrap();
    assert!(step.tokens == TOKENS as u64 && step.grad_norm > 0.0 && step.loss.is_finite(), "{step:?}");
}

#[test]
fn a_validation_without_memory_changes_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let text: String = (0..3000)
        .map(|i| (0..20).map(|j| format!(" {}", i * (i + j) % 997)).chain(["<|endoftext|>".into()]).collect::<String>())
        .collect();
    let folders = [(); 2].map(|()| TempDir::new().unwrap());
    let [mut whole, mut failed] =
        folders.each_ref().map(|folder| trainer(folder, text.clone(), 0.5, json!({"head_dim": 256})));
    // A cache that is not large enough.
    failed.logits(&[1, 2, 3]).unwrap();
    let error = within(32 << 20, || failed.validate()).unwrap_err();
    assert!(matches!(error, Error::Device(NoRoom { .. })), "{error}");
    let [expected, found] = [&mut whole, &mut failed].map(|trainer| trainer.advance().unwrap());
    assert_eq!(expected.loss.to_bits(), found.loss.to_bits());
    assert_eq!(expected.grad_norm.to_bits(), found.grad_norm.to_bits());
}
