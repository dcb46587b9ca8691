//! A regression is told from noise, or it is said that it cannot be.

use std::path::Path;
use trine_lab::bench::{Comparison, Description, Limits, Machine, Outcome, Report, Sample, Samples, Test, Verdict};
use trine_lab::bench::{Kind, compare, read};

/// A report of one test with these seconds, at a bandwidth.
fn report(kind: Kind, seconds: &[f64], bandwidth: f64) -> Report {
    let sample = |&seconds: &f64| Sample { seconds, bandwidth: Some(bandwidth), steady: Some(true), noise: None };
    let samples = Samples { kept: seconds.iter().map(sample).collect(), discarded: 0 };
    let test = Test { kind, tokens: 64, sequences: 1, depth: 0 };
    let limits = Limits::default();
    Report {
        trine: "0".into(),
        time: None,
        machine: Machine { cpu: Some("CPU".into()), cores: Some(2), memory_bytes: None, os: "linux".into() },
        subject: Description {
            model: "model.gguf".into(),
            shape: None,
            format: "q4_k".into(),
            architecture: "llama".into(),
            parameters: 1,
            weights_bytes: 1,
        },
        threads: 2,
        threads_batch: 2,
        isa: "avx2".into(),
        cache_type: "f32".into(),
        weights_in: "in the mapped file".into(),
        huge_bytes: None,
        load_seconds: None,
        first_token_seconds: None,
        peak_memory_bytes: None,
        kl: None,
        results: vec![Outcome::of(test, samples, None, &limits).unwrap()],
        limits,
        against: None,
    }
}

/// `n` seconds around `mean`, spread evenly over this share of it on both sides.
fn seconds(mean: f64, spread: f64, n: usize) -> Vec<f64> {
    let place = |i: usize| ((i * 7 + 3) % n) as f64 / (n - 1).max(1) as f64 * 2.0 - 1.0;
    (0..n).map(|i| mean * (1.0 + spread * place(i))).collect()
}

/// What is said when the same test takes `factor` times as long.
fn verdict(factor: f64, spread: f64, n: usize) -> Comparison {
    let (then, now) = (seconds(1.0, spread, n), seconds(factor, spread, n));
    let now = report(Kind::Prefill, &now, 3e10);
    compare(&now, &report(Kind::Prefill, &then, 3e10), Path::new("then.json")).unwrap().remove(0)
}

#[test]
fn a_regression_is_told_from_noise() {
    assert_eq!(verdict(1.2, 0.02, 6).verdict, Verdict::Regression);
    assert_eq!(verdict(1.08, 0.01, 6).verdict, Verdict::Regression);
    assert_eq!(verdict(1.03, 0.005, 6).verdict, Verdict::Slower);
    assert_eq!(verdict(0.9, 0.01, 6).verdict, Verdict::Faster);
    assert_eq!(verdict(1.0, 0.02, 8).verdict, Verdict::NoDifference);
    // 20 % slower, but three runs prove nothing.
    assert_eq!(verdict(1.2, 0.02, 3).verdict, Verdict::Unclear { more: 1 });
    let Verdict::Unclear { more } = verdict(1.02, 0.3, 6).verdict else { panic!("{:?}", verdict(1.02, 0.3, 6)) };
    assert!(more > 20, "{more}");
    let slower = verdict(1.2, 0.02, 6);
    assert!(
        slower.low.unwrap() < 1.0 / 1.2 && 1.0 / 1.2 < slower.high.unwrap() && slower.p.unwrap() < 0.01,
        "{slower:?}"
    );
}

#[test]
fn decoding_is_not_compared_across_bandwidths() {
    let compared = |kind, then, now| {
        let (slow, fast) = (report(kind, &seconds(1.2, 0.01, 6), now), report(kind, &seconds(1.0, 0.01, 6), then));
        compare(&slow, &fast, Path::new("then.json")).unwrap().remove(0).verdict
    };
    assert_eq!(compared(Kind::Decode, 6e10, 3.4e10), Verdict::OtherBandwidth { then: 6e10, now: 3.4e10 });
    assert_eq!(compared(Kind::Decode, 3.6e10, 3.4e10), Verdict::Regression);
    assert_eq!(compared(Kind::Prefill, 6e10, 3.4e10), Verdict::Regression);
}

#[test]
fn a_baseline_of_something_else_is_refused() {
    let now = report(Kind::Decode, &[1.0], 1.0);
    let changes: [fn(&mut Report); 6] = [
        |then| then.machine.cpu = Some("another".into()),
        |then| then.subject.model = "another".into(),
        |then| then.subject.format = "q8_0".into(),
        |then| then.threads = 1,
        |then| then.isa = "scalar".into(),
        |then| then.cache_type = "q8_0".into(),
    ];
    for change in changes {
        let mut then = now.clone();
        change(&mut then);
        let error = compare(&now, &then, Path::new("then.json")).unwrap_err().to_string();
        assert!(error.contains("then.json: the baseline is of another"), "{error}");
    }
}

#[test]
fn a_report_survives_its_file_and_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    let report = report(Kind::Decode, &seconds(1.0, 0.1, 6), 3e10);
    let text = serde_json::to_string(&report).unwrap();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(read(&path).unwrap(), report);
    for bad in [
        String::new(),
        "[]".into(),
        text[..text.len() / 2].into(),
        text.replacen("\"seconds\":", "\"seconds\":-", 1),
        text.replacen("\"samples\":[", "\"samples\":[],\"x\":[", 1),
        text.replacen("\"bandwidth\":30000000000.0", "\"bandwidth\":0.0", 1),
    ] {
        assert_ne!(bad, text);
        std::fs::write(&path, bad).unwrap();
        let error = read(&path).unwrap_err().to_string();
        assert!(error.contains("x.json: expected a report of `trine bench`"), "{error}");
    }
    assert!(read(&folder.path().join("none")).is_err());
}
