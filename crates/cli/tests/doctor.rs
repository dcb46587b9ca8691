//! `trine doctor` says what is wrong, and by its exit status whether anything is.

mod common;

use common::{golden, trine_with};
use trine::EMBEDDED;

#[test]
fn the_exit_status_tells_whether_something_was_found() {
    let folder = tempfile::tempdir().unwrap();
    let short = folder.path().join("short.gguf");
    let whole = std::fs::read(golden("llama").join("model.gguf")).unwrap();
    std::fs::write(&short, &whole[..whole.len() / 2]).unwrap();
    let untrained = golden("llama").join("model.gguf");
    let packed = golden("llama-gptq");
    let missing = folder.path().join("missing.gguf");
    let cases = [
        (EMBEDDED, 0, vec![]),
        (short.to_str().unwrap(), 5, vec!["the file does not open"]),
        (missing.to_str().unwrap(), 5, vec!["the file does not open"]),
        (untrained.to_str().unwrap(), 5, vec!["the model predicts English worse than chance"]),
        (packed.to_str().unwrap(), 5, vec!["the model predicts English worse than chance"]),
    ];
    for (model, code, titles) in cases {
        let ran = trine_with(&["doctor", model, "--json"]);
        let json = ran.json();
        let found: Vec<&str> =
            json["findings"].as_array().unwrap().iter().map(|finding| finding["title"].as_str().unwrap()).collect();
        assert_eq!((ran.code, found, json["healthy"] == true), (code, titles.clone(), code == 0), "{}", ran.out);
        assert_eq!(json["smoke_test"].is_null(), titles == ["the file does not open"], "{}", ran.out);
        let human = trine_with(&["doctor", model]);
        assert_eq!(human.code, code);
        assert!(titles.iter().all(|title| human.out.contains(title)), "{}", human.out);
        assert_eq!(human.out.contains("to do: "), code != 0);
        let looked = match titles[..] {
            ["the file does not open"] => "1 finding; looked at the file only",
            _ => "looked at file, rotation, tokenizer",
        };
        assert!(human.out.contains(looked), "{}", human.out);
        assert_eq!(human.err.contains("hint: "), model.ends_with("missing.gguf"), "{}", human.err);
    }
    let other = trine_with(&["doctor", EMBEDDED, "--tokenizer", untrained.to_str().unwrap()]);
    assert_eq!(
        (other.code, other.out.contains("not that of the model") || other.out.contains("worse than chance")),
        (5, true),
        "{}",
        other.out
    );
    let quick = trine_with(&["doctor", untrained.to_str().unwrap(), "--quick"]);
    assert_eq!((quick.code, quick.out.contains("without weights")), (0, true), "{}", quick.out);
}
