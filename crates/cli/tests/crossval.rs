//! `trine crossval` sees what llama.cpp sees, and says where it does not.

mod common;

use common::{changed, golden, llama, trine_with};
use trine_tensor::Value;

#[test]
fn a_reference_agrees_with_what_is_right_and_not_with_what_is_wrong() {
    let python = std::env::var("TRINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let crossval = |model: &str, more: &[&str]| {
        trine_with(&[&["crossval", model, "--reference", &python, "--tokens", "8", "--json"], more].concat())
    };
    let right = crossval(&llama(), &[]);
    if right.err.contains("pip install xllamacpp") || right.err.contains("cannot be run") {
        eprintln!("skipped: {python} has no package xllamacpp");
        return;
    }
    assert_eq!(right.code, 0, "{}{}", right.out, right.err);
    let texts = right.json()["texts"].as_array().unwrap().clone();
    assert_eq!((&right.json()["agree"], texts.len()), (&true.into(), 3));
    assert!(
        texts.iter().all(|text| text["ids"] == text["reference_ids"] && !text["steps"].as_array().unwrap().is_empty())
    );

    // The folder beside its GGUF file.
    let safetensors = golden("llama").display().to_string();
    let ran = crossval(&safetensors, &["--reference-model", &llama(), "--activations", "f32"]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    let ran = crossval(&safetensors, &[]);
    assert!(ran.code == 2 && ran.err.contains("--reference-model"), "{}", ran.err);

    // Another rotation than the reference has.
    let wrong = changed(folder.path(), "rope.gguf", |metadata, _| {
        metadata.insert("llama.rope.freq_base", Value::F32(50.0));
    });
    let ran = crossval(&wrong, &["--reference-model", &llama()]);
    assert_eq!((ran.code, &ran.json()["agree"]), (5, &false.into()), "{}", ran.err);

    // What the reference cannot read, in its own words.
    let none = folder.path().join("none.gguf");
    std::fs::write(&none, "no model").unwrap();
    let ran = crossval(&llama(), &["--reference-model", &none.display().to_string()]);
    assert!(ran.code == 1 && ran.err.contains("it ended: "), "{}", ran.err);
}

#[test]
fn a_reference_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().display().to_string();
    for (reference, says) in [
        (path.as_str(), "/llama-server: it cannot be run"),
        ("build/llama-cli", "build/llama-server: it cannot be run"),
        ("./server-b4000", "./server-b4000: it cannot be run"),
        ("http://127.0.0.1:9", "127.0.0.1:9"),
    ] {
        let ran = trine_with(&["crossval", &llama(), "--reference", reference]);
        assert!(ran.code == 1 && ran.err.contains(says), "{}", ran.err);
    }
}
