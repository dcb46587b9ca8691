//! The report as text.

use crate::table::{Facts, columns};
use crate::units;
use std::io::{self, Write};
use trine_lab::bench::{Against, BenchReport, Comparison, THRESHOLD, Verdict};

pub fn report(report: &BenchReport, baseline: Option<&[Comparison]>, out: &mut impl Write) -> io::Result<()> {
    let mut facts = Facts::default();
    let unknown = || "unknown".to_owned();
    let seconds = |seconds: Option<f64>| seconds.map_or_else(unknown, |seconds| format!("{seconds:.2} s"));
    let giga = |n: Option<f64>, unit: &str| n.map_or_else(unknown, |n| format!("{:.1} {unit}", n / 1e9));
    let subject = &report.subject;
    let name = subject.shape.as_ref().unwrap_or(&subject.model);
    facts.push("model", format!("{name} ({}), {}", subject.architecture, subject.format));
    let (count, bytes) = (units::count(subject.parameters), units::bytes(subject.weights_bytes));
    let huge = report.huge_bytes.map_or_else(unknown, units::bytes);
    facts.push("weights", format!("{count} in {bytes}, {}, {huge} in huge pages", report.weights_in));
    facts.push("machine", report.machine.cpu.clone().unwrap_or_else(unknown));
    let batch = if report.threads_batch == report.threads {
        String::new()
    } else {
        format!(" ({} for batches)", report.threads_batch)
    };
    facts.push("threads", format!("{}{batch}, {}, KV cache {}", report.threads, report.isa, report.cache_type));
    facts.push(
        "load",
        format!("{}, first token at {}", seconds(report.load_seconds), seconds(report.first_token_seconds)),
    );
    facts.push("peak memory", report.peak_memory_bytes.map_or_else(unknown, units::bytes));
    let kl = report.kl.map_or_else(
        || "not compared".to_owned(),
        |kl| {
            let error = kl.error.map(|error| format!(" ± {error:.1e}")).unwrap_or_default();
            let same = kl.same_best * 100.0;
            format!("KL {:.2e}{error} nats to f32, {same:.1} % the same best token ({} tokens)", kl.mean, kl.tokens)
        },
    );
    facts.push("quantized activations", kl);
    let limits = &report.limits;
    let pages = limits.pages.as_deref().unwrap_or("unknown");
    facts.push("memory reads", format!("{} in pages of {pages}", giga(limits.bandwidth, "GB/s")));
    let peaks = |int8, f32| format!("{} int8, {} f32", giga(int8, "GOPS"), giga(f32, "GFLOPS"));
    facts.push("peaks", peaks(limits.int8, limits.f32));
    if report.threads_batch != report.threads {
        facts.push("peaks for batches", peaks(limits.int8_batch, limits.f32_batch));
    }
    facts.print(out)?;

    let number = |n: Option<f64>, scale: f64| n.map_or("-".to_owned(), |n| format!("{:.1}", n * scale));
    let percent = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{:.0} %", n * 100.0));
    let title = ["test", "tokens/s", "95 %", "GB/s", "of memory", "GOPS", "of int8", "of f32", "steal", "others"];
    let mut rows = vec![title.map(str::to_owned)];
    rows.extend(report.results.iter().map(|outcome| {
        [
            outcome.test.clone(),
            format!("{:.2}", outcome.tokens_per_second),
            between(outcome.low, outcome.high, outcome.confidence),
            number(outcome.bytes_per_second, 1e-9),
            percent(outcome.bandwidth_share),
            number(outcome.operations_per_second, 1e-9),
            percent(outcome.int8_share),
            percent(outcome.f32_share),
            percent(outcome.steal),
            percent(outcome.others),
        ]
    }));
    writeln!(out, "\n{}", columns(&rows, 1))?;
    for outcome in report.results.iter().filter(|outcome| outcome.unsteady > 0) {
        writeln!(out, "{}: memory's bandwidth changed during {} runs", outcome.test, outcome.unsteady)?;
    }
    if let Some(found) = &report.against {
        against(found, out)?;
    }
    for comparison in baseline.into_iter().flatten() {
        writeln!(out, "{}", verdict(comparison, report))?;
    }
    Ok(())
}

/// An interval, with its level if that is less than 95 %.
fn between(low: f64, high: f64, confidence: f64) -> String {
    let sure = if confidence < 0.95 { format!(" ({:.0} %)", confidence * 100.0) } else { String::new() };
    format!("{low:.2}-{high:.2}{sure}")
}

fn against(found: &Against, out: &mut impl Write) -> io::Result<()> {
    let version = found.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let load = found.load_seconds.map(|seconds| format!(", loaded in {seconds:.2} s")).unwrap_or_default();
    writeln!(out, "\nagainst {}{version}{load}", found.peer)?;
    let mut rows = vec![["test", "tokens/s", "95 %", "Trine is faster by", "95 %"].map(str::to_owned)];
    rows.extend(found.results.iter().map(|versus| {
        [
            versus.test.clone(),
            format!("{:.2}", versus.tokens_per_second),
            between(versus.low, versus.high, versus.confidence),
            format!("{:.2}x", versus.ratio),
            between(versus.ratio_low, versus.ratio_high, versus.confidence),
        ]
    }));
    writeln!(out, "{}", columns(&rows, 1))
}

/// The change of a test since the baseline, in a sentence.
fn verdict(comparison: &Comparison, report: &BenchReport) -> String {
    let test = &comparison.test;
    let percent = |ratio: f64| format!("{:.1} %", (ratio - 1.0).abs() * 100.0);
    let range = match (comparison.low, comparison.high) {
        (Some(low), Some(high)) => format!(" [{:+.1} to {:+.1} %]", (low - 1.0) * 100.0, (high - 1.0) * 100.0),
        _ => String::new(),
    };
    let by = comparison.ratio.map(percent).unwrap_or_default();
    let samples =
        report.results.iter().find(|outcome| outcome.test == *test).map_or(0, |outcome| outcome.samples.len());
    match comparison.verdict {
        Verdict::Regression => format!("{test}: slower by {by}{range}: a regression"),
        Verdict::Slower => format!("{test}: slower by {by}{range}"),
        Verdict::Faster => format!("{test}: faster by {by}{range}"),
        Verdict::NoDifference => format!("{test}: no difference found{range}"),
        Verdict::Unclear { more } => {
            let limit = THRESHOLD * 100.0;
            format!("{test}: cannot tell {limit:.0} % apart with these {samples} samples: {more} more needed{range}")
        }
        Verdict::OtherNoise { then, now } => {
            let share = |noise: Option<f64>| noise.map_or("unknown".to_owned(), |n| format!("{:.0} %", n * 100.0));
            let (then, now) = (share(then), share(now));
            format!(
                "{test}: cannot tell: slower by {by}{range}, but the CPU share of other processes was {then} then and is {now} now"
            )
        }
        Verdict::NotInBaseline => format!("{test}: not in the baseline"),
        Verdict::OtherBandwidth { then, now } => {
            format!("{test}: cannot tell: memory gave {:.1} GB/s then and {:.1} GB/s now", then / 1e9, now / 1e9)
        }
    }
}
