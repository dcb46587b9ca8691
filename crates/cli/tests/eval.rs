//! `trine eval` and `trine generate-data`: what they print and write, and what they refuse.

mod common;

use common::{changed, llama, run, shared, trine, trine_with};
use std::path::Path;

const STORIES: &str =
    "The miller counted his sacks.\n<|endoftext|>\nIt rained.\n<|endoftext|>\nÜber €5!\n<|endoftext|>\n";

fn file(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Perplexity of a file, or of standard input, as JSON.
fn eval(text: &str, input: &str, more: &[&str]) -> serde_json::Value {
    let ran = run(trine().args(["eval", "perplexity", &llama(), text, "--json"]).args(more), input);
    assert_eq!(ran.code, 0, "{}", ran.err);
    ran.json()
}

#[test]
fn perplexity_is_of_the_same_text_however_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let stories: Vec<&str> = STORIES.split("<|endoftext|>").map(str::trim).filter(|text| !text.is_empty()).collect();
    let lines: String = stories.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    let text = file(folder.path(), "stories.txt", STORIES);
    let found = eval(&text, "", &[]);
    let same = |other: &serde_json::Value| {
        ["sums", "perplexity", "bits_per_byte", "bits_per_character", "documents", "unit"]
            .iter()
            .all(|key| found[*key] == other[*key])
    };
    assert!(same(&eval("-", STORIES, &[])));
    assert!(same(&eval(&file(folder.path(), "stories.jsonl", &lines), "", &["--batch", "3", "--threads", "1"])));
    assert!(same(&eval("-", &lines.replace("text", "story"), &["--field", "story"])));
    assert!(same(&eval("-", &STORIES.replace("<|endoftext|>", "|"), &["--separator", "|"])));
    assert_eq!((&found["documents"], &found["ends"], &found["unit"]), (&3.into(), &true.into(), &"documents".into()));
    assert_eq!(found["sums"]["bytes"], stories.iter().map(|text| text.len()).sum::<usize>());
    assert_eq!(found["sums"]["characters"], stories.iter().map(|text| text.chars().count()).sum::<usize>());
    let bits = found["sums"]["nats"].as_f64().unwrap() / 2f64.ln() / found["sums"]["bytes"].as_f64().unwrap();
    assert!((found["bits_per_byte"]["value"].as_f64().unwrap() / bits - 1.0).abs() < 1e-12);
    let without = eval(&text, "", &["--no-end"]);
    assert_eq!(without["sums"]["tokens"].as_u64().unwrap() + 3, found["sums"]["tokens"].as_u64().unwrap());
    assert_eq!(eval(&text, "", &["--max-documents", "2"])["documents"], 2);
    assert_eq!(eval(&text, "", &["--max-tokens", "5"])["sums"]["tokens"], 5);
    let one = eval(&text, "", &["--second-half", "--context", "16"]);
    assert_eq!(
        (&one["ends"], &one["stride"], &one["unit"]),
        (&false.into(), &serde_json::Value::Null, &"windows".into())
    );
    let human = trine_with(&["eval", "perplexity", &llama(), &text]).out;
    for fact in ["perplexity", "bits per byte", "bits per character", "3 documents and their ends", "95 %"] {
        assert!(human.contains(fact), "{human}");
    }
}

#[test]
fn texts_that_cannot_be_measured_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, text: &[u8], more: &[&str], code: i32, says: &str| {
        let text = file(folder.path(), name, text);
        let ran = run(trine().args(["eval", "perplexity", &llama(), &text]).args(more), "");
        assert!(ran.code == code && ran.err.contains("error: ") && ran.err.contains(says), "{}: {}", ran.code, ran.err);
        assert_eq!(ran.out, "");
    };
    check("a", b"", &[], 1, "expected text, found none");
    check("a", b"abc\xff", &[], 1, "a: byte 3: expected UTF-8, found the byte 0xff");
    check(
        "a.jsonl",
        b"{\"text\": 1}\n",
        &[],
        1,
        "a.jsonl: line 1: expected an object with text in the field `text`, found a number in it",
    );
    check("a.jsonl", b"{\"text\": \"b\"}\n", &["--second-half"], 2, "expected a text file, found JSONL");
    check("a", b"Hello there", &["--context", "129"], 2, "a context of 129 tokens: expected 1 to 128");
    check("a", b"Hello there", &["--stride", "128"], 2, "a stride of 128 tokens: expected 1 to 127");
    check("a", b"Hello there", &["--second-half"], 1, "it is too short");
    check("a", b"Hello", &["--second-half", "--stride", "1"], 2, "--second-half");
    let ran = trine_with(&["eval", "perplexity", &llama(), "none.txt"]);
    assert!(ran.code == 1 && ran.err.contains("none.txt: "), "{}", ran.err);
    let mute = changed(folder.path(), "mute.gguf", |metadata, _| {
        metadata.insert("tokenizer.ggml.add_bos_token", false);
    });
    let text = file(folder.path(), "a", "a");
    let ran = trine_with(&["eval", "perplexity", &mute, &text]);
    assert!(ran.code == 1 && ran.err.contains("1 tokens") && ran.err.contains("too short"), "{}", ran.err);
}

#[test]
fn generated_texts_are_those_of_run_and_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let prompts = file(folder.path(), "prompts.txt", "The miller\nIt rained\n");
    let generate = |out: &str, more: &[&str]| {
        let args = ["generate-data", &llama(), out, "--max-tokens", "9", "--seed", "5", "--json"];
        run(trine().args(args).args(more), "")
    };
    let (out, keep) = (at("a.jsonl"), "--keep-cut");
    let ran = generate(&out, &["--count", "6", "--prompts", &prompts, keep]);
    assert_eq!((ran.code, &ran.json()["texts"]), (0, &6.into()), "{}", ran.err);
    let whole = std::fs::read_to_string(&out).unwrap();
    for (i, line) in whole.lines().enumerate() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (prompt, seed) = (["The miller", "It rained"][i % 2], line["seed"].to_string());
        let args = ["run", &llama(), prompt, "--raw", "--max-tokens", "9", "--seed", &seed, "--echo"];
        let out = trine_with(&args).out;
        let text = out.strip_suffix('\n').unwrap();
        assert_eq!((&line["text"], &line["index"]), (&text.into(), &i.into()));
    }
    let again = generate(&out, &["--count", "6", "--prompts", &prompts, keep]);
    assert!(again.code == 2 && again.err.contains("a.jsonl") && again.err.contains("hint: --resume"), "{}", again.err);
    // As if it had been killed.
    std::fs::write(&out, &whole[..whole.len() / 2]).unwrap();
    let more = ["--count", "6", "--prompts", &prompts, keep, "--resume", "--parallel", "1", "--threads", "1"];
    assert_eq!(generate(&out, &more).code, 0);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), whole);
    assert_eq!(eval(&out, "", &[])["documents"], 6);
    let plain = at("a.txt");
    let ran = generate(&plain, &["--count", "2", keep, "--prompt", "The", "--separator=---"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&plain).unwrap().matches("\n---\n").count(), 2);
    assert_eq!(generate(&plain, &["--count", "2", "--resume"]).code, 2);
    assert_eq!(generate(&at("b"), &["--count", "2", "--logprobs", "1"]).code, 2);
    // What it reads is not what it writes, and a prompt that cannot be answered replaces nothing.
    let ran = generate(&prompts, &["--count", "2", "--force", "--prompts", &prompts]);
    assert!(ran.code == 2 && std::fs::read_to_string(&prompts).unwrap().contains("It rained"), "{}", ran.err);
    let long = generate(&plain, &["--count", "2", "--force", "--prompt", &"mill ".repeat(200)]);
    assert!(long.code != 0 && std::fs::metadata(&plain).unwrap().len() > 0, "{}", long.err);
    let dropped = generate(&at("c"), &["--count", "3", "--prompt", "The", "--ignore-eos"]).json();
    assert_eq!((&dropped["texts"], &dropped["cut"]), (&0.into(), &3.into()));
}

/// The teacher of the stories against transformers in float64 (documents 1 to 3, BOS or EOS at the end).
#[test]
fn bits_per_byte_are_those_of_transformers() {
    let Some(shared) = shared() else { return };
    let model = shared.join("models/stories3M/stories3M-f32.gguf").display().to_string();
    let text = shared.join("text/tinystories.txt").display().to_string();
    let ran = trine_with(&["eval", "perplexity", &model, &text, "--max-documents", "3", "--json"]);
    let (found, expected) = (ran.json()["bits_per_byte"]["value"].as_f64().unwrap(), 0.4606158210537947);
    assert!((found / expected - 1.0).abs() < 1e-6, "{found}");
}

#[test]
fn encoders_predict_no_text() {
    let encoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/encoders/modernbert").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.txt");
    std::fs::write(&text, "Once upon a time there was a miller.").unwrap();
    let text = text.display().to_string();
    for args in
        [&["eval", "perplexity", &encoder, &text][..], &["bench", &encoder, "--decode", "1"], &["run", &encoder, "Hi"]]
    {
        let ran = trine_with(args);
        assert!(ran.code != 0 && ran.err.contains("is an encoder"), "{args:?}: {}", ran.err);
        assert!(args[0] != "run" || ran.err.contains("hint: `trine embed`"), "{}", ran.err);
    }
}

#[test]
fn models_are_compared_with_each_other_and_with_saved_logits() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "text.txt", trine_lab::bench::TEXT);
    let [logits, small] = ["logits.bin", "small.gguf"].map(|name| folder.path().join(name).display().to_string());
    let model = "embedded:stories";
    let ok = |args: &[&str]| {
        let ran = trine_with(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran
    };
    ok(&["quantize", model, &small, "--format", "q4_0"]);
    let short = ["--context", "64", "--chunks", "3", "--quiet"];
    let direct = ok(&[&["eval", "kl", model, &small, &text, "--json"], &short[..]].concat()).json();
    assert_eq!((&direct["tokens"], &direct["complete"]), (&(3 * 31).into(), &true.into()));
    for key in ["mean_kl", "median_kl", "p999_kl", "max_kl", "top1", "top5", "flips", "mean_kl_low"] {
        assert!(direct[key].is_f64(), "{key}: {direct}");
    }
    ok(&[&["eval", "logits", model, &text, &logits], &short[..]].concat());
    let saved = ok(&["eval", "kl", &logits, &small, "--json", "--quiet"]).json();
    let [a, b] = [&direct, &saved].map(|json| json["mean_kl"].as_f64().unwrap());
    assert!((a / b - 1.0).abs() < 0.05, "{a} {b}");
    // Nothing is scored across documents, and separators are no text.
    let parts = trine_lab::bench::TEXT.split_once(" In the winter").unwrap();
    let parts = [parts.0, parts.1.trim()];
    let lines = parts.map(|part| serde_json::json!({ "text": part }).to_string());
    let separated = file(folder.path(), "separated.txt", parts.join("<|endoftext|>\n"));
    let lines = file(folder.path(), "lines.jsonl", lines.join("\n"));
    let kl = |text: &str, more: &[&str]| {
        let mut json = ok(&[&["eval", "kl", model, &small, text, "--json", "--quiet"], more].concat()).json();
        for key in ["text", "seconds"] {
            json[key] = serde_json::Value::Null;
        }
        json
    };
    let [documents, stream] = [&[][..], &["--separator", ""]].map(|more| kl(&separated, more));
    assert_eq!(documents, kl(&lines, &[]));
    let perplexity = |json: &serde_json::Value| json["perplexity_reference"].as_f64().unwrap();
    assert!(documents["chunks"].as_u64() >= Some(2) && documents["context"].as_u64() < Some(512), "{documents}");
    assert!(perplexity(&documents) < perplexity(&stream), "{documents} {stream}");
    // A separator that is given and not there.
    let ran = ok(&["eval", "kl", model, &small, &separated, "--separator", "###"]);
    assert!(ran.err.contains("the separator \"###\" is not in"), "{}", ran.err);
    let human = ok(&["eval", "kl", &logits, &small]).out;
    for fact in ["mean KL", "same top token", "93 tokens in 3 chunks of 64"] {
        assert!(human.contains(fact), "{human}");
    }
    for (args, code, says) in [
        (vec!["eval", "kl", model, &small], 2, "expected a text"),
        (vec!["eval", "kl", &logits, &small, &text], 2, "has its own text"),
        (vec!["eval", "kl", &logits, &small, "--context", "9"], 2, "has its own"),
        (vec!["eval", "kl", &logits, &small, "--separator", ""], 2, "--separator: "),
        (vec!["eval", "kl", model, &small, &lines, "--separator", ""], 2, "--separator: "),
        (vec!["quantize", model, "q.gguf", "--target-bpw", "4.5", "--separator", "x"], 2, "expected --text"),
        (vec!["quantize", model, "q.gguf", "-f", "q8_0", "--separator", "x"], 2, "nothing is measured"),
        (vec!["eval", "kl", model, &small, &text, "--chunks", "0"], 2, "0 is not in 1..="),
        (vec!["eval", "kl", model, &llama(), &text, "--context", "64"], 2, "its tokens of the text are not those of"),
        (vec!["eval", "logits", model, &text, &logits], 2, "--force"),
        (vec!["eval", "kl", &text, &small, &text], 3, "text.txt"),
    ] {
        let ran = trine_with(&args);
        assert!(ran.code == code && ran.err.contains(says), "{args:?}: {} {}", ran.code, ran.err);
    }
}

#[test]
fn questions_are_answered_and_importance_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let model = "embedded:stories";
    let nested = folder.path().join("tasks/deep");
    std::fs::create_dir_all(&nested).unwrap();
    let line = r#"{"query": "Once upon a", "choices": ["car.", "time there was a girl."], "gold": 1}"#;
    file(&nested, "stories.jsonl", format!("{line}\n{line}\n"));
    file(&nested, "words.jsonl", "{\"context\": \"Once upon a\", \"continuation\": \"time\"}\n");
    let data = folder.path().join("tasks").display().to_string();
    let args = ["eval", "tasks", model, "--data", &data, "--against", model, "--generate"];
    let json = trine_with(&[&args[..], &["--json", "--quiet"]].concat()).json();
    let stories = &json["results"]["stories"];
    assert_eq!((&stories["acc"], &stories["stderr"], &stories["examples"]), (&1.0.into(), &0.0.into(), &2.into()));
    assert_eq!(json["results"]["words"]["stderr"], serde_json::Value::Null);
    assert_eq!(json["results"]["words"]["exact_match"], 0.0);
    assert_eq!((&json["paired"]["stories"]["p"], &json["aggregate"]["acc"]), (&1.0.into(), &1.0.into()));
    let human = trine_with(&args).out;
    assert!(human.contains("acc_norm %") && human.contains("mean of 2 tasks"), "{human}");
    for (more, says) in [
        (&["--tasks", "storie"][..], "did you mean stories?"),
        (&["--tasks", "stories,stories"], "is there twice"),
        (&["--tasks", "stories,none.jsonl"], "none.jsonl"),
    ] {
        let ran = trine_with(&[&["eval", "tasks", model, "--data", &data], more].concat());
        assert!(ran.code != 0 && ran.err.contains(says), "{more:?}: {}", ran.err);
    }
    assert!(trine_with(&["eval", "tasks", model]).err.contains("expected tasks"));

    let chats = r#"{"messages": [{"role": "user", "content": "Tell me a story about a dog and a cat, please."}]}"#;
    let text =
        file(folder.path(), "texts.jsonl", format!("{}\n", serde_json::json!({ "text": trine_lab::bench::TEXT })));
    let output = folder.path().join("imatrix.gguf").display().to_string();
    let imatrix = |text: &str, more: &[&str]| {
        trine_with(&[&["imatrix", model, text, "-o", &output, "--context", "32", "--json"], more].concat())
    };
    let made = imatrix(&text, &["--chunks", "2"]).json();
    assert_eq!((&made["chunks"], &made["context"]), (&2.into(), &32.into()));
    assert!(imatrix(&text, &[]).err.contains("--force"));
    // A short text is one chunk, where no length is asked for.
    let short = file(folder.path(), "short.txt", "Once upon a time");
    let made = trine_with(&["imatrix", model, &short, "-o", &output, "--force", "--json"]).json();
    assert!(made["chunks"] == 1 && made["context"].as_u64() < Some(32), "{made}");
    assert!(imatrix(&short, &["--force"]).err.contains("or lower --context"));
    let before = file(folder.path(), "before.gguf", std::fs::read(&output).unwrap());
    assert_eq!(imatrix(&text, &["--force", "--in-file", &before]).code, 0);
    let chats = file(folder.path(), "chats.jsonl", format!("{chats}\n").repeat(9));
    let ran = imatrix(&chats, &["--force"]);
    // The embedded model has no chat template.
    assert!(ran.code == 0 || ran.err.contains("template"), "{}", ran.err);
    assert!(imatrix(&file(folder.path(), "bad.jsonl", "{}\n"), &["--force"]).err.contains("line 1"));
}

#[test]
fn files_of_a_model_are_compared_in_a_table_and_a_picture() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "text.txt", trine_lab::bench::TEXT);
    let [small, svg, png] = ["small.gguf", "a.svg", "a.png"].map(|name| folder.path().join(name).display().to_string());
    let model = "embedded:stories";
    assert_eq!(trine_with(&["quantize", model, &small, "--format", "q4_0"]).code, 0);
    let args = ["compare", model, &small, &text, "--context", "64", "--chunks", "2"];
    let ran = trine_with(&[&args[..], &["--svg", &svg, "--png", &png, "--json", "--quiet"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let files = ran.json()["files"].clone();
    assert_eq!((files[0]["mean_kl"].as_f64(), files.as_array().unwrap().len()), (Some(0.0), 2));
    assert!(files[1]["mean_kl"].as_f64() > Some(0.0) && files[1]["tokens_per_second"].as_f64() > Some(0.0), "{files}");
    assert!(std::fs::read_to_string(&svg).unwrap().contains("small"));
    assert!(std::fs::read(&png).unwrap().starts_with(b"\x89PNG"));
    let human = trine_with(&args).out;
    assert!(human.contains("mean KL") && human.contains("small.gguf"), "{human}");
    for (args, says) in [
        (vec!["compare", model, &text], "two models or more"),
        (vec!["compare", model, &small, &text, "--svg", &svg], "--force"),
        (vec!["compare", model, &llama(), &text, "--context", "64"], "its tokens of the text"),
    ] {
        let ran = trine_with(&args);
        assert!(ran.code == 2 && ran.err.contains(says), "{args:?}: {} {}", ran.code, ran.err);
    }
}

#[test]
fn what_integers_cost_is_a_table_of_weights_and_inputs() {
    let folder = tempfile::tempdir().unwrap();
    let text = file(folder.path(), "stories.txt", STORIES);
    let table = run(trine().args(["eval", "w8a8", &llama(), &text, "--tokens", "32", "--json"]), "").json();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!((rows.len(), &table["tokens"], &table["left_out"]), (9, &serde_json::json!([16, 16]), &0.into()));
    assert_eq!(rows[0]["weights"], serde_json::Value::Null);
    assert_eq!(rows[3]["weights"], serde_json::json!({"granularity": "channel", "symmetric": true}));
    assert!(rows.iter().all(|row| row["errors"].as_array().unwrap().len() == 6));
    let human = trine_with(&["eval", "w8a8", &llama(), "--tokens", "16"]).out;
    for said in ["a row, asymmetric", "per 32", "static", "8 tokens calibrated, 8 tokens were measured"] {
        assert!(human.contains(said), "{said}: {human}");
    }
    // A folder is W8A8, a GGUF file is not.
    let output = folder.path().join("w8a8").display().to_string();
    let ran = trine_with(&["convert", &llama(), &output, "--format", "w8a8"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(trine_with(&["info", &output]).out.contains("I8"));
    let refused = trine_with(&["convert", &llama(), &format!("{output}.gguf"), "--format", "w8a8"]);
    assert!(refused.code == 2 && refused.err.contains("expected a folder"), "{}", refused.err);
}
