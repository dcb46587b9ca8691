//! The program and files that lie: it says what is wrong with which file, and never more or less than that.

mod common;

use common::trine_with;
use std::path::{Path, PathBuf};

/// The files of `golden/hostile`, which `golden/hostile.py` makes.
fn hostile(kind: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/hostile").join(kind);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn what_does_not_open_ends_with_3_and_its_name() {
    for kind in ["gguf", "safetensors", "index", "split"] {
        for path in hostile(kind) {
            let name = path.display().to_string();
            let ran = trine_with(&["info", &name]);
            assert_eq!((ran.code, ran.out.as_str()), (3, ""), "{name}: {}", ran.err);
            assert!(ran.err.contains(&name), "{name}: {}", ran.err);
        }
    }
}

#[test]
fn what_opens_and_is_no_model_is_shown_and_does_not_run() {
    for path in hostile("models") {
        let name = path.display().to_string();
        let good = name.ends_with("good.gguf");
        let shown = trine_with(&["info", &name, "--json", "--tensors", "--metadata"]);
        assert_eq!(shown.code, 0, "{name}: {}", shown.err);
        let shown: serde_json::Value = serde_json::from_str(&shown.out).unwrap();
        assert!(shown["tensors"].as_array().is_some_and(|tensors| !tensors.is_empty()), "{name}");
        let ran = trine_with(&["run", &name, "a", "--raw", "--max-tokens", "1"]);
        assert!(ran.code == if good { 0 } else { 3 }, "{name}: {} {}", ran.code, ran.err);
        assert!(good || ran.err.contains(&name), "{name}: {}", ran.err);
    }
}
