//! The plan of memory is what a run takes.
#![cfg(target_os = "linux")]

mod common;

use common::server::{PATIENCE, Server};
use common::{run, trine, trine_with};
use serde_json::json;
use std::ops::ControlFlow;
use trine_lab::synthetic::{self, Mixture, Shape};
use trine_model::Sizes;

const CONTEXT: &str = "256";

/// A model that is large beside the program: 120 MiB in Q8_0.
fn shape() -> Shape {
    let sizes = synthetic::shape("1.1b").unwrap().sizes;
    let sizes = Sizes { hidden_size: 1024, n_heads: 16, n_layers: 3, intermediate_size: 4096, tied: false, ..sizes };
    Shape { name: "memory".into(), of: "nothing", sizes, sliding_window: None }
}

#[test]
fn a_run_takes_the_memory_that_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mixture = Mixture::named("q8_0").unwrap();
    synthetic::write(&path, &shape(), mixture, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let model = path.to_str().unwrap();
    let context: usize = CONTEXT.parse().unwrap();
    let count = |words: &str| trine_with(&["tokenize", model, words, "--count"]).out.trim().parse::<usize>().unwrap();
    // A prompt that leaves one token of the context.
    let each = count("two two") - count("two");
    let words = vec!["two"; (context - 1 - count("two")) / each + 1].join(" ");
    let more = (context - count(&words)).to_string();
    for flags in [
        &["--huge-pages", "off", "--repack", "off"][..],
        &["--huge-pages", "off", "--repack", "on"],
        &["--huge-pages", "on", "--repack", "on"],
        &["--huge-pages", "off", "--repack", "off", "--cache-type", "q8_0", "--batch", "64", "--threads", "3"],
        &["--no-mmap"],
        &["--no-mmap", "--huge-pages", "off", "--repack", "on"],
    ] {
        let plan = run(trine().args(["info", model, "--json", "--context", CONTEXT]).args(flags), "");
        let plan: serde_json::Value = serde_json::from_str(&plan.out).unwrap();
        let total = plan["memory"]["total_bytes"].as_u64().unwrap();
        let mut command = trine();
        command.args(["run", model, &words, "--raw", "--ignore-eos", "--json", "--context", CONTEXT]).args(flags);
        // The two plans differ by pages of the program.
        let limit = format!("{}B", total + (2 << 20));
        let ran = run(command.args(["--max-tokens", &more, "--mem-limit", &limit]), "");
        assert_eq!(ran.code, 0, "{flags:?}: {}", ran.err);
        let short = run(trine().args(["run", model, "two", "--raw", "--json", "--max-tokens", "1"]).args(flags), "");
        // Until the first token, no page of weights faults any more, of which there are 30,000.
        let faults = short.json()["timings"]["minor_faults"].as_u64().unwrap();
        assert!(faults < 1500, "{flags:?}: {faults}");
        let taken = ran.json()["timings"]["peak_memory_bytes"].as_u64().unwrap();
        let error = taken as f64 / total as f64 - 1.0;
        println!("{flags:?}: planned {total}, taken {taken}, {:+.1} %", error * 100.0);
        // 2 %, and what is small beside the weights of a real model: code that is run later, and gaps between buffers.
        let allowed = total / 50 + (2 << 20);
        assert!(taken.abs_diff(total) <= allowed, "{flags:?}: planned {total}, taken {taken}: {}", plan["memory"]);
        // And so is each part of it that the model tells.
        let memory = &ran.json()["memory"];
        for what in ["weights", "kv_cache", "activations"] {
            let [planned, used] = ["planned", "used"].map(|when| memory[when][what].as_u64().unwrap());
            assert_eq!(plan["memory"][format!("{what}_bytes")], planned, "{flags:?}");
            // What was read, and then copied, is there no more.
            let read = flags.contains(&"--no-mmap") && flags.contains(&"on") && what == "weights";
            let used = used + if read { path.metadata().unwrap().len() } else { 0 };
            let huge_page = 2 << 20;
            let allowed = planned / 50 + if what == "weights" { huge_page } else { 64 << 10 };
            assert!(used.abs_diff(planned) <= allowed, "{flags:?}: {what}: planned {planned}, used {used}");
        }
    }
}

/// Beside a small model, what the program takes only when it runs is not small.
#[test]
fn a_small_model_stays_within_its_plan() {
    for (context, flags) in [("64", &["--threads", "1"][..]), ("256", &["--threads", "2"]), ("512", &["--batch", "64"])]
    {
        let words = "the ".repeat(context.parse::<usize>().unwrap() / 2);
        let mut command = trine();
        command.args(["run", "embedded:stories", &words, "--raw", "--ignore-eos", "--json", "--max-tokens", "6"]);
        let ran = run(command.args(["--context", context]).args(flags), "");
        assert_eq!(ran.code, 0, "{}", ran.err);
        let memory = &ran.json()["memory"];
        let of = |when: &str, what: &str| memory[when][what].as_u64().unwrap();
        assert!(of("used", "peak") <= of("planned", "total"), "{context}: {memory}");
        let rest = of("planned", "program") + of("planned", "sampling");
        assert!(of("used", "program") <= rest && of("used", "program") > rest / 2, "{context}: {memory}");
    }
}

/// Buffers grow with each chunk of a long prompt.
#[test]
fn a_long_prompt_in_small_chunks_takes_the_memory_that_was_planned() {
    let model = common::golden("gpt-oss").display().to_string();
    let flags = ["--context", "32768", "--batch", "64", "--cache-type", "q8_0/q4_0", "--threads", "2"];
    let plan = run(trine().args(["info", &model, "--json"]).args(flags), "");
    let total =
        serde_json::from_str::<serde_json::Value>(&plan.out).unwrap()["memory"]["total_bytes"].as_u64().unwrap();
    let mut command = trine();
    command.args(["run", &model, "-", "--raw", "--ignore-eos", "--max-tokens", "16", "--json"]).args(flags);
    let ran = run(&mut command, &"the river ".repeat(5242));
    assert_eq!(ran.code, 0, "{}", ran.err);
    let taken = ran.json()["timings"]["peak_memory_bytes"].as_u64().unwrap();
    assert!(taken.abs_diff(total) <= total / 50 + (4 << 20), "planned {total}, taken {taken}: {}", plan.out);
}

/// Keys and values of 4,000 tokens take 64 MB here, activations of a batch a few more.
#[test]
fn a_server_that_is_idle_gives_memory_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf").display().to_string();
    let written = trine_with(&["bench", "--shape", "tiny,layers=16", "--format", "q8_0", "--write-model", &path]);
    assert_eq!(written.code, 0, "{}", written.err);
    let server = Server::start(&[&path, "--trim-after", "1", "--parallel", "1", "--max-queued", "4"]);
    let ids: Vec<u32> = (0..4000).map(|i| 300 + i * 7 % 200).collect();
    let body = json!({"prompt": ids, "max_tokens": 4, "temperature": 0, "ignore_eos": true});
    let ask = || {
        let answer = server.post("/v1/completions", &body).json();
        (answer["choices"][0]["text"].clone(), answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64())
    };
    let resident = || server.get("/debug/memory").json()["resident"].as_u64().unwrap();
    let begun = resident();
    let (text, cached) = ask();
    assert_eq!(cached, Some(0));
    let waited = std::time::Instant::now();
    while resident() > begun + (24 << 20) {
        assert!(waited.elapsed() < PATIENCE, "{begun} bytes at the beginning, {} now", resident());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    // Nothing is kept of the prompt, and the answer is the same.
    assert_eq!(ask(), (text, Some(0)));
    let full = resident();
    let trimmed = server.post("/admin/trim", &json!({})).json()["resident"].as_u64().unwrap();
    assert!(trimmed + (40 << 20) < full, "{full} bytes, then {trimmed}");
}

/// What a group that others measure allows is kept: see `trine/src/load.rs`. Here the limit is a flag.
#[test]
fn a_model_that_takes_more_than_the_limit_is_refused_with_numbers() {
    let planned = |context: &str, what: &str| {
        let json = trine_with(&["info", &common::llama(), "--json", "--context", context]).out;
        serde_json::from_str::<serde_json::Value>(&json).unwrap()["memory"][what].as_u64().unwrap()
    };
    // The total is not compared: pages of the program come and go.
    assert_eq!(planned("128", "kv_cache_bytes"), 8 * planned("16", "kv_cache_bytes"));
    let limit = format!("{}B", planned("16", "total_bytes") / 2);
    let ran = trine_with(&["run", &common::llama(), "hi", "--raw", "--context", "16", "--mem-limit", &limit]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for expected in ["weights", "KV cache", "activations", "program", "more than the limit", "raise --mem-limit"] {
        assert!(ran.err.contains(expected), "{expected}: {}", ran.err);
    }
}

/// A model whose weights are large beside the program.
const TRAINED: &str = r#"[model]
tokenizer = "tokenizer.gguf"
architecture = "llama"
n_layers = 3
hidden_size = 384
n_heads = 6
n_kv_heads = 2
intermediate_size = 768
[data]
files = ["text.txt"]
validation = 0.1
[train]
steps = 2
batch = 4
sequence = 64
[quantization]
weights = "none"
[schedule]
warmup = 1
[output]
folder = "run"
sample_every = 0
"#;

#[test]
fn training_takes_the_memory_that_was_planned() {
    let folder = tempfile::tempdir().unwrap();
    let story = |i: usize| format!("The miller had {i} cats, {} dogs and a mill by the lake.<|endoftext|>", i * i % 97);
    std::fs::write(folder.path().join("text.txt"), (0..400).map(story).collect::<String>()).unwrap();
    let tokenizer = ["tokenizer", "train", "tokenizer.gguf", "text.txt", "--vocab-size", "300"];
    assert_eq!(run(trine().current_dir(folder.path()).args(tokenizer), "").code, 0);
    let teacher = format!("distill.teacher='{}'", common::llama());
    for set in [
        &[][..],
        &["train.sequence=256", "train.threads=1"],
        &["train.sequence=256", "train.grad_checkpoint=true", "train.precision=bf16"],
        &["train.batch=8", "train.micro_batch=2", "optimizer.name=muon"],
        &["model.architecture=bitnet", "quantization.weights=ternary", "train.precision=f16"],
        &["model.architecture=bitnet", "quantization.weights=ternary", "quantization.warm_in=2"],
        &["model.tied=false", "train.sequence=64", &teacher],
    ] {
        let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
        let plan = common::train(folder.path(), TRAINED, &[&set[..], &["--plan", "--json"]].concat());
        assert_eq!(plan.code, 0, "{set:?}: {}", plan.err);
        let plan = plan.json()["memory_bytes"].take();
        let ran = common::train(folder.path(), TRAINED, &[&set[..], &["--fresh", "--json", "--quiet"]].concat());
        assert_eq!(ran.code, 0, "{set:?}: {}", ran.err);
        let (total, taken) = (plan["total"].as_u64().unwrap(), ran.json()["peak_memory_bytes"].as_u64().unwrap());
        println!("{set:?}: planned {total}, taken {taken}, {:+.1} %", (taken as f64 / total as f64 - 1.0) * 100.0);
        // 5 %, and what is small beside the weights of a real model: code that is run later, and gaps between buffers.
        let allowed = total / 20 + (4 << 20);
        assert!(taken.abs_diff(total) <= allowed, "{set:?}: planned {total}, taken {taken}: {plan}");
    }
}

#[test]
fn few_addresses_leave_the_weights_in_the_mapped_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    synthetic::write(&path, &shape(), Mixture::named("q8_0").unwrap(), 0, &mut |_, _| ControlFlow::Continue(()))
        .unwrap();
    let limited = |mib: usize, options: &[&str]| {
        let script = format!("ulimit -v {}; exec \"$@\"", mib << 10);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_trine"), "run"]).arg(&path).args(["hello", "--quiet"]);
        run(shell.args(["--raw", "--max-tokens", "2", "--context", CONTEXT]).args(options), "")
    };
    // The fewest with which the map is enough.
    let map = ["--huge-pages", "off", "--repack", "off"];
    let enough = (16..100).map(|i| i * 16).find(|&mib| limited(mib, &map).code == 0).expect("less than 1.6 GiB");
    let ran = limited(enough, &[]);
    assert_eq!(ran.code, 0, "{enough} MiB: {}", ran.err);
}
