//! `trine convert`, `split`, `merge`, `diff` and `edit`.
#![cfg(unix)]

mod common;

use common::{changed, golden, llama, run, spoil, trine, trine_with};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use trine_tensor::File;

fn done(args: &[&str]) -> common::Ran {
    let ran = trine_with(args);
    assert_eq!(ran.code, 0, "{args:?}: {}{}", ran.out, ran.err);
    ran
}

#[test]
fn a_folder_becomes_a_file_that_answers_alike() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let source = golden("qwen3").display().to_string();
    let plan = done(&["convert", &source, &at("a.gguf"), "--dry-run", "--json"]).json();
    assert_eq!(plan["tensors"].as_array().unwrap().len(), 25);
    assert_eq!(plan["tensors"][0]["name"], "token_embd.weight");
    assert!(!Path::new(&at("a.gguf")).exists());
    let text = done(&["convert", &source, &at("a.gguf"), "--dry-run", "--to", "q8_0"]).out;
    assert!(text.contains("token_embd.weight") && text.contains("Q8_0"), "{text}");
    let report = done(&["convert", &source, &at("a.gguf"), "--json"]).json();
    assert_eq!(report["bytes_after"], plan["bytes_after"]);
    let again = trine_with(&["convert", &source, &at("a.gguf")]);
    assert!(again.code == 2 && again.err.contains("--force replaces it"), "{}", again.err);
    let answer =
        |model: &str| done(&["run", model, "Once upon", "--raw", "--max-tokens", "20", "--temperature", "0"]).out;
    assert_eq!(answer(&source), answer(&at("a.gguf")));
    // Formats in the same pass, as quantize makes them of the file.
    done(&["convert", &source, &at("b.gguf"), "--format", "q8_0"]);
    done(&["quantize", &source, &at("c.gguf"), "--to", "q8_0"]);
    done(&["quantize", &at("a.gguf"), &at("d.gguf"), "--format", "q8_0"]);
    let bytes = |name: &str| std::fs::read(at(name)).unwrap();
    assert!(bytes("b.gguf") == bytes("c.gguf"));
    // A folder of safetensors files is the same model.
    done(&["convert", trine::EMBEDDED, &at("folder")]);
    done(&["diff", trine::EMBEDDED, &at("folder")]);
    let same = done(&["diff", &at("b.gguf"), &at("d.gguf"), "--json"]).json();
    assert_eq!(same["tensors"].as_array().unwrap().iter().filter(|tensor| tensor["max_abs"] != 0.0).count(), 0);
}

#[test]
fn what_a_folder_cannot_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (source, out) = (golden("qwen3").display().to_string(), folder.path().join("out").display().to_string());
    let plan = done(&["convert", &source, &out, "--dry-run", "--json"]).json();
    assert!(plan["tensors"].as_array().unwrap().iter().any(|tensor| tensor["name"] == "model.norm.weight"), "{plan}");
    for options in [
        &["--format", "q8_0"][..],
        &["--tensor", "ffn=f16"],
        &["--layers", "0=f16"],
        &["--embedding-type", "f16"],
        &["--output-type", "f16"],
        &["--really", "--format", "f16"],
        &["--pure", "--format", "w8a8"],
        &["--block-size", "32", "--format", "w8a8"],
        &["--no-receipt"],
        &["--sign", "key"],
        &["--force"],
    ] {
        let ran = trine_with(&[&["convert", &source, &out], options].concat());
        assert!(ran.code == 2 && ran.err.contains(options[0]), "{options:?}: {}", ran.err);
        assert!(!Path::new(&out).exists(), "{options:?}");
    }
}

#[test]
fn pictures_replace_no_model_and_keys_make_no_file_unreadable() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::copy(llama(), at("a.gguf")).unwrap();
    std::fs::write(at("text.txt"), "The miller counted pear trees. ".repeat(20)).unwrap();
    std::fs::write(at("bad.jinja"), "{% if %}").unwrap();
    let before = std::fs::read(at("a.gguf")).unwrap();
    for (args, expected) in [
        (
            &["compare", &*at("a.gguf"), &llama(), &at("text.txt"), "--png", &at("a.gguf"), "--force"][..],
            "another file",
        ),
        (&["compare", &at("a.gguf"), &llama(), &at("text.txt"), "--png", &at("x"), "--svg", &at("x")], "another file"),
        (
            &["compare", &at("a.gguf"), &llama(), &at("text.txt"), "--quantize-on-load", "q4_0"],
            "whose sizes are compared",
        ),
        (&["edit", &at("a.gguf"), "--set", "split.count=3"], "one of the parts"),
        (&["edit", &at("a.gguf"), "--remove", "split.count"], "one of the parts"),
        (&["edit", &at("a.gguf"), "--set", "tokenizer.chat_template={% if %}"], "--set tokenizer.chat_template: "),
        (&["edit", &at("a.gguf"), "--set", "tokenizer.chat_template.tool_use={{"], "chat_template.tool_use: "),
        (&["edit", &at("a.gguf"), "--chat-template", &at("bad.jinja")], "bad.jinja"),
    ] {
        let ran = trine_with(args);
        assert!(ran.code == 2 && ran.err.contains(expected), "{args:?}: {} {}", ran.code, ran.err);
        assert!(std::fs::read(at("a.gguf")).unwrap() == before, "{args:?}");
    }
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"bad\xffname.gguf");
    for args in [&["verify", "--json"][..], &["bench", "startup", "--output", "json"]] {
        let ran = run(trine().args(args).arg(name), "");
        assert!(ran.code == 2 && ran.err.contains("expected names in UTF-8"), "{} {}", ran.code, ran.err);
    }
}

#[test]
fn parts_of_a_model_are_merged_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let plan = done(&["split", &llama(), &at("part.gguf"), "--shard-size", "40KB", "--dry-run", "--json"]).json();
    let split = done(&["split", &llama(), &at("part.gguf"), "--shard-size", "40KB", "--json"]).json();
    assert_eq!(plan["files"], split["files"]);
    let files = split["files"].as_array().unwrap();
    assert!(files.len() > 2 && files[0].as_str().unwrap().contains("part-00001-of-0000"), "{files:?}");
    let one = done(&["split", &llama(), &at("whole-1.5"), "--json"]).json();
    assert!(one["files"][0].as_str().unwrap().ends_with("whole-1.5.gguf"), "{one}");
    done(&["merge", files[1].as_str().unwrap(), &at("whole.gguf")]);
    assert!(done(&["diff", &llama(), &at("whole.gguf")]).out.contains("the same model"));
    let spoiled = changed(folder.path(), "spoiled.gguf", |_, tensors| spoil(tensors));
    for (first, second, code) in [(&llama(), &spoiled, 5), (&spoiled, &llama(), 5), (&spoiled, &spoiled, 0)] {
        let ran = trine_with(&["diff", first, second]);
        assert_eq!(ran.code, code, "{first} {second}: {} {}", ran.out, ran.err);
    }
    std::fs::remove_file(files[2].as_str().unwrap()).unwrap();
    let missing = trine_with(&["merge", files[0].as_str().unwrap(), &at("b.gguf")]);
    assert!(missing.code != 0 && !Path::new(&at("b.gguf")).exists(), "{}", missing.err);
}

#[test]
fn parts_of_two_splits_are_not_mixed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let split = |size: &str, more: &[&str]| {
        let ran = trine_with(&[&["split", trine::EMBEDDED, &at("part"), "--shard-size", size], more].concat());
        (ran.code, ran.err)
    };
    assert_eq!(split("500KB", &[]).0, 0);
    let (code, err) = split("1MB", &[]);
    assert!(code == 2 && err.contains("part-00001-of-00004.gguf: expected no files of another split"), "{err}");
    assert!(!Path::new(&at("part-00001-of-00002.gguf")).exists());
    let (code, err) = split("1MB", &["--force"]);
    assert!(code == 0 && err.contains("part-00001-of-00004.gguf and 3 more") && err.contains("still there"), "{err}");
    let edit = trine_with(&["edit", &at("part-00002-of-00004.gguf"), "--set", "general.name=x"]);
    assert!(edit.code == 2 && edit.err.contains("of the model, part-00001-of-00004.gguf"), "{}", edit.err);
    // What a run leaves that is killed while its files take the place of old ones.
    std::fs::remove_file(at("part-00001-of-00002.gguf")).unwrap();
    let cut = trine_with(&["info", &at("part-00002-of-00002.gguf")]);
    assert!(cut.code == 3 && cut.err.contains("if writing them was interrupted, repeat it"), "{}", cut.err);
}

#[test]
fn a_tokenizer_of_sentencepiece_goes_to_a_folder_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tokenizer = common::golden("../tokenizers/spm-bpe.model").display().to_string();
    done(&["convert", trine::EMBEDDED, &at("a.gguf"), "--tokenizer", &tokenizer]);
    done(&["convert", &at("a.gguf"), &at("hf")]);
    done(&["convert", &at("hf"), &at("b.gguf")]);
    for text in ["Once upon  a time", " \u{4f60} na\u{ef}ve\n", ""] {
        let ids = |model: &str| done(&["tokenize", &at(model), text, "--json"]).out;
        assert_eq!(ids("a.gguf"), ids("b.gguf"), "{text:?}");
    }
    // BitNet's packed matrices have no format of floats, and all others this one.
    let config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("hf/config.json")).unwrap()).unwrap();
    assert_eq!(config["torch_dtype"], "float32");
}

#[test]
fn ternary_weights_stored_as_floats_get_ternary_formats() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    done(&["convert", trine::EMBEDDED, &at("a.gguf"), "--format", "f16"]);
    let args = ["quantize", &at("a.gguf"), &at("b.gguf"), "--target-bpw", "2.5", "--chunks", "1", "--json"];
    let report = done(&args).json();
    let choices = report["choices"].as_array().unwrap();
    let of_layers: Vec<&str> = choices
        .iter()
        .filter(|cost| cost["group"].as_str().unwrap().contains("layers"))
        .map(|cost| cost["format"].as_str().unwrap())
        .collect();
    assert!(of_layers.len() > 10 && of_layers.iter().all(|name| ["TQ1_0", "TQ2_0", "I2_S"].contains(name)), "{report}");
    let small = trine_with(&["quantize", &at("a.gguf"), &at("c.gguf"), "--target-bpw", "0.5"]);
    assert!(small.code == 2 && !small.err.contains("iq2_xxs"), "{}", small.err);
}

#[test]
fn options_that_would_change_nothing_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (text, out, imatrix) = (at("text.txt"), at("out.gguf"), at("imatrix.gguf"));
    std::fs::write(&text, "The miller counted pear trees. ".repeat(60)).unwrap();
    std::fs::write(at("choice.jsonl"), r#"{"query": "a", "choices": ["b", "c"], "gold": 0}"#).unwrap();
    done(&["imatrix", trine::EMBEDDED, &text, "-o", &imatrix, "--chunks", "1", "--context", "32"]);
    let (llama, stories, text_gguf) = (llama(), trine::EMBEDDED, at("there.gguf"));
    std::fs::write(&text_gguf, "There already.").unwrap();
    let (quantize, stories) = (["quantize", &llama, &out], ["quantize", stories, &out]);
    let eval = ["eval", "perplexity", &llama, &text];
    for (command, options, expected) in [
        (&quantize[..], &["-f", "q8_0", "--really"][..], "--really"),
        (&quantize, &["-f", "q8_0", "--tensor", "norm=f16"], "norm=f16: no matrix matches"),
        (&quantize, &["-f", "q8_0", "--tensor", "ffn=f16", "--tensor", "ffn_up=q4_0"], "ffn_up=q4_0: all matrices"),
        (&quantize, &["-f", "q8_0", "--layout", "tl2"], "--layout tl2"),
        (&quantize, &["-f", "q8_0", "--shard-size", "0"], "above 0"),
        (&quantize, &["-f", "q8_0", "--layers", "0-99=f16"], "--layers 0-99=f16: the model has"),
        (&quantize, &["-f", "q8_0", "--tensor", ".*=f16"], "--format: all matrices have a format"),
        (&stories, &["-f", "i2_s", "--really"], "--really: no matrix that is not ternary"),
        (&stories, &["-f", "i2_s", "--embedding-type", "q1_0", "--dry-run"], "have more than one bit"),
        (&stories, &["-f", "i2_s", "--embedding-type", "i2_s", "--dry-run"], "are not ternary"),
        (&["quantize", &llama, &text_gguf], &["-f", "q8_0", "--dry-run"], "--force replaces it"),
        (&["compare", &llama, &llama, &text], &["--force"], "--force: no picture"),
        (&["compare", &llama, &llama, &text], &["--png", "a.svg"], "--png: expected another name"),
        (&["doctor", &llama], &["--compare-devices", "cpu,cpu"], "found cpu twice"),
        (&stories, &["-f", "q4_0", "--output-type", "f16", "--embedding-type", "f16"], "--output-type"),
        (&stories, &["-f", "q8_0", "--imatrix", &imatrix], "--imatrix"),
        (&stories, &["--target-bpw", "4", "--pure"], "--pure"),
        (&stories, &["--target-bpw", "4", "--block-size", "64"], "--block-size"),
        (&stories, &["--target-bpw", "40"], "the largest mixture has"),
        (&stories, &["--target-size", "1KB"], "the smallest mixture has"),
        (&["convert", trine::EMBEDDED, &out], &["--imatrix", &imatrix], "--imatrix"),
        (&["edit", &llama], &["--set", "a=1", "--set", "a=2"], "two of `a`"),
        (&["edit", &llama], &["--set", "general.name=x", "--remove", "general.name"], "two of `general.name`"),
        (&["edit", folder.path().to_str().unwrap()], &["--set", "a=1"], "found a folder"),
        (&eval, &["--template-name", "foo"], "--template-name"),
        (&eval, &["--layout", "tl2"], "--layout tl2"),
        (&["eval", "kl", &llama, &llama, &text], &["--context", "1"], "--context 1"),
        (&["eval", "tasks", &llama, "--tasks", &at("choice.jsonl")], &["--generate"], "--generate"),
        (&["eval", "tasks", &llama, "--tasks", &at("choice.jsonl")], &["--data", "."], "--data"),
        (&["eval", "w8a8", &llama, &text], &["--quantize-on-load", "q4_0"], "--quantize-on-load"),
        (&["imatrix", trine::EMBEDDED, &text, "-o", &out], &["--process-output"], "--process-output"),
        (&["imatrix", trine::EMBEDDED, &text, "-o", &out], &["--template-name", "foo"], "--template-name"),
    ] {
        let ran = trine_with(&[command, options].concat());
        assert!(ran.code == 2 && ran.err.contains(expected), "{command:?} {options:?}: {} {}", ran.code, ran.err);
        assert!(!Path::new(&out).exists(), "{command:?} {options:?}");
    }
    let mut zeros = trine_lab::imatrix::Imatrix::read(Path::new(&imatrix)).unwrap();
    zeros.entries.values_mut().for_each(|entry| entry.sums.fill(0.0));
    zeros.write(Path::new(&at("zeros.gguf")), Default::default()).unwrap();
    zeros.entries.values_mut().for_each(|entry| entry.counts.fill(-1.0));
    zeros.write(Path::new(&at("below.gguf")), Default::default()).unwrap();
    // Every other column had no input.
    let wide = at("wide.gguf");
    let go_on = &mut |_, _| std::ops::ControlFlow::Continue(());
    let mixture = trine_lab::synthetic::Mixture::named("f16").unwrap();
    trine_lab::synthetic::write(Path::new(&wide), trine_lab::synthetic::shape("tiny").unwrap(), mixture, 1, go_on)
        .unwrap();
    let file = File::open(&wide).unwrap();
    let mut half = trine_lab::imatrix::Imatrix::default();
    for view in file.tensors().filter(|view| view.name.starts_with("blk.") && view.shape.len() == 2) {
        let sums = (0..view.cols()).map(|i| (i % 2) as f32).collect();
        half.entries.insert(view.name.clone(), trine_lab::imatrix::Entry { sums, counts: vec![1.0] });
    }
    half.write(Path::new(&at("half.gguf")), Default::default()).unwrap();
    std::fs::write(at("chats.jsonl"), r#"{"messages": [{"role": "user", "content": "a"}]}"#).unwrap();
    std::fs::write(at("short.txt"), "a").unwrap();
    for (args, status, expected) in [
        (&["quantize", trine::EMBEDDED, &out, "-f", "q4_k", "--imatrix", &at("zeros.gguf")][..], 1, "zeros alone"),
        (
            &["quantize", trine::EMBEDDED, &out, "-f", "q4_k", "--imatrix", &at("below.gguf")],
            1,
            "counts of inputs from 0",
        ),
        (&["quantize", &wide, &out, "-f", "iq1_s", "--imatrix", &at("half.gguf")], 1, "has columns of zeros"),
        (&["quantize", trine::EMBEDDED, &out, "-f", "q4_k", "--imatrix", &at("nothing.gguf")], 1, "check the path"),
        (&["imatrix", trine::EMBEDDED, &at("chats.jsonl"), "-o", &out], 2, "lines with `text` need none"),
        (&["quantize", trine::EMBEDDED, &out, "--target-bpw", "3", "--text", &at("short.txt")], 1, "a longer --text"),
    ] {
        let ran = trine_with(args);
        assert!(ran.code == status && ran.err.contains(expected), "{args:?}: {} {}", ran.code, ran.err);
    }
    // The output is in Q6_K, whose blocks are longer than those of Q5_0.
    let ran = trine_with(&["quantize", &llama, &at("short.gguf"), "-f", "q5_0"]);
    assert!(ran.code == 0 && ran.err.contains("not multiples of 256 weights (output.weight)"), "{}", ran.err);
    // A matrix that was not measured has a name.
    let mut entries = trine_lab::imatrix::Imatrix::read(Path::new(&imatrix)).unwrap();
    entries.entries.remove("blk.1.attn_q.weight").unwrap();
    entries.write(Path::new(&imatrix), Default::default()).unwrap();
    let ran = trine_with(&[&stories[..], &["-f", "q4_k", "--imatrix", &imatrix]].concat());
    assert!(ran.code == 0 && ran.err.contains("no entry for blk.1.attn_q.weight:"), "{} {}", ran.code, ran.err);
}

#[test]
fn a_tokenizer_of_fewer_tokens_gets_unused_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let tokenizer = golden("llama").join("model.gguf");
    let rows = |path: &str| File::open(path).unwrap().view("token_embd.weight").unwrap().rows();
    let tokens = |path: &str| match File::open(path).unwrap().metadata().get("tokenizer.ggml.tokens") {
        Some(trine_tensor::Value::Array(trine_tensor::Array::String(names))) => {
            names.iter().map(str::to_owned).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let ran = trine_with(&["convert", trine::EMBEDDED, &at("a.gguf"), "--tokenizer", tokenizer.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let (found, old) = (tokens(&at("a.gguf")), tokens(tokenizer.to_str().unwrap()));
    assert!(old.len() < found.len() && found.len() == rows(&at("a.gguf")), "{} {}", old.len(), found.len());
    assert!(ran.err.contains("unused tokens"), "{}", ran.err);
    assert_eq!(found[old.len()], format!("[PAD{}]", old.len()));
    assert_eq!(done(&["run", &at("a.gguf"), "a", "--raw", "--max-tokens", "2"]).code, 0);
}

/// Each writes a file of its own, and the last one that is complete takes the name.
#[test]
fn two_at_once_leave_the_whole_file_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let formats = ["q8_0", "q4_0"];
    for format in formats {
        done(&["quantize", trine::EMBEDDED, &at(&format!("{format}.gguf")), "-f", format]);
    }
    let same = at("same.gguf");
    let start = |format| {
        let args = ["quantize", trine::EMBEDDED, &same, "-f", format, "--force"];
        trine().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    for _ in 0..3 {
        for mut child in formats.map(start) {
            assert!(child.wait().unwrap().success());
        }
        let found = std::fs::read(&same).unwrap();
        assert!(formats.iter().any(|format| std::fs::read(at(&format!("{format}.gguf"))).unwrap() == found));
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    // Without --force, one of several makes the file, or all shards.
    for (round, shards) in [None, Some("200KB")].into_iter().cycle().take(4).enumerate() {
        let new = at(&format!("new{round}.gguf"));
        let start = |format| {
            let mut args = vec!["quantize", trine::EMBEDDED, &new, "-f", format];
            args.extend(shards.iter().flat_map(|size| ["--shard-size", size]));
            trine().args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        };
        let ran = ["q8_0", "q8_0", "q8_0"].map(start).map(|child| child.wait_with_output().unwrap());
        assert_eq!(ran.iter().filter(|output| output.status.success()).count(), 1, "{ran:?}");
        for output in ran.iter().filter(|output| !output.status.success()) {
            let message = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.code() == Some(2) && message.contains("--force replaces it"), "{message}");
        }
        let found = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        let first = found.filter(|path| path.to_string_lossy().contains(&format!("new{round}"))).min().unwrap();
        done(&["diff", first.to_str().unwrap(), &at("q8_0.gguf")]);
    }
}

#[test]
fn keys_are_changed_and_a_model_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::copy(llama(), &path).unwrap();
    let model = path.display().to_string();
    let edit = |more: &[&str]| trine_with(&[&["edit", &model], more].concat());
    let key = |key: &str| File::open(&path).unwrap().metadata().get(key).cloned();
    let weights = || File::open(&path).unwrap().tensors().map(|view| view.bytes.to_vec()).collect::<Vec<_>>();
    let before = weights();
    let name = match key("general.name") {
        Some(trine_tensor::Value::String(name)) => name,
        other => panic!("{other:?}"),
    };
    let same_length = "x".repeat(name.len());
    let in_place = edit(&["--set", &format!("general.name={same_length}"), "--json"]);
    assert_eq!(in_place.json()["how"], "header changed in place", "{}", in_place.err);
    assert_eq!(key("general.name"), Some(same_length.into()));
    let template = folder.path().join("template.jinja");
    std::fs::write(&template, "{% for message in messages %}{{ message.content }}{% endfor %}".repeat(3)).unwrap();
    let anew = edit(&["--chat-template", &template.display().to_string(), "--json"]);
    assert_eq!(anew.json()["how"], "written anew", "{}", anew.err);
    assert!(key("tokenizer.chat_template").is_some());
    assert_eq!(edit(&["--remove", "tokenizer.chat_template", "--set", "general.author=me"]).code, 0);
    assert_eq!((key("tokenizer.chat_template"), key("general.author")), (None, Some("me".into())));
    assert!(weights() == before);
    // What is no model any more is not written.
    let bytes = std::fs::read(&path).unwrap();
    for (args, expected) in [
        (&["--set", "llama.block_count=7"][..], "blk.2."),
        (&["--set", "llama.block_count=many"], "of the type that the key has"),
        (&["--set", "general.alignment=64"], "by which tensors are aligned"),
        (&["--remove", "general.architecture"], "general.architecture"),
        (&["--remove", "tokenizer.ggml.model"], "tokenizer.ggml.model"),
        (&["--remove", "tokenizer.ggml.tokens"], "tokenizer.ggml.tokens"),
        (&["--set", "general.name"], "expected KEY=VALUE"),
        (&["--remove", "no.such.key"], "no.such.key"),
        (&[], "expected a change"),
    ] {
        let ran = edit(args);
        assert!(ran.code != 0 && ran.err.contains(expected), "{args:?}: {}", ran.err);
        assert!(std::fs::read(&path).unwrap() == bytes, "{args:?}");
    }
}

/// Whatever moment it is killed at, the old file or the new one is there, whole.
#[test]
fn a_killed_conversion_leaves_no_broken_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::copy(llama(), at("old.gguf")).unwrap();
    let old = std::fs::read(llama()).unwrap();
    let started = std::time::Instant::now();
    done(&["quantize", trine::EMBEDDED, &at("whole.gguf"), "--format", "iq4_nl"]);
    let whole = started.elapsed();
    let new = std::fs::read(at("whole.gguf")).unwrap();
    for i in 0..5 {
        let args = ["quantize", trine::EMBEDDED, &at("old.gguf"), "--format", "iq4_nl", "--force"];
        let mut child = trine().args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(2 * i + 1) / 10.0));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        let found = std::fs::read(at("old.gguf")).unwrap();
        assert!(found == old || found == new, "killed after {i} tenths: {} bytes", found.len());
        std::fs::write(at("old.gguf"), &old).unwrap();
    }
    for moment in [1, 3] {
        let mut child =
            trine().args(["convert", trine::EMBEDDED, &at("folder")]).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(f64::from(moment) / 10.0));
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = std::fs::remove_dir_all(at("folder"));
    }
    // What was left is removed by the next.
    done(&["quantize", trine::EMBEDDED, &at("old.gguf"), "--format", "iq4_nl", "--force"]);
    let left = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name != "old.gguf" && name != "whole.gguf");
    assert_eq!(left.count(), 0);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error_and_the_old_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no small disk can be mounted here");
        return;
    }
    let target = disk.join("model.gguf");
    std::fs::copy(llama(), &target).unwrap();
    let at = |name: &str| disk.join(name).display().to_string();
    let mut ran: Vec<(common::Ran, usize)> = Vec::new();
    for args in [
        &["quantize", trine::EMBEDDED, &at("model.gguf"), "--format", "q8_0", "--force"][..],
        &["split", trine::EMBEDDED, &at("model.gguf"), "--shard-size", "200KB"],
        &["convert", trine::EMBEDDED, &at("folder")],
    ] {
        let this = trine_with(args);
        ran.push((this, std::fs::read_dir(&disk).unwrap().count()));
    }
    let found = std::fs::read(&target).unwrap();
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    for (ran, left) in ran {
        assert!(ran.code == 1 && ran.err.contains("No space left"), "{} {}", ran.code, ran.err);
        assert_eq!(left, 1, "a file is left: {}", ran.err);
    }
    assert!(found == std::fs::read(llama()).unwrap());
}

#[test]
fn a_profile_has_a_step_for_each_tensor_and_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let model = llama();
    done(&["quantize", &model, &at("usual.gguf"), "--format", "q8_0"]);
    let profile = ["--profile", &at("trace.json"), "--profile-depth", "kernel"];
    let ran = done(&[&["quantize", &model, &at("new.gguf"), "--format", "q8_0"][..], &profile].concat());
    assert!(std::fs::read(at("usual.gguf")).unwrap() == std::fs::read(at("new.gguf")).unwrap());
    for words in ["slowest tensors", "Q8_0", "M weights/s", "threads: decode", "read", "write"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let trace: Value = serde_json::from_slice(&std::fs::read(at("trace.json")).unwrap()).unwrap();
    let count = File::open(at("new.gguf")).unwrap().tensors().count();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |cat: &'static str| events.iter().filter(move |event| event["cat"] == cat);
    assert_eq!((of("step").count(), of("pass").count()), (count, 2 * count));
    let tensors = trace["otherData"]["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), count);
    let span = |event: &Value| ["ts", "dur"].map(|key| event[key].as_f64().unwrap());
    for step in of("step") {
        let [begin, time] = span(step);
        let inside =
            |event: &&Value| span(event)[0] >= begin - 1e-3 && span(event).iter().sum::<f64>() <= begin + time + 1e-3;
        let phases: Vec<&str> = of("pass").filter(inside).map(|event| event["name"].as_str().unwrap()).collect();
        assert_eq!(phases, ["read", "encode"], "{step}");
        assert!(of("operation").filter(inside).count() > 0 && of("kernel").filter(inside).count() > 0, "{step}");
        assert_eq!(step["name"], step["args"]["tensor"]);
        let size = tensors.iter().find(|tensor| tensor["name"] == step["name"]).unwrap();
        assert_eq!(step["args"]["bytes"], size["bytes_after"]);
    }
    for tensor in tensors {
        let ms = |key: &str| tensor[key].as_f64().unwrap();
        assert!(ms("read_ms") + ms("write_ms") <= ms("ms") && ms("weights_per_second") > 0.0, "{tensor}");
        assert!(
            ms("threads_decode_ms") > 0.0 && (tensor["to"] == "F32") == (ms("threads_encode_ms") == 0.0),
            "{tensor}"
        );
    }
    // A folder, too.
    let ran = done(&["convert", &at("new.gguf"), &at("out"), "--format", "f16", "--profile", &at("folder.json")]);
    assert!(ran.err.contains("slowest tensors"), "{}", ran.err);
    let dry = ["quantize", &model, &at("dry.gguf"), "--format", "q8_0", "--dry-run", "--profile", &at("dry.json")];
    let ran = trine_with(&dry);
    assert!(ran.code == 2 && ran.err.contains("--profile"), "{}", ran.err);
    let ran = trine_with(&["quantize", &model, &at("x.gguf"), "--format", "q8_0", "--profile", &at("x.gguf")]);
    assert!(ran.code == 2 && ran.err.contains("x.gguf"), "{}", ran.err);
}
