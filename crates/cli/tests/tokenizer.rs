//! `trine tokenizer train`.

mod common;

use common::trine_with;
use trine_tensor::File;

#[test]
fn a_tokenizer_is_learned_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    write("a.txt", "the mill and the miller<|endoftext|>\n\n<|endoftext|>the other mill\n");
    write("b.jsonl", "{\"story\": \"the mill\"}\n\n{\"story\": \"\"}\n");
    let train = |output: &str, more: &[&str]| {
        let (output, a, b) = (path(output), path("a.txt"), path("b.jsonl"));
        trine_with(&[&["tokenizer", "train", &output, &a, &b, "--json", "--force"], more].concat())
    };
    let ran = train("t.gguf", &["--vocab-size", "260", "--field", "story"]);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let report = ran.json();
    assert_eq!((&report["vocab_size"], &report["documents"]), (&260.into(), &3.into()));
    let bytes = "the mill and the miller".len() + "the other mill".len() + "the mill".len();
    assert_eq!(report["bytes"], bytes);
    let file = File::open(path("t.gguf")).unwrap();
    assert_eq!(file.metadata().str("general.architecture").unwrap(), Some("gpt2"));

    assert_eq!(train("tokenizer.json", &["--vocab-size", "260", "--field", "story"]).code, 0);
    let ids = |file: &str| trine_with(&["tokenize", &path(file), "the mill", "--json"]).out;
    assert_eq!(ids("t.gguf"), ids("tokenizer.json"));

    let ran = train("t.gguf", &["--field", "story"]);
    assert!(ran.code == 0 && ran.err.contains("more text or a smaller --min-frequency"), "{}", ran.err);
    for (more, expected) in [
        (&["--vocab-size", "256", "--field", "story"][..], "expected a vocabulary of 257 (control"),
        (&["--vocab-size", "99999999999", "--field", "story"], "to 4294967295 tokens, found 99999999999"),
        (&[], "b.jsonl: line 1: expected an object with text in the field `text`, found an object without it"),
        (&["--separator", ""], "a value is required for '--separator <TEXT>'"),
    ] {
        let ran = train("no.gguf", more);
        assert!(ran.code != 0 && ran.err.contains(expected), "{}", ran.err);
    }
    assert!(!folder.path().join("no.gguf").exists());
}
