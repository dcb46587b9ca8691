//! What `trine tune` finds counts for its model, and changes no answer.

mod common;

use common::{llama, run, trine};
use serde_json::{Value, json};

#[test]
fn what_is_found_counts_for_the_model_unless_something_else_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let with = |args: &[&str]| {
        let ran = run(trine().env("XDG_DATA_HOME", folder.path()).args(args), "");
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran
    };
    let answer = |more: &[&str]| {
        let ran = with(
            &[&["run", "embedded:stories", "Once", "--max-tokens", "8", "--temperature", "0", "--json"], more].concat(),
        );
        (ran.json()["ids"].clone(), ran.err)
    };
    let (expected, err) = answer(&[]);
    assert!(!err.contains("options from"), "{err}");

    let report = with(&["tune", "embedded:stories", "--under-load", "--json"]).json();
    let file = report["file"].as_str().unwrap();
    let trials = report["report"]["trials"].as_array().unwrap();
    let unsure = report["report"]["unsure"].as_array().unwrap();
    assert!(report["written"] == true && unsure.iter().all(|unsure| unsure[1] == "spread"), "{report}");
    for option in ["repack", "huge-pages", "threads", "threads-batch", "prefill-chunk"] {
        let of: Vec<&Value> = trials.iter().filter(|trial| trial["option"] == option).collect();
        let chosen: Vec<&Value> = of.iter().copied().filter(|trial| trial["chosen"] == true).collect();
        if unsure.contains(&json!([option, "spread"])) {
            assert!(chosen.is_empty() && report["options"][option].is_null(), "{option}: {report}");
            continue;
        }
        assert_eq!(chosen.len(), 1, "{option}: {report}");
        assert_eq!(report["options"][option], chosen[0]["value"], "{option}");
        // No other is much faster.
        for measure in ["decode", "prompt"].iter().filter(|_| option != "repack" && option != "huge-pages") {
            let speed = |trial: &Value| trial[measure].as_f64().unwrap_or(0.0);
            assert!(of.iter().all(|trial| speed(trial) <= 1.031 * speed(chosen[0])), "{option}: {report}");
        }
    }
    let of = |option: &str| trials.iter().filter(|trial| trial["option"] == option).cloned().collect::<Vec<Value>>();
    let (parallel, types) = (of("parallel"), of("cache-type"));
    let speeds: Vec<f64> = parallel.iter().map(|trial| trial["decode"].as_f64().unwrap()).collect();
    let star = parallel.iter().position(|trial| trial["chosen"] == true);
    let highest = speeds.iter().copied().fold(0.0, f64::max);
    let best = speeds.iter().position(|speed| 1.1 * speed >= highest);
    assert_eq!(star, best.filter(|_| !unsure.contains(&json!(["parallel", "spread"]))), "{report}");
    // What others took can be told of runs that are repeated until it can.
    if cfg!(target_os = "linux") {
        assert!(trials.iter().all(|trial| trial["foreign"].is_f64()), "{report}");
    }
    assert!(types.len() == 5 && types.iter().all(|trial| trial["chosen"] == false), "{report}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.starts_with("# Written by `trine tune --under-load` for ") && !text.contains("parallel"), "{text}");
    let (ids, err) = answer(&[]);
    assert_eq!(ids, expected);
    assert!(err.contains(&format!("options from {file}")), "{err}");
    assert!(!answer(&["--tuning", "off"]).1.contains("options from"));
    let text = std::fs::read_to_string(file).unwrap();
    for wrong in ["what = 1", "context = 8", "[run]\nthreads = 1", "x"] {
        let wrong = format!("{text}{wrong}\n");
        std::fs::write(file, &wrong).unwrap();
        let (ids, err) = answer(&[]);
        assert_eq!(ids, expected);
        assert!(err.contains("warning: ") && err.contains("`trine tune` writes it again"), "{err}");
        let ran = run(trine().args(["run", "embedded:stories", "x", "--tuning", file]), "");
        assert_eq!(ran.code, 2, "{}", ran.err);
    }
    // Another model has no such file.
    with(&["run", &llama(), "x", "--raw", "--max-tokens", "1"]);
}

const TUNE: [&str; 6] = ["tune", "embedded:stories", "--seconds", "1", "--under-load", "--json"];

#[test]
fn time_that_is_over_is_said_and_files_of_the_model_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("tuning.toml").display().to_string();
    let ran = run(trine().args(["tune", "embedded:stories", "--seconds", "1", "--under-load", "-o", &output]), "");
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!ran.out.contains("unknown"), "{}", ran.out);
    let again = run(trine().args(["tune", "embedded:stories", "--seconds", "1", "--under-load", "-o", &output]), "");
    assert!(again.code == 2 && again.err.contains("--force replaces it"), "{} {}", again.code, again.err);
    // A file of the model is kept, and the exit status tells a script so.
    let first = || run(trine().env("XDG_DATA_HOME", folder.path()).args(TUNE), "");
    let (new, kept) = (first(), first());
    assert!(new.code == 0 && new.json()["written"] == true, "{}", new.err);
    let report = kept.json();
    let incomplete = &report["report"]["incomplete"];
    assert!(kept.code == 6 && report["written"] == false && *incomplete != json!([]), "{report}");
    let ran = run(trine().args(["run", &llama(), "x", "--raw", "--max-tokens", "1", "--tuning", &output]), "");
    assert!(ran.code == 0 && ran.err.contains(&format!("options from {output}")), "{}", ran.err);
    #[cfg(unix)]
    {
        let pipe = folder.path().join("pipe").display().to_string();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for args in [&["tune", "embedded:stories", "--force", "-o", &pipe], &["run", "x", "--raw", "--tuning", &pipe]] {
            let ran = run(trine().args(args), "");
            assert!(ran.code == 2 && ran.err.contains("expected a file, found a device, a pipe"), "{}", ran.err);
            assert_eq!(ran.err.matches("expected a file").count(), 1, "{}", ran.err);
        }
    }
    let model = llama();
    let ran = run(trine().args(["tune", &model, "-o", &model]), "");
    assert!(ran.code != 0 && ran.err.contains("model"), "{}", ran.err);
}
