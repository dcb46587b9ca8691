//! `trine bench` measures what it says, and `trine devices --measure` what the machine can do.

mod common;

use common::{run, trine, trine_with};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn tiny(folder: &Path) -> String {
    let path = folder.join("tiny.gguf").display().to_string();
    let ran = trine_with(&["bench", "--shape", "tiny", "--format", "q4_k_m", "--write-model", &path]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    path
}

const SHORT: [&str; 7] = ["--prefill", "16", "--decode", "0", "--threads", "1", "--json"];

#[test]
fn a_bench_is_one_object_with_every_test() {
    let cache = tempfile::tempdir().unwrap();
    let args = "bench --shape tiny --format i2_s --prefill 40 --decode 5,3 --batch 1,2 --depth 9 --threads 2 \
        --threads-batch 1 --huge-pages on --cache-type q8_0 -r 1 --json --record";
    let ran = run(
        trine().args(args.split_whitespace()).env("XDG_CACHE_HOME", cache.path()).env("XDG_DATA_HOME", cache.path()),
        "",
    );
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.out.lines().count(), 1);
    let json = ran.json();
    let names: Vec<&str> = json["results"].as_array().unwrap().iter().map(|r| r["test"].as_str().unwrap()).collect();
    assert_eq!(names, ["pp40@d9", "tg5@d9", "tg5x2@d9", "tg3@d9", "tg3x2@d9"]);
    for result in json["results"].as_array().unwrap() {
        let number = |key: &str| result[key].as_f64().unwrap_or_else(|| panic!("{key}: {result}"));
        assert!(number("low") <= number("tokens_per_second") && number("tokens_per_second") <= number("high"));
        assert!(
            ["bytes_per_second", "bandwidth_share", "operations_per_second", "int8_share"]
                .iter()
                .all(|key| number(key) > 0.0)
        );
        // The body is ternary and the head Q6_K: nothing is multiplied as floats. One run says nothing of the median.
        assert_eq!((&result["f32_share"], number("confidence")), (&Value::Null, 0.0));
        assert_eq!(result["samples"].as_array().unwrap().len(), 1);
    }
    assert_eq!((&json["shape"], &json["format"], &json["threads"]), (&"tiny".into(), &"i2_s".into(), &2.into()));
    let kept = [&json["threads_batch"], &json["cache_type"], &json["weights_in"]];
    assert_eq!(kept, [&Value::from(1), &"q8_0".into(), &"copied from the mapped file and repacked".into()]);
    for key in ["load_seconds", "first_token_seconds", "machine", "isa", "weights_bytes", "trine"] {
        assert!(!json[key].is_null(), "{key}");
    }
    // Trits and Q6_K meet activations in bytes, and so are keys and values.
    for what in ["kl", "cache_kl"] {
        let kl = |key: &str| json[what][key].as_f64().unwrap_or_else(|| panic!("{key}: {}", json[what]));
        assert!(kl("mean") > 0.0 && kl("error") > 0.0 && kl("same_best") <= 1.0 && kl("tokens") == 32.0, "{what}");
    }
    assert!(json["against"].is_null() && json["baseline"].is_null());
    if cfg!(target_os = "linux") {
        assert!(json["peak_memory_bytes"].as_u64() > json["weights_bytes"].as_u64());
        // Kept for the next time, and recorded.
        let kept = std::fs::read_dir(cache.path().join("trine/bench")).unwrap().count();
        let record = std::fs::read_to_string(cache.path().join("trine/bench.jsonl")).unwrap();
        let recorded: Value = serde_json::from_str(record.trim()).unwrap();
        assert_eq!((kept, &recorded["results"]), (1, &json["results"]));
    }
}

/// Every form of every part has the same rows.
#[test]
fn parts_are_measured_and_reported_in_every_form() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path());
    let itself = format!("'{}' run '{model}' hi --raw --max-tokens 1", env!("CARGO_BIN_EXE_trine"));
    for (part, rows, first) in [
        (&["bench", "startup", &*model, "-r", "2", "--against", &itself][..], 12, "trine"),
        (&["bench", "ops", "gemm", "silu", "q4_0", "--side", "256", "--tokens", "1", "-r", "1"], 6, "gemm"),
        (&["bench", "scaling", &model, "--counts", "1,2", "--prefill", "16", "--decode", "4", "-r", "1"], 4, "pp16"),
        (&["bench", "batching", &model, "--load", "clients=2,requests=4,output=2-8,prompt=4", "-r", "1"], 3, "none"),
        (&["bench", "bandwidth", "--threads", "1", "-r", "2"], 1, "1"),
        (&["bench", "quantize", "q4_0", "tq2_0", "iq4_ks", "-r", "1"], 3, "Q4_0"),
        (
            &["bench", "model", &model, "--prefill", "16", "--decode", "4", "--batch", "1", "-r", "1", "--kl", "0"],
            2,
            "pp16",
        ),
    ] {
        let form = |form: &str| {
            let ran = trine_with(&[part, &["--output", form]].concat());
            assert_eq!(ran.code, 0, "{part:?}: {}", ran.err);
            ran.out
        };
        let json: Value = serde_json::from_str(&form("json")).unwrap();
        let results = json["results"].as_array().unwrap();
        assert!(results.len() >= rows, "{part:?}: {json}");
        let csv = form("csv");
        let mut lines = csv.lines();
        let columns = lines.next().unwrap().split(',').count();
        assert_eq!(lines.clone().count(), results.len(), "{csv}");
        assert!(columns > 4 && lines.all(|line| line.split(',').count() == columns), "{csv}");
        let markdown = form("md");
        assert!(markdown.contains(&format!("\n| {first} |")) && markdown.contains("---:|"), "{markdown}");
        assert!(form("text").lines().any(|line| line.starts_with(first)), "{part:?}");
        assert!(!json["machine"]["os"].is_null() && json["trine"] == env!("CARGO_PKG_VERSION"), "{json}");
        assert!(json["command"].as_str().unwrap().starts_with("trine bench "), "{json}");
    }
    // A file of the name of a part.
    std::fs::copy(&model, folder.path().join("scaling")).unwrap();
    let args = ["bench", "./scaling", "--prefill", "8", "--decode", "0", "-r", "1", "--kl", "0", "--json"];
    let json = run(trine().args(args).current_dir(folder.path()), "").json();
    assert_eq!(json["model"], "./scaling");
    let runs = &json["results"][0];
    assert!(
        runs["pass_seconds"]["p99"].as_f64() > Some(0.0)
            && runs["speeds"]["cv"] == 0.0
            && runs["watts"].is_null() == runs["per_watt"].is_null()
    );
    assert!(runs["cpu"].as_f64() > Some(0.0) && runs["per_core"].as_f64() > Some(0.0), "{runs}");
}

/// The names of all fields in a value.
fn fields(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| fields(item, names)),
        Value::Object(object) => object.iter().for_each(|(name, value)| {
            names.insert(name.clone());
            fields(value, names);
        }),
        _ => {}
    }
}

/// The page names every field that is printed, and no other.
#[test]
fn the_fields_of_the_json_are_documented() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (model, baseline, budgets) = (tiny(folder.path()), at("baseline.json"), at("budgets.toml"));
    std::fs::write(&budgets, "load_seconds = 100").unwrap();
    let mut found = BTreeSet::new();
    // Virtual machines count nothing.
    found.extend(["instructions", "cycles", "cache_references", "cache_misses"].map(str::to_owned));
    let short = format!("bench {model} --prefill 16 --decode 0 --cache-type q8_0 -r 2 --kl 8");
    for args in [
        format!("{short} --save-baseline {baseline} --record"),
        format!("{short} --baseline {baseline} --budgets {budgets}"),
        format!("bench --a {model} --b {model} --prefill 16 --decode 0 -r 2 --kl 0"),
        format!("bench {model} --load clients=2,requests=4,output=4,prompt=4"),
        format!("bench startup {model} -r 1"),
        "bench ops silu -r 1".to_owned(),
        format!("bench scaling {model} --counts 1,2 --prefill 16 --decode 0 -r 1"),
        format!("bench batching {model} --load clients=2,requests=4,output=4,prompt=4 -r 1"),
        "bench bandwidth --threads 1 -r 1".to_owned(),
        "bench quantize q4_0 -r 1".to_owned(),
        "bench history".to_owned(),
    ] {
        let ran = run(trine().args(args.split_whitespace()).arg("--json").env("XDG_DATA_HOME", folder.path()), "");
        // A noisy machine may look slower.
        assert!(matches!(ran.code, 0 | 4 | 6), "{args}: {}", ran.err);
        fields(&ran.json(), &mut found);
    }
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src/bench-json.md");
    let page = std::fs::read_to_string(page).unwrap();
    let words = |text: &str| text.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let (all, fields) =
        (words(&page), rows.flat_map(|row| words(row.split('|').nth(1).unwrap())).collect::<BTreeSet<_>>());
    let missing: Vec<&String> = found.difference(&all).collect();
    assert!(missing.is_empty(), "not in the page: {missing:?}");
    let gone: Vec<&String> = fields.difference(&found).collect();
    assert!(gone.is_empty(), "in the page alone: {gone:?}");
}

#[test]
fn records_are_shown_with_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path());
    let bench = |args: &[&str]| run(trine().args([&["bench"], args].concat()).env("XDG_DATA_HOME", folder.path()), "");
    let none = bench(&["history"]);
    assert!(none.code == 2 && none.err.contains("nothing was recorded yet"), "{}", none.err);
    for _ in 0..2 {
        let ran =
            bench(&[&model, "--prefill", "16", "--decode", "4", "--batch", "1", "-r", "4", "--kl", "0", "--record"]);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    let json = bench(&["history", "--json"]).json();
    let results = json["results"].as_array().unwrap();
    assert_eq!(results.len(), 4, "{json}");
    assert!(results[..2].iter().all(|result| result["ratio"].is_null()), "{json}");
    assert!(
        results[2..].iter().all(|result| result["ratio"].as_f64() > Some(0.0) && result["p"].as_f64() <= Some(1.0))
    );
    let some = bench(&["history", "--test", "tg4", "--model", "tiny", "--last", "1", "--output", "md"]);
    assert_eq!(some.out.lines().count(), 3, "{}", some.out);
    assert_eq!(bench(&["history", "--model", "other", "--json"]).json()["results"].as_array().unwrap().len(), 0);
    let svg = folder.path().join("trend.svg");
    for _ in 0..2 {
        assert_eq!(bench(&["history", "--svg", svg.to_str().unwrap()]).code, 0);
    }
    // It replaces pictures alone.
    let refused = bench(&["history", "--svg", &model]);
    assert!(refused.code == 2 && refused.err.contains("found another"), "{}", refused.err);
    let svg = std::fs::read_to_string(&svg).unwrap();
    assert!(svg.contains("<polyline") && svg.contains("tg4") && svg.contains("pp16"), "{svg}");
    let records = std::fs::read_to_string(folder.path().join("trine/bench.jsonl")).unwrap();
    assert!(records.contains("--record\""), "{records}");
    let path = folder.path().join("broken.jsonl");
    std::fs::write(&path, "{}\n").unwrap();
    let broken = bench(&["history", "--file", path.to_str().unwrap()]);
    assert!(broken.code != 0 && broken.err.contains("line 1: expected a report"), "{}", broken.err);
}

#[test]
fn limits_of_a_file_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path());
    let path = folder.path().join("budgets.toml");
    let check = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let args =
            ["--prefill", "16", "--decode", "0", "-r", "1", "--kl", "0", "--json", "--budgets", path.to_str().unwrap()];
        trine_with(&[&["bench", &*model], &args[..]].concat())
    };
    let kept = check("peak_memory_bytes = 1e12\n[tests.pp16]\ntokens_per_second = 0.001\np99_ms = 1e9\n");
    assert_eq!(kept.code, 0, "{}", kept.err);
    let budgets = kept.json()["budgets"].as_array().unwrap().clone();
    assert!(budgets.len() == 3 && budgets.iter().all(|spent| spent["kept"] == true), "{budgets:?}");
    assert_eq!(check("[tests.pp16]\ntokens_per_second = 1e15\n").code, 4);
    for (text, error) in [
        ("load = 1", "unknown field `load`"),
        ("threshold = 2", "a share between 0 and 1"),
        ("load_seconds = -1", "limits above 0"),
        ("[tests.tg64]\np95_ms = 1", "tests.tg64: expected one of the tests that run, pp16"),
    ] {
        let ran = check(text);
        assert!(ran.code != 0 && ran.err.contains(error), "{text}: {} {}", ran.code, ran.err);
    }
}

#[test]
fn two_models_run_in_turn() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path());
    let args = ["bench", "--a", &model, "--b", &model, "--prefill", "32", "--decode", "0", "-r", "4", "--kl", "0"];
    let json = trine_with(&[&args[..], &["--under-load", "--json"]].concat()).json();
    let versus = &json["against"]["results"][0];
    let ratio = versus["ratio"].as_f64().unwrap();
    assert!((0.1..10.0).contains(&ratio) && versus["p"].as_f64() <= Some(1.0), "{versus}");
    assert_eq!((&json["against"]["peer"], &versus["test"]), (&Value::from(&*model), &"pp32".into()));
    let text = trine_with(&args).out;
    assert!(text.contains("x as fast") != text.contains("a ratio would say nothing"), "{text}");
}

#[test]
fn a_baseline_tells_a_slower_program_by_the_exit_status() {
    let folder = tempfile::tempdir().unwrap();
    let (model, path) = (tiny(folder.path()), folder.path().join("baseline.json"));
    let baseline = path.display().to_string();
    let bench = |more: &[&str]| trine_with(&[&["bench", &model, "--kl", "0"], &SHORT[..], more].concat());
    let saved = bench(&["--save-baseline", &baseline, "--warmup", "0", "-r", "4"]);
    assert_eq!((saved.code, &saved.json()["peak_memory_bytes"]), (0, &Value::Null), "{}", saved.err);
    assert_eq!(saved.json()["kl"], Value::Null);
    let text = std::fs::read_to_string(&path).unwrap();
    // As if Trine had been a thousand times as fast, or as slow, then, on a machine that was busier, with memory of a speed unknown.
    let noise = |then: f64| serde_json::json!({"steal": then, "others": then});
    let known = saved.json()["results"][0]["others"].is_number();
    let claimed = if known { (4, "regression") } else { (6, "other_noise") };
    for (factor, noise, (code, verdict)) in
        [(1e-3, noise(1.0), claimed), (1e-3, Value::Null, (6, "other_noise")), (1e3, noise(0.0), (0, "faster"))]
    {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        for sample in json["results"][0]["samples"].as_array_mut().unwrap() {
            sample["seconds"] = (sample["seconds"].as_f64().unwrap() * factor).into();
            (sample["noise"], sample["bandwidth"]) = (noise.clone(), Value::Null);
        }
        std::fs::write(&path, json.to_string()).unwrap();
        let ran = bench(&["--baseline", &baseline, "-r", "4"]);
        assert_eq!((ran.code, &ran.json()["baseline"][0]["verdict"]), (code, &verdict.into()), "{}", ran.err);
    }
    let other = trine_with(&["bench", &model, "--prefill", "8", "--decode", "0", "--baseline", &baseline]);
    assert!(other.code == 2 && other.err.contains("expected pp8, found pp16"), "{}", other.err);
    let ran = bench(&["--baseline", &baseline, "--prefill", "8,16,8", "-r", "1"]);
    // One run proves nothing.
    assert_eq!(ran.code, 6, "{}", ran.err);
    let compared = ran.json()["baseline"].as_array().unwrap().clone();
    let names: Vec<&str> = compared.iter().map(|comparison| comparison["test"].as_str().unwrap()).collect();
    assert_eq!((&names[..], &compared[1]["verdict"]), (&["pp16", "pp8"][..], &"not_in_baseline".into()));
    if cfg!(target_os = "linux") {
        // A machine has as many cores as before when threads are bound to one of them.
        let ran = bench(&["--baseline", &baseline, "--cpu-affinity", "auto", "-r", "1"]);
        assert_eq!((ran.code, &ran.json()["machine"]), (6, &saved.json()["machine"]), "{}", ran.err);
    }
    if let Some(other) = trine_kernels::tables().nth(1) {
        let ran = bench(&["--baseline", &baseline, "--isa", other.name, "-r", "1"]);
        assert_eq!(ran.code, 2, "{}", ran.err);
    }
}

#[test]
fn a_baseline_tells_what_instruction_sets_gained_over_plain_rust() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ops.json");
    let baseline = path.display().to_string();
    let ops = |more: &[&str]| {
        trine_with(
            &[&["bench", "ops", "silu", "q4_0", "--side", "256", "--tokens", "1", "--json", "-r", "4"], more].concat(),
        )
    };
    let saved = ops(&["--save-baseline", &baseline]);
    assert_eq!(saved.code, 0, "{}", saved.err);
    let text = std::fs::read_to_string(&path).unwrap();
    for (factor, code, verdict) in [(100.0, 4, "regression"), (0.01, 0, "faster")] {
        let mut json: Value = serde_json::from_str(&text).unwrap();
        for result in json["results"].as_array_mut().unwrap() {
            assert_eq!(result["runs"], 4);
            for ratio in result["ratios"].as_array_mut().unwrap() {
                *ratio = (ratio.as_f64().unwrap() * factor).into();
            }
        }
        std::fs::write(&path, json.to_string()).unwrap();
        let ran = ops(&["--baseline", &baseline]);
        let compared = ran.json()["baseline"].as_array().unwrap().clone();
        assert_eq!(compared.len(), 2 * trine_kernels::tables().count());
        assert!(compared.iter().all(|compared| compared["verdict"] == verdict), "{compared:?}");
        assert_eq!(ran.code, code, "{}", ran.err);
    }
    let other = trine_with(&["bench", "ops", "softmax", "--side", "256", "-r", "1", "--baseline", &baseline]);
    assert!(other.code == 2 && other.err.contains("the baseline has none of these tests"), "{}", other.err);
    // No time: each runs once.
    let ran = ops(&["--time-limit", "0"]);
    let results = ran.json()["results"].as_array().unwrap().clone();
    assert!(results.iter().all(|result| result["runs"] == 1 && result["confidence"] == 0.0), "{results:?}");
}

#[test]
fn a_peer_runs_the_same_tests() {
    let python = std::env::var("TRINE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path());
    let args = ["bench", &model, "--prefill", "16", "--decode", "4", "--batch", "1,3", "-r", "2", "--threads", "1"];
    let ran =
        trine_with(&[&args[..], &["--against", "xllamacpp", "--python", &python, "--json", "--under-load"]].concat());
    if ran.err.contains("pip install xllamacpp") || ran.err.contains("cannot run") {
        eprintln!("skipped: {python} has no package xllamacpp");
        return;
    }
    assert_eq!(ran.code, 0, "{}", ran.err);
    let results = ran.json()["against"]["results"].as_array().unwrap().clone();
    let names: Vec<&str> = results.iter().map(|r| r["test"].as_str().unwrap()).collect();
    assert!(ran.json()["against"]["first_token_seconds"].as_f64() > ran.json()["against"]["load_seconds"].as_f64());
    assert_eq!(names, ["pp16", "tg4", "tg4x3"]);
    assert!(results.iter().all(|r| r["ratio"].as_f64() > Some(0.0)));

    let bitnet = common::golden("bitnet-b1.58").join("model.gguf").display().to_string();
    let args = ["bench", &bitnet, "--prefill", "8", "--decode", "0", "--against", "xllamacpp", "--python", &python];
    let ran = trine_with(&args);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ["xllamacpp", "bitnet-b1.58", "2b4t-silu", "TQ2_0"].iter().all(|says| ran.err.contains(says)),
        "{}",
        ran.err
    );
}

#[test]
fn invalid_arguments_are_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let model = tiny(folder.path());
    let path = folder.path().join("none.json").display().to_string();
    for (args, code, says) in [
        (&["bench", "--shape", "huge"][..], 2, "2b4t"),
        (&["bench", "--shape", "tiny", &model], 2, "--shape"),
        (&["bench", "--shape", "tiny", "--format", "q9"], 2, "q4_k_m"),
        (&["bench", "--shape", "tiny", "--head", "u8"], 2, "q6_k"),
        (&["bench", &model, "--prefill", "0", "--decode", "0"], 2, "expected a test, found none"),
        (&["bench", &model, "--prefill", "5000"], 2, "4096"),
        (&["bench", &model, "--batch", "0"], 2, "--batch"),
        (&["bench", &model, "--write-model", &path], 2, "--write-model"),
        (&["bench", &model, "--format", "q4_0"], 2, "--format"),
        (&["bench", &model, "--head", "q6_k"], 2, "--head"),
        (&["bench", "--format", "q4_0"], 2, "--shape"),
        (&["bench", "--write-model", &path], 2, "--shape"),
        (&["bench", "--against", "xllamacpp"], 2, "expected a model file"),
        (&["bench", "--shape", "tiny", "--write-model", &path, "--json"], 2, "--json"),
        (&["bench", &model, "--baseline", &path], 1, "none.json"),
        (&["bench", &model, "--baseline", &model], 1, "expected a report"),
        (&["bench", &model, "--against", "gpt"], 2, "llama-bench=PATH"),
        (
            &[
                "bench",
                &model,
                "--against",
                "llama-bench=/does/not/exist",
                "-r",
                "1",
                "--prefill",
                "1",
                "--decode",
                "0",
            ],
            1,
            "cannot run",
        ),
        (&["bench", "none.gguf"], 3, "none.gguf"),
        (&["bench", "scale"], 2, "the word `scale`"),
        (&["bench", "--under-load"], 2, "add --b or --against"),
        (&["bench", "--load", "clients=1", "--output", "md"], 2, "text or JSON"),
    ] {
        let ran = trine_with(args);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(says), "{args:?}: {}", ran.err);
    }
}

#[test]
fn the_limits_of_the_machine_are_measured_on_request() {
    let ran = trine_with(&["devices", "--measure", "--json"]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    let limits = &json["limits"];
    assert!(
        limits["bandwidth"].as_array().unwrap().iter().all(|b| b["bytes_per_second"].as_f64().is_none_or(|b| b > 0.0))
    );
    for variant in json["devices"][0]["variants"].as_array().unwrap() {
        let isa = variant.as_str().unwrap().strip_prefix("cpu:").unwrap();
        let peak = limits["peaks"].as_array().unwrap().iter().find(|peak| peak["isa"] == isa);
        let peak = peak.unwrap_or_else(|| panic!("{isa}"));
        assert!(
            peak["int8_operations_per_second"].as_f64() > Some(0.0)
                && peak["f32_operations_per_second"].as_f64() > Some(0.0)
        );
    }
    let json: Value = serde_json::from_str(&trine_with(&["devices", "--json"]).out).unwrap();
    assert!(json["limits"].is_null());
}

#[test]
fn many_requests_at_once_are_answered_in_full() {
    for (more, cached) in [("", 0), (",rate=500,seed=3", 0), (",prefix=64", 64)] {
        let workload = format!("clients=3,prompt=8-40,output=6,requests=9{more}");
        let ran = trine_with(&["bench", "embedded:stories", "--load", &workload, "--parallel", "2", "--json"]);
        let json = ran.json();
        let load = &json["load"];
        assert_eq!((ran.code, &load["completed"], &load["failed"]), (0, &9.into(), &0.into()), "{}", ran.err);
        assert_eq!(load["total_output_tokens"], 54);
        let input = load["total_input_tokens"].as_u64().unwrap();
        assert!((9 * (8 + cached)..=9 * (40 + cached)).contains(&input), "{input}");
        assert!(load["total_cached_tokens"].as_u64().unwrap() >= 7 * cached, "{load}");
        for key in ["ttft", "tpot", "itl", "e2el"] {
            let [median, p99] = ["median", "p99"].map(|name| load[format!("{name}_{key}_ms")].as_f64().unwrap());
            assert!(0.0 < median && median <= p99 && p99 <= 1e3 * load["duration"].as_f64().unwrap(), "{load}");
        }
    }
    // A row for each request: it waits, its prompt is read, its answer comes.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.json");
    let workload = "clients=5,prompt=8-40,output=6,requests=9";
    let profile = ["--parallel", "2", "--profile", path.to_str().unwrap()];
    let ran = trine_with(&[&["bench", "embedded:stories", "--load", workload], &profile[..]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    for row in 1..=9 {
        let spans: Vec<&Value> = events.iter().filter(|event| event["tid"] == row && event["ph"] == "X").collect();
        let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["waits", "prompt", "answer"]);
        for pair in spans.windows(2) {
            let [start, took, next] =
                [&pair[0]["ts"], &pair[0]["dur"], &pair[1]["ts"]].map(|value| value.as_f64().unwrap());
            assert!(took >= 0.0 && (start + took - next).abs() < 1.0, "{pair:?}");
        }
        assert_eq!(spans[2]["args"]["completion_tokens"], 6);
        let request = &trace["otherData"]["requests"][row - 1];
        assert_eq!(request["completion_tokens"], 6);
        let prefill = request["prefill_ms"].as_f64().unwrap();
        assert!((1e3 * prefill - spans[1]["dur"].as_f64().unwrap()).abs() < 1.0, "{request}");
    }
    let ran = trine_with(&["bench", "embedded:stories", "--load", "clients=2,prompt=600"]);
    assert!(ran.code == 2 && ran.err.contains("512"), "{}", ran.err);
    for wrong in [&["--load", "users=2"][..], &["--load", "clients=2", "--prefill", "4"], &["--itl-target", "5"]] {
        assert_eq!(trine_with(&[&["bench", "embedded:stories"], wrong].concat()).code, 2);
    }
}
