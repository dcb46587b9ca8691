//! A regression is told from noise, or it is said that it cannot be.

use std::ops::ControlFlow;
use std::path::Path;
use trine_backend::ActivationPrecision;
use trine_engine::EngineOptions;
use trine_lab::bench::{BenchReport, Change, Description, Limits, Machine, Outcome, Sample, Samples, Test, Verdict};
use trine_lab::bench::{Budgets, Cost, Error, Kind, Noise, Run, Subject, compare, expect, measure, read};
use trine_lab::synthetic::{self, Mixture};
use trine_model::{DeviceOptions, ModelOptions, load};
use trine_tensor::File;

/// A report of one test with these seconds, at a bandwidth, on a machine that does little else.
fn report(kind: Kind, seconds: &[f64], bandwidth: f64) -> BenchReport {
    let noise = Some(Noise { steal: 0.01, others: 0.02 });
    let sample = |&seconds: &f64| Sample {
        seconds,
        bandwidth: Some(bandwidth),
        steady: Some(true),
        noise,
        cpu: None,
        watts: None,
        counts: None,
    };
    let samples = Samples { kept: seconds.iter().map(sample).collect(), ..Samples::default() };
    let test = Test { kind, tokens: 64, sequences: 1, depth: 0 };
    let limits = Limits::default();
    BenchReport {
        commit: None,
        command: None,
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
        activations: "int8".into(),
        weights_in: "in the mapped file".into(),
        huge_bytes: None,
        load_seconds: None,
        first_token_seconds: None,
        peak_memory_bytes: None,
        temperature: None,
        gpu_utilization: None,
        kl: None,
        cache_kl: None,
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
fn verdict(factor: f64, spread: f64, n: usize) -> Change {
    let (then, now) = (seconds(1.0, spread, n), seconds(factor, spread, n));
    let now = report(Kind::Prefill, &now, 3e10);
    compare(&now, &report(Kind::Prefill, &then, 3e10), Path::new("then.json"), &Budgets::default())
        .unwrap()
        .remove(0)
        .change
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
fn nothing_is_claimed_of_a_machine_in_another_state() {
    for kind in [Kind::Decode, Kind::Prefill] {
        let reports =
            |then, now| (report(kind, &seconds(1.2, 0.01, 6), now), report(kind, &seconds(1.0, 0.01, 6), then));
        let compared = |(slow, fast): (BenchReport, BenchReport)| {
            compare(&slow, &fast, Path::new("then.json"), &Budgets::default()).unwrap().remove(0).change.verdict
        };
        assert_eq!(compared(reports(6e10, 3.4e10)), Verdict::OtherBandwidth { then: 6e10, now: 3.4e10 });
        assert_eq!(compared(reports(3.6e10, 3.4e10)), Verdict::Regression);
        let busy = |then: Option<Noise>, now: Option<Noise>| {
            let (mut slow, mut fast) = reports(3e10, 3e10);
            slow.results[0].samples.iter_mut().for_each(|sample| sample.noise = now);
            fast.results[0].samples.iter_mut().for_each(|sample| sample.noise = then);
            compared((slow, fast))
        };
        let (calm, loud) = (Noise { steal: 0.0, others: 0.0 }, Noise { steal: 0.25, others: 0.25 });
        assert_eq!(busy(Some(calm), Some(loud)), Verdict::OtherNoise { then: Some(0.0), now: Some(0.5) });
        assert_eq!(busy(Some(loud), Some(calm)), Verdict::Regression);
        assert_eq!(busy(None, Some(calm)), Verdict::OtherNoise { then: None, now: Some(0.0) });
        assert_eq!(busy(Some(calm), None), Verdict::OtherNoise { then: Some(0.0), now: None });
    }
}

/// Slower memory excuses what it explains, and faster memory hides no more than it can.
#[test]
fn another_bandwidth_explains_as_much_as_memory_takes_part() {
    let (slow, fast) = (3.4e10, 6e10);
    let open = |then, now| Verdict::OtherBandwidth { then, now };
    for (factor, share, then, now, expected) in [
        // Three times as slow is more than memory of 57 % of the speed explains.
        (3.0, None, fast, slow, Verdict::Regression),
        (3.0, Some(0.9), fast, slow, Verdict::Regression),
        (1.5, Some(0.9), fast, slow, open(fast, slow)),
        (1.2, None, fast, slow, open(fast, slow)),
        // Memory has hardly a part in it.
        (1.2, Some(0.05), fast, slow, Verdict::Regression),
        (1.0, Some(0.9), fast, slow, Verdict::NoDifference),
        (0.8, Some(0.9), fast, slow, Verdict::Faster),
        // Memory has become faster.
        (1.2, Some(0.9), slow, fast, Verdict::Regression),
        (1.0, Some(0.9), slow, fast, open(slow, fast)),
        (0.7, Some(0.9), slow, fast, open(slow, fast)),
        (0.7, Some(0.05), slow, fast, Verdict::Faster),
        (1.0, Some(0.05), slow, fast, Verdict::NoDifference),
    ] {
        let report = |factor, bandwidth| {
            let mut report = report(Kind::Decode, &seconds(factor, 0.01, 6), bandwidth);
            report.results[0].bandwidth_share = share;
            report
        };
        let found = compare(&report(factor, now), &report(1.0, then), Path::new("then.json"), &Budgets::default())
            .unwrap()
            .remove(0);
        assert_eq!(found.change.verdict, expected, "{factor} {share:?} {then} {now}");
        assert_eq!(found.change.verdict.is_open(), matches!(expected, Verdict::OtherBandwidth { .. }));
        assert!(found.change.ratio.is_some());
    }
}

#[test]
fn shares_of_more_than_all_are_marked() {
    let limits = Limits { int8: Some(1.0), f32: Some(1.0), ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let (shape, mixture) = (synthetic::shape("tiny").unwrap(), Mixture::named("q4_k_m").unwrap());
    synthetic::write(&path, shape, mixture, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let file = File::open(&path).unwrap();
    let go_on = &mut |_| ControlFlow::Continue(());
    let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), go_on).unwrap();
    let cost = Cost::of(&file, &*runner, &EngineOptions::default(), ActivationPrecision::default()).unwrap();
    let test = Test { kind: Kind::Decode, tokens: 8, sequences: 1, depth: 0 };
    for (limits, bandwidth, beyond) in
        [(Limits::default(), Some(1e12), false), (Limits::default(), Some(1.0), true), (limits, Some(1e12), true)]
    {
        let run = Sample { seconds: 1.0, bandwidth, steady: None, noise: None, cpu: None, watts: None, counts: None };
        let samples = Samples { kept: vec![run], ..Samples::default() };
        let outcome = Outcome::of(test, samples, Some(&cost), &limits).unwrap();
        assert_eq!(outcome.beyond_limits, beyond, "{outcome:?}");
    }
}

/// Says that a test takes a millisecond, and takes as long; counts.
struct Brief(u32);

impl Subject for Brief {
    fn run(&mut self, _test: Test) -> Result<Run, Error> {
        self.0 += 1;
        std::thread::sleep(std::time::Duration::from_millis(1));
        Ok(Run { seconds: 1e-3, passes: vec![1e-3], ..Run::default() })
    }

    fn can(&self, _test: Test) -> bool {
        true
    }

    fn is_here(&self) -> bool {
        true
    }
}

#[test]
fn what_is_short_is_repeated_within_a_run() {
    let (mut brief, test) = (Brief(0), Test { kind: Kind::Decode, tokens: 1, sequences: 1, depth: 0 });
    let runs = measure(&mut [&mut brief], &[test], 2, &mut || None, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let kept = &runs[0][0].kept;
    assert!(kept.len() == 2 && kept.iter().all(|run| (run.seconds - 1e-3).abs() < 1e-9), "{kept:?}");
    assert!(brief.0 > 2);
}

#[test]
fn a_baseline_of_something_else_is_refused() {
    let now = report(Kind::Decode, &[1.0], 1.0);
    let changes: [fn(&mut BenchReport); 9] = [
        |then| then.machine.cpu = Some("another".into()),
        |then| then.subject.architecture = "bitnet".into(),
        |then| then.subject.parameters = 2,
        |then| then.subject.weights_bytes = 2,
        |then| then.subject.format = "q8_0".into(),
        |then| then.threads = 1,
        |then| then.isa = "scalar".into(),
        |then| then.cache_type = "q8_0".into(),
        |then| then.activations = "bf16".into(),
    ];
    for change in changes {
        let mut then = now.clone();
        change(&mut then);
        let error = compare(&now, &then, Path::new("then.json"), &Budgets::default()).unwrap_err().to_string();
        assert!(error.contains("then.json: the baseline is of another"), "{error}");
    }
    let mut moved = now.clone();
    moved.subject.model = "./model.gguf".into();
    assert_eq!(compare(&now, &moved, Path::new("then.json"), &Budgets::default()).unwrap().len(), 1);
}

#[test]
fn tests_that_the_baseline_has_not_are_named() {
    let (now, then) = (report(Kind::Decode, &[1.0], 1.0), report(Kind::Prefill, &[1.0], 1.0));
    let compared = compare(&now, &then, Path::new("then.json"), &Budgets::default()).unwrap();
    assert_eq!((compared[0].change.verdict, compared[0].baseline), (Verdict::NotInBaseline, None));
    let test = |kind| Test { kind, tokens: 64, sequences: 1, depth: 0 };
    let expected = |tests: &[Test]| expect(&then, tests, Path::new("then.json"));
    assert!(expected(&[test(Kind::Decode), test(Kind::Prefill)]).is_ok());
    let error = expected(&[test(Kind::Decode)]).unwrap_err().to_string();
    assert!(["then.json", "tg64", "pp64"].iter().all(|says| error.contains(says)), "{error}");
}

#[test]
fn a_test_is_held_against_the_peak_of_its_own_threads() {
    let limits =
        Limits { int8: Some(1.0), int8_batch: Some(2.0), f32: Some(3.0), f32_batch: Some(6.0), ..Limits::default() };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    let (shape, mixture) = (synthetic::shape("tiny").unwrap(), Mixture::named("q4_k_m").unwrap());
    synthetic::write(&path, shape, mixture, 0, &mut |_, _| ControlFlow::Continue(())).unwrap();
    let file = File::open(&path).unwrap();
    let go_on = &mut |_| ControlFlow::Continue(());
    let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), go_on).unwrap();
    let cost = Cost::of(&file, &*runner, &EngineOptions::default(), ActivationPrecision::default()).unwrap();
    for (kind, tokens, sequences, peak) in
        [(Kind::Decode, 8, 1, 1.0), (Kind::Decode, 8, 2, 2.0), (Kind::Prefill, 1, 1, 1.0), (Kind::Prefill, 8, 1, 2.0)]
    {
        let test = Test { kind, tokens, sequences, depth: 0 };
        let run =
            Sample { seconds: 1.0, bandwidth: None, steady: None, noise: None, cpu: None, watts: None, counts: None };
        let samples = Samples { kept: vec![run], ..Samples::default() };
        let share = Outcome::of(test, samples, Some(&cost), &limits).unwrap().int8_share.unwrap();
        let expected = cost.work(test).int8 as f64 / peak;
        assert!((share / expected - 1.0).abs() < 1e-9, "{test}: {share} {expected}");
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
