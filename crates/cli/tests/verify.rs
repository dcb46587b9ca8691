//! `trine verify`, and the receipts of what the other commands write.

mod common;

use common::{llama, trine_with};
use std::fs;
use std::process::Command;

#[test]
fn a_file_is_what_its_receipt_says_until_it_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, q8, q4, text) = (llama(), at("q8.gguf"), at("q4.gguf"), at("text.txt"));
    fs::write(&text, "Once upon a time there was a little dog, who liked to play in the park with his friends.")
        .unwrap();
    let ok = |args: &[&str]| {
        let ran = trine_with(args);
        assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
        ran
    };
    ok(&["quantize", &model, &q8, "-f", "q8_0"]);
    ok(&["quantize", &q8, &q4, "-f", "q4_0", "--output-type", "q8_0"]);
    let ran = ok(&["verify", &q4, "--against", &q8]);
    assert!(ran.out.contains("receipt: by trine") && ran.out.contains("made again from its source"), "{}", ran.out);
    assert_eq!(trine_with(&["verify", &q4, "--against", &model]).code, 5);
    // What is measured is a part of the file, and so is who signed it.
    let key = at("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &key]).status();
    if made.is_ok_and(|made| made.success()) {
        let public = at("key.pub");
        assert_eq!(trine_with(&["verify", &q4, "--public-key", &public]).code, 5);
        ok(&["eval", "perplexity", &q4, &text, "--context", "16", "--record", "--sign", &key]);
        ok(&["verify", &q4, "--public-key", &public]);
        let shown = Command::new("ssh-keygen").args(["-lf", &public]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let fingerprint = shown.split(' ').nth(1).unwrap();
        assert!(ok(&["info", &q4]).out.contains(fingerprint));
    }
    for option in [&["--quantize-on-load", "q4_0"][..], &["--tokenizer", &q8]] {
        let other = trine_with(&[&["eval", "perplexity", &q4, &text, "--record"], option].concat());
        assert!(other.code == 2 && other.err.contains(option[0]), "{}", other.err);
    }
    let ran = ok(&["eval", "kl", &q8, &q4, &text, "--context", "8", "--record", "--json"]);
    let receipt = ok(&["info", &q4, "--json"]);
    let receipt: serde_json::Value = serde_json::from_str(&receipt.out).unwrap();
    let measured = receipt["receipt"]["measurements"].as_array().unwrap().last().unwrap().clone();
    assert!(measured["compute_path"].as_str().unwrap().starts_with("cpu:"), "{measured}");
    let [recorded, printed] = [&measured, &ran.json()].map(|json| json["mean_kl"].as_f64().unwrap());
    assert!((recorded - printed).abs() < 1e-9 && measured["reference"] == "q8.gguf", "{measured}");
    assert!(trine_with(&["doctor", &q4, "--quick"]).out.contains("mean KL"));
    ok(&["verify", &q4]);
    // A bit of the data.
    let mut bytes = fs::read(&q4).unwrap();
    let last = bytes.len() - 40;
    bytes[last] ^= 16;
    fs::write(&q4, &bytes).unwrap();
    let ran = trine_with(&["verify", &q4]);
    assert!(ran.code == 5 && ran.out.contains("failed: tensor \""), "{}", ran.out);
    let ran = trine_with(&["run", &q4, "hi", "--raw", "--verify"]);
    assert!(ran.code == 3 && ran.err.contains("tensor \""), "{}", ran.err);
    let ran = trine_with(&["verify", &q4, "--json"]).json();
    assert_eq!((&ran["verified"], &ran["failures"].as_array().unwrap().len()), (&false.into(), &1));
    assert_eq!(trine_with(&["verify", &at("none.gguf")]).code, 3);
    let ran = trine_with(&["eval", "kl", &q8, &model, &text, "--record"]);
    assert!(ran.code == 2 && ran.err.contains("has no receipt"), "{}", ran.err);
    let ran = trine_with(&["quantize", &model, &at("x.gguf"), "-f", "q8_0", "--sign", &text]);
    assert!(ran.code == 2 && ran.err.contains("ed25519 private key"), "{}", ran.err);
    // Without a receipt, what can be checked is.
    ok(&["quantize", &q8, &at("none.gguf"), "-f", "q4_0", "--no-receipt"]);
    let ran = ok(&["verify", &at("none.gguf")]);
    assert!(ran.out.contains("not checked: hashes") && ran.out.contains("nothing wrong found"), "{}", ran.out);
}
