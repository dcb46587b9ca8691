//! `trine train`: the files that a run writes, and that it resumes with the same bits.

mod common;

use common::server::Server;
use common::{run, train, trine, trine_with};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;
use trine_tensor::{File, Metadata, Strings, gguf};
use trine_train::checkpoints;

/// A run of a moment.
const TINY: &str = r#"[model]
tokenizer = "tokenizer.gguf"
n_layers = 1
hidden_size = 128
n_heads = 4
intermediate_size = 256
[data]
files = ["text.txt"]
validation = 0.1
[train]
steps = 40
batch = 4
sequence = 32
[schedule]
warmup = 5
[output]
folder = "run"
validate_every = 15
checkpoint_every = 10
sample_every = 20
sample_prompts = ["The miller"]
"#;
const STEPS: u64 = 40;

/// A folder with a text and its tokenizer.
fn prepared() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let story = |i: usize| {
        let (animal, thing) = (["cat", "dog", "owl", "fox"][i % 4], ["mill", "lake", "barn"][i % 3]);
        format!("The miller had a {animal} who lived by the {thing}. It ate {i} cakes and slept all day.<|endoftext|>")
    };
    std::fs::write(folder.path().join("text.txt"), (0..200).map(story).collect::<String>()).unwrap();
    let tokenizer = ["tokenizer", "train", "tokenizer.gguf", "text.txt", "--vocab-size", "300"];
    let ran = run(trine().current_dir(folder.path()).args(tokenizer), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    folder
}

/// The events of the log in a run's folder.
fn log(run: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Steps and their losses in the log in a run's folder.
fn losses(run: &Path) -> Vec<(u64, f64)> {
    let steps = log(run).into_iter().filter(|event| event["event"] == "step");
    steps.map(|event| (event["step"].as_u64().unwrap(), event["loss"].as_f64().unwrap())).collect()
}

#[test]
fn a_plan_is_printed_and_nothing_starts() {
    let folder = prepared();
    let ran = train(folder.path(), TINY, &["--plan", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let plan = ran.json();
    let memory = &plan["memory_bytes"];
    let bytes = |part: &str| memory[part].as_u64().unwrap();
    let parts: u64 =
        ["weights", "gradients", "optimizer", "activations", "teacher", "program"].into_iter().map(bytes).sum();
    assert_eq!(parts, bytes("total"));
    assert_eq!(plan["tokens"], STEPS * 4 * 32);
    let text = train(folder.path(), TINY, &["--plan"]);
    assert!(text.out.contains("expected time") && text.out.contains("of the peak"), "{}", text.out);
    for missing in ["data.files=['none.txt']", "distill.teacher=none.gguf", "model.tokenizer=none.gguf"] {
        let ran = train(folder.path(), TINY, &["--plan", "--set", missing]);
        assert!(ran.code != 0 && ran.err.contains("none."), "{missing}: {}", ran.err);
    }
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_run_leaves_a_model_a_log_and_a_plot() {
    let folder = prepared();
    let ran = train(folder.path(), TINY, &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.contains("trine run run/model.gguf"), "{}", ran.out);
    assert!(ran.err.contains("validation at step"), "{}", ran.err);
    let steps: Vec<u64> = (1..=STEPS).collect();
    let losses = losses(&folder.path().join("run"));
    assert_eq!(losses.iter().map(|(step, _)| *step).collect::<Vec<_>>(), steps);
    let events = log(&folder.path().join("run"));
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert!(count("validation") >= 2 && count("checkpoint") >= 2 && count("sample") >= 1, "{events:?}");
    assert_eq!(events.iter().find(|event| event["event"] == "sample").unwrap()["prompt"], "The miller");

    let svg = std::fs::read_to_string(folder.path().join("run/loss.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && svg.contains("smoothed"), "{svg}");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");

    // A second run needs a flag, as it could lose the first.
    let again = train(folder.path(), TINY, &[]);
    assert!(again.code == 2 && again.err.contains("--resume") && again.err.contains("--fresh"), "{}", again.err);
    let fresh = train(folder.path(), TINY, &["--fresh", "--json", "--quiet"]);
    assert_eq!((fresh.code, fresh.json()["event"].as_str()), (0, Some("finished")), "{}", fresh.err);
    assert_eq!(self::losses(&folder.path().join("run")), losses);
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_resumes_with_the_same_losses() {
    let folder = prepared();
    assert_eq!(train(folder.path(), TINY, &["--quiet"]).code, 0);
    let undisturbed = losses(&folder.path().join("run"));
    let mut running = trine()
        .current_dir(folder.path())
        .args(["train", "config.toml", "--fresh", "--json", "--set", "train.seed=0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("\"step\":3,")));
    assert!(Command::new("kill").args(["-INT", &running.id().to_string()]).status().unwrap().success());
    lines.for_each(drop);
    let ended = running.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert!(
        ended.status.code() == Some(130) && err.contains("trine train config.toml --set train.seed=0 --resume --json`"),
        "{err}"
    );
    assert!((losses(&folder.path().join("run")).len() as u64) < STEPS);

    // The last lines of a killed program are removed.
    let path = folder.path().join("run/log.jsonl");
    let mut log = std::fs::read(&path).unwrap();
    log.extend(br#"{"event":"step","step":9999,"loss":1.0}"#.iter().chain(b"\n{\"event\":\"st"));
    std::fs::write(&path, log).unwrap();
    let resumed = train(folder.path(), TINY, &["--resume", "--quiet"]);
    assert_eq!(resumed.code, 0, "{}", resumed.err);
    assert_eq!(losses(&folder.path().join("run")), undisturbed);
    // With no steps left, nothing is lost.
    let curve = || std::fs::read_to_string(folder.path().join("run/loss.svg")).unwrap();
    let before = curve();
    let again = train(folder.path(), TINY, &["--resume"]);
    assert!(
        again.code == 0 && again.out.contains("loss ") && !again.out.contains("unknown"),
        "{}{}",
        again.out,
        again.err
    );
    assert_eq!((losses(&folder.path().join("run")), curve()), (undisturbed, before));
}

#[test]
fn a_text_becomes_a_tokenizer_and_a_ternary_model_that_predicts_it() {
    let folder = prepared();
    let at = |name: &str| folder.path().join(name).display().to_string();
    for how in [&["train.steps=1", "output.folder=first", "schedule.warmup=1"][..], &["optimizer.learning_rate=3e-3"]] {
        let set: Vec<&str> = how.iter().flat_map(|set| ["--set", set]).chain(["--quiet"]).collect();
        let ran = train(folder.path(), TINY, &set);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    let (first, model) = (at("first/model.gguf"), at("run/model.gguf"));
    let format = File::open(&model).unwrap().view("blk.0.ffn_down.weight").unwrap().format.name;
    assert!(["TQ2_0", "I2_S"].contains(&format), "{format}");
    let bits = |model: &str| {
        let ran = trine_with(&["eval", "perplexity", model, &at("text.txt"), "--max-documents", "20", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.json()["bits_per_byte"]["value"].as_f64().unwrap()
    };
    let (before, after) = (bits(&first), bits(&model));
    assert!(after < 0.7 * before, "{after} of {before}");
    let answer = trine_with(&["run", &model, "The miller", "--raw", "--max-tokens", "8", "--echo"]);
    assert!(answer.code == 0 && answer.out.starts_with("The miller"), "{}{}", answer.out, answer.err);
    assert!(answer.out.len() > "The miller\n".len(), "{}", answer.out);
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_again_and_again_ends_with_the_same_bits() {
    use std::os::unix::process::ExitStatusExt;
    let folder = prepared();
    let [whole, killed] = ["whole", "killed"].map(|name| folder.path().join(name));
    let set = ["--set", "train.steps=60", "--set", "output.checkpoint_every=4", "--set", "output.sample_every=0"];
    let undisturbed = train(folder.path(), TINY, &[&set[..], &["--set", "output.folder=whole", "--quiet"]].concat());
    assert_eq!(undisturbed.code, 0, "{}", undisturbed.err);

    let mut random = fastrand::Rng::with_seed(3);
    let start = || {
        let how = if checkpoints(&killed).is_empty() { "--fresh" } else { "--resume" };
        let mut command = trine();
        command
            .current_dir(folder.path())
            .args(["train", "config.toml", "--set", "output.folder=killed", how])
            .args(set);
        command
    };
    for _ in 0..5 {
        let mut running = start().arg("--json").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        for _ in 0..random.usize(0..8) {
            assert!(lines.any(|line| line.unwrap().contains("\"event\":\"step\"")));
        }
        std::thread::sleep(std::time::Duration::from_millis(random.u64(0..20)));
        running.kill().unwrap();
        assert_eq!(running.wait().unwrap().signal(), Some(9), "it was not killed");
    }
    let ended = run(start().arg("--quiet"), "");
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(losses(&killed), losses(&whole));
    let [killed, whole] = [killed, whole].map(|run| File::open(run.join("model.gguf")).unwrap());
    assert_eq!(killed.tensors().count(), whole.tensors().count());
    for (found, expected) in killed.tensors().zip(whole.tensors()) {
        assert!((&found.name, &found.shape) == (&expected.name, &expected.shape), "{}", expected.name);
        assert!(found.bytes == expected.bytes, "{}", expected.name);
    }
}

#[test]
fn what_cannot_be_trained_is_refused_before_anything_is_written() {
    let folder = prepared();
    let huge = train(folder.path(), TINY, &["--set", "model.n_layers=65536"]);
    assert!(huge.code == 2 && huge.err.contains("of free memory"), "{}", huge.err);
    let none = train(folder.path(), TINY, &["--resume"]);
    assert!(none.code == 1 && none.err.contains("hint: omit --resume"), "{}", none.err);
    assert!(!folder.path().join("run").exists());
    std::fs::create_dir(folder.path().join("dir")).unwrap();
    std::fs::write(folder.path().join("empty.txt"), "").unwrap();
    std::fs::write(folder.path().join("short.txt"), "The").unwrap();
    for (set, says) in [
        ("output.model=dir", "`output.model`: expected the name of a file, found `dir`, which is none"),
        ("data.files=['empty.txt']", "expected text, found none"),
        ("data.files=['short.txt']", "short.txt"),
    ] {
        let ran = train(folder.path(), TINY, &["--set", set]);
        assert!(ran.code != 0 && ran.err.contains(says), "{set}: {} {}", ran.code, ran.err);
        assert!(!folder.path().join("run").exists(), "{set}: {}", ran.err);
    }
    let again = ["tokenizer", "train", "tokenizer.gguf", "text.txt", "--vocab-size", "300"];
    let refused = run(trine().current_dir(folder.path()).args(again), "");
    assert!(refused.code == 2 && refused.err.contains("--force replaces it"), "{}", refused.err);
    assert_eq!(run(trine().current_dir(folder.path()).args(again).arg("--force"), "").code, 0);
}

#[test]
fn rows_that_no_ternary_format_holds_give_a_warning() {
    let folder = prepared();
    let ran = train(folder.path(), TINY, &["--set", "model.hidden_size=64", "--set", "train.steps=10"]);
    assert!(ran.code == 0 && ran.err.contains("will be written as F32"), "{}", ran.err);
    let finished =
        train(folder.path(), TINY, &["--set", "model.hidden_size=64", "--set", "train.steps=10", "--resume"]);
    assert!(finished.code == 0 && finished.err.contains("increase train.steps to continue"), "{}", finished.err);
    let other = train(folder.path(), TINY, &["--set", "model.hidden_size=64", "--set", "train.steps=12", "--resume"]);
    assert!(other.code == 0 && other.err.contains("from step 10 on, these keys differ: train.steps"), "{}", other.err);
}

#[test]
fn a_float_model_that_becomes_ternary_gives_a_warning() {
    let folder = prepared();
    let sizes = "n_layers = 1\nhidden_size = 128\nn_heads = 4\nintermediate_size = 256\n";
    let from = |more: &[&str]| {
        let (config, model) = (TINY.replace(sizes, ""), common::llama());
        let set = format!("model.from={model}");
        let args = ["--set", &set, "--set", &format!("model.tokenizer={model}"), "--set", "train.steps=1"];
        train(folder.path(), &config, &[&args[..], &["--set", "schedule.warmup=1", "--fresh"], more].concat())
    };
    let (ternary, float) = (from(&[]), from(&["--set", "quantization.weights=none"]));
    assert!(ternary.code == 0 && ternary.err.contains("training makes them ternary"), "{}", ternary.err);
    assert!(float.code == 0 && !float.err.contains("ternary"), "{}", float.err);
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_a_run_with_a_checkpoint() {
    let folder = prepared();
    std::fs::write(folder.path().join("config.toml"), TINY).unwrap();
    let mut running = trine()
        .current_dir(folder.path())
        .args(["train", "config.toml", "--json", "--quiet"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(running.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    let ended = running.wait_with_output().unwrap();
    let err = String::from_utf8(ended.stderr).unwrap();
    assert!(
        ended.status.code() == Some(0) && err.contains("trine train config.toml --resume --json --quiet`"),
        "{err}"
    );
    assert!(!checkpoints(&folder.path().join("run")).is_empty());
}

#[test]
fn other_texts_are_no_continuation() {
    let folder = prepared();
    let ran = train(folder.path(), TINY, &["--set", "train.steps=10", "--quiet"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // The same texts elsewhere are the same.
    std::fs::copy(folder.path().join("text.txt"), folder.path().join("copy.txt")).unwrap();
    let more = ["--set", "train.steps=11", "--resume", "--set", "data.files=['copy.txt']"];
    let same = train(folder.path(), TINY, &more);
    assert!(same.code == 0 && !same.err.contains("data.files"), "{}", same.err);
    let text = std::fs::read_to_string(folder.path().join("text.txt")).unwrap().replacen("cat", "cow", 1);
    std::fs::write(folder.path().join("text.txt"), text).unwrap();
    let other = train(folder.path(), TINY, &["--resume"]);
    assert!(other.code == 2 && other.err.contains("`data.files`: expected the texts with which"), "{}", other.err);
}

#[test]
fn equal_weights_give_equal_files_without_paths() {
    let folder = prepared();
    let other = folder.path().join("elsewhere");
    std::fs::create_dir(&other).unwrap();
    for name in ["text.txt", "tokenizer.gguf"] {
        std::fs::copy(folder.path().join(name), other.join(name)).unwrap();
    }
    let set = ["--set", "train.steps=5", "--quiet"];
    assert_eq!(train(folder.path(), TINY, &set).code, 0);
    let more = ["--set", "output.folder=another", "--set", "output.checkpoint_every=2", "--threads", "1"];
    assert_eq!(train(&other, TINY, &[&set[..], &more].concat()).code, 0);
    let [a, b] = [folder.path().join("run"), other.join("another")].map(|run| std::fs::read(run.join("model.gguf")));
    let a = a.unwrap();
    assert!(a == b.unwrap());
    for name in ["text.txt", "tokenizer.gguf", &folder.path().display().to_string()] {
        assert!(a.windows(name.len()).all(|part| part != name.as_bytes()), "{name}");
    }
}

#[test]
fn a_vocabulary_that_cannot_spell_the_texts_is_refused() {
    let folder = prepared();
    let text = folder.path().join("text.txt");
    // A vocabulary without bytes: characters that the text has not are unknown.
    let mut metadata = Metadata::new();
    let tokens = ["<unk>", "a", "b", "c", "\u{2581}"];
    metadata.insert("general.architecture", "llama");
    metadata.insert("tokenizer.ggml.model", "llama");
    metadata.insert("tokenizer.ggml.tokens", Strings::from_iter(tokens));
    metadata.insert("tokenizer.ggml.scores", vec![0f32; tokens.len()]);
    metadata.insert("tokenizer.ggml.token_type", vec![2i32, 1, 1, 1, 1]);
    metadata.insert("tokenizer.ggml.unknown_token_id", 0u32);
    gguf::write(folder.path().join("tokenizer.gguf"), &metadata, &[]).unwrap();
    let ran = train(folder.path(), TINY, &["--set", "train.steps=6"]);
    assert!(ran.code == 2 && ran.err.contains("a vocabulary that can spell the texts"), "{}", ran.err);
    // A stray character is a warning, and there are no bits per byte.
    let abc: String =
        (0..200).map(|i| format!("{}<|endoftext|>", &"abc cab abc bca cab aab "[i % 5..].repeat(3))).collect();
    std::fs::write(&text, format!("{abc}abc z")).unwrap();
    let ran = train(folder.path(), TINY, &["--set", "train.steps=6"]);
    assert!(ran.code == 0 && ran.err.contains("the vocabulary lacks \"z\" (0.0"), "{}", ran.err);
    let measured = ran.err.lines().chain(ran.out.lines()).filter(|line| line.starts_with("validation"));
    assert!(measured.clone().count() > 1 && measured.into_iter().all(|line| !line.contains("bits")), "{}", ran.err);
}

#[test]
fn a_model_is_trained_quantized_judged_and_served() {
    let folder = prepared();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let settings = ["model.architecture=llama", "quantization.weights=none", "output.format=f32"];
    let rate = ["optimizer.learning_rate=0.01"];
    let set = settings.into_iter().chain(rate).flat_map(|set| ["--set", set]).chain(["--quiet"]);
    let ran = train(folder.path(), TINY, &set.collect::<Vec<_>>());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let (trained, quantized) = (at("run/model.gguf"), at("q8_0.gguf"));
    let ran = trine_with(&["quantize", &trained, &quantized, "--format", "q8_0"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let size = |path: &str| std::fs::metadata(path).unwrap().len();
    assert!(3 * size(&quantized) < size(&trained));

    let perplexity = |model: &str| {
        let ran = trine_with(&["eval", "perplexity", model, &at("text.txt"), "--max-documents", "20", "--json"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.json()["perplexity"]["value"].as_f64().unwrap()
    };
    // It has learned its text, and eight bits lose little of it. The formats differ, and so do the numbers.
    let (before, after) = (perplexity(&trained), perplexity(&quantized));
    assert!(before < 3.0 && before != after && (after / before - 1.0).abs() < 0.02, "{before} {after}");

    let prompt = "The miller had";
    let options = ["--raw", "--temperature", "0", "--max-tokens", "16", "--json"];
    let answer = trine_with(&[&["run", &quantized, prompt], &options[..]].concat()).json()["text"].clone();
    let server = Server::start(&[&quantized]);
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 16});
    let served = server.post("/v1/completions", &body).json()["choices"][0]["text"].clone();
    assert_eq!(served, answer);
    assert!(served.as_str().unwrap().contains("who lived by the"), "{served}");
}

#[test]
fn a_profile_of_training_is_a_trace_and_says_where_a_step_goes() {
    let folder = prepared();
    assert_eq!(train(folder.path(), TINY, &["--quiet"]).code, 0);
    let usual = losses(&folder.path().join("run"));
    let trace = |path: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(folder.path().join(path)).unwrap()).unwrap()
    };
    let ran = train(folder.path(), TINY, &["--fresh", "--profile", "trace.json", "--profile-depth", "pass"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(losses(&folder.path().join("run")), usual);
    for words in ["slowest operations", "per step", "forward", "backward", "checkpoint", "tokens/s"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let events = trace("trace.json");
    let events = events["traceEvents"].as_array().unwrap();
    let count = |cat: &str, name: &str| events.iter().filter(|e| e["cat"] == cat && e["name"] == name).count();
    assert_eq!(count("step", "step") as u64, STEPS);
    assert_eq!((count("pass", "backward") as u64, count("pass", "validation")), (STEPS, 3));
    assert!(!events.iter().any(|event| event["cat"] == "operation"));
    // A run that goes on is profiled alone.
    let more = ["--resume", "--set", "train.steps=42", "--profile", "trace.json", "-q"];
    let ran = train(folder.path(), TINY, &more);
    assert!(ran.code == 0 && !ran.err.contains("slowest"), "{}", ran.err);
    let events = trace("trace.json");
    let events = events["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["cat"] == "step").count(), 2);
    assert!(events.iter().any(|event| event["cat"] == "operation" && event["name"] == "linear_backward_weight"));
    for (args, expected) in [
        (&["--profile-depth", "op"][..], "--profile"),
        (&["--plan", "--profile", "new.json"], "--profile"),
        (&["--fresh", "--profile", "config.toml"], "config.toml"),
        (&["--fresh", "--profile", "run/model.gguf"], "run/model.gguf"),
        (&["--fresh", "--set", "output.model=new.gguf", "--profile", "new.gguf"], "that of the model"),
    ] {
        let ran = train(folder.path(), TINY, args);
        assert!(ran.code == 2 && ran.err.contains(expected), "{args:?}: {} {}", ran.code, ran.err);
    }
}
