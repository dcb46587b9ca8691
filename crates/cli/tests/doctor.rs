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

#[test]
fn devices_are_compared_and_the_smoke_test_runs_on_the_one_asked_for() {
    let compare = ["doctor", EMBEDDED, "--compare-devices", "cpu,cpu:scalar", "--device", "cpu:scalar"];
    let text = trine_with(&compare);
    assert_eq!(text.code, 0, "{}", text.err);
    let line = "cpu and cpu:scalar: the same results in each operation, over 49 tokens";
    assert!(text.out.contains(line) && text.out.contains("devices, layout"), "{}", text.out);
    let json = trine_with(&[&compare[..], &["--json"]].concat()).json();
    let compared = &json["compared_devices"];
    assert!(compared["outcome"] == "same" && compared["tokens"] == 49, "{compared}");
    let plain = trine_with(&["doctor", EMBEDDED, "--json"]).json();
    assert!(plain["compared_devices"].is_null() && plain["smoke_test"] == json["smoke_test"], "{plain}");
    assert!(!trine_with(&["doctor", EMBEDDED]).out.contains("devices"));
    assert_eq!(trine_with(&["doctor", EMBEDDED, "--device", "other"]).code, 2);
}
