//! Files that are written, and those that are read and stay.

mod common;

use common::{llama, run, trine, trine_with};

fn check(args: &[&str], code: i32, expected: &[&str]) {
    let ran = trine_with(args);
    assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
    expected.iter().for_each(|part| assert!(ran.err.contains(part), "{args:?}: {part}: {}", ran.err));
}

#[test]
fn no_file_of_the_model_and_no_device_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, before) = (at("m.gguf"), std::fs::read(llama()).unwrap());
    std::fs::write(&model, &before).unwrap();
    let expected = "expected another file, found that of [MODEL]";
    check(&["run", &model, "hi", "--raw", "--profile", &model], 2, &["m.gguf", expected]);
    check(&["bench", &model, "--profile", &model], 2, &["m.gguf", expected]);
    check(&["bench", &model, "--save-baseline", &model], 2, &["m.gguf", expected]);
    let expected = "expected no file, or one that this option wrote";
    assert_eq!(std::fs::read(&model).unwrap(), before);
    let (other, profile) = (at("other.json"), at("profile.json"));
    let write_profile = ["run", &model, "hi", "--raw", "--max-tokens", "2", "--profile", &profile];
    for _ in 0..2 {
        let ran = trine_with(&write_profile);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    std::fs::write(&other, r#"{"custom_id": "a"}"#).unwrap();
    check(&["run", &model, "hi", "--raw", "--profile", &other], 2, &["other.json", expected]);
    check(&["bench", &model, "--save-baseline", &other], 2, &["other.json", expected]);
    check(&["bench", &model, "--save-baseline", &profile], 2, &["profile.json", expected]);
    check(&["bench", "--shape", "tiny", "--write-model", &at("")], 1, &["found a folder"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
        check(&["bench", "--shape", "tiny", "--write-model", &at("device")], 1, &["device", "found a device"]);
        let ran = trine_with(&["run", &model, "hi", "--raw", "--max-tokens", "2", "--profile", &at("device")]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        assert!(std::fs::symlink_metadata(at("device")).unwrap().is_symlink());
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.len() <= 4, "{left:?}");
}

#[test]
fn no_file_that_is_read_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let model = llama();
    let generate = ["generate-data", &model, "--count", "1", "--force"];
    let (texts, requests) = (file("texts.jsonl", "{\"text\": \"a\"}\n"), file("requests.jsonl", "{}\n"));
    let link = folder.path().join("link.jsonl").display().to_string();
    std::fs::hard_link(&texts, &link).unwrap();
    for (flag, text) in [
        ("--prompts", "The"),
        ("--json-schema", "true"),
        ("--grammar", "root ::= \"a\""),
        ("--config", "threads = 1"),
        ("--tuning", "threads = 1"),
        ("--template", "x"),
    ] {
        let path = file("read.txt", text);
        let expected = format!("read.txt: expected another file, found that of {flag} <FILE>");
        check(&[&generate[..], &[&path, flag, &path]].concat(), 2, &[&expected]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
    #[cfg(unix)]
    check(&[&generate[..], &[&link, "--prompts", &texts]].concat(), 2, &["link.jsonl", "found that of --prompts"]);
    check(&["batch", &model, &requests, &requests, "--force"], 2, &["found that of <INPUT>"]);
    check(&["batch", &model, &requests, &texts, "--warm", &texts, "--force"], 2, &["found that of --warm"]);
    let new = folder.path().join("new").display().to_string();
    check(&["bench", &model, "--profile", &new, "--save-baseline", &new], 2, &["found that of --save-baseline"]);
    assert_eq!(std::fs::read_to_string(&texts).unwrap(), "{\"text\": \"a\"}\n");
    assert!(!std::fs::exists(new).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn no_line_is_read_without_end() {
    let model = llama();
    let zero = "/dev/zero";
    let too_long = "expected at most 67108864 bytes, found more";
    check(&["run", &model, "hi", "--raw", "--warm", zero], 1, &["/dev/zero, line 1: ", too_long]);
    let ran = run(trine().args(["embed", &model]), &"a".repeat((64 << 20) + 1));
    assert!(ran.code == 1 && ran.err.contains(too_long), "{} {}", ran.code, ran.err);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.jsonl").display().to_string();
    check(&["batch", &model, zero, &out, "--resume"], 2, &["/dev/zero: --resume needs a file"]);
    check(&["batch", &model, zero, &out], 1, &["/dev/zero: line 1 of the input: expected an end within"]);
}
