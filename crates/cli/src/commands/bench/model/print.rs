//! The report as text.

use crate::report::ReportFormat;
use crate::table::Facts;
use crate::units;
use std::io::{self, Write};
use trine_lab::bench::{Against, BenchReport, Change, Comparison, Kl, Spent, Verdict};

/// What the columns are.
const LEGEND: &str = "95 %: interval of the median, with how sure it is where the runs are too few for that; GB/s, GOPS: the least that a test reads and multiplies;\n\
    of memory: of the bandwidth around the runs; of int8, of bf16, of f32: of the peaks above;\n\
    steal, others: CPU time that the host and other processes took";

const SPREADS: &str = "mean, sd, CV: of the tokens/s of runs; pass: a forward pass, one token of each sequence or up to 512 of a prompt;\n\
    CPU: CPU time over wall time; per core, per GiB of peak memory, per watt of the CPU: tokens/s";

const BEYOND: &str =
    "!: more than all: a cache gave what memory would have, or the limit was measured while the machine was slower";

/// `form` is text or Markdown.
pub fn report(
    report: &BenchReport,
    baseline: Option<&[Comparison]>,
    budgets: Option<&[Spent]>,
    form: ReportFormat,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut facts = Facts::default();
    let unknown = || "unknown".to_owned();
    let seconds = |seconds: Option<f64>| seconds.map_or_else(unknown, |seconds| format!("{seconds:.2} s"));
    let giga = |n: Option<f64>, unit: &str| n.map_or_else(unknown, |n| format!("{} {unit}", units::measured(n / 1e9)));
    let subject = &report.subject;
    let name = subject.shape.as_ref().unwrap_or(&subject.model);
    facts.push("model", format!("{name} ({}), {}", subject.architecture, subject.format));
    let (count, bytes) = (units::count(subject.parameters), units::bytes(subject.weights_bytes));
    let huge = report.huge_bytes.map_or_else(unknown, units::bytes);
    facts.push("weights", format!("{count} in {bytes} of tensors, {}, {huge} in huge pages", report.weights_in));
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
    let compared = |kl: Option<Kl>| match kl {
        None => "not compared".to_owned(),
        Some(kl) => {
            let error = kl.error.map(|error| format!(" ± {error:.1e}")).unwrap_or_default();
            let same = kl.same_best * 100.0;
            format!(
                "KL {:.2e}{error} nats to f32, {same:.1} % the same best token ({})",
                kl.mean,
                units::plural(kl.tokens as u64, "token")
            )
        }
    };
    facts.push(format!("{} activations", report.activations), compared(report.kl));
    if report.cache_type != "f32" {
        facts.push("KV cache", compared(report.cache_kl));
    }
    let limits = &report.limits;
    let pages = limits.pages.as_deref().unwrap_or("unknown");
    facts.push("memory reads", format!("{} in pages of {pages}", giga(limits.bandwidth, "GB/s")));
    let peaks = |int8, bf16: Option<f64>, f32| {
        let bf16 = bf16.map(|_| format!(", {} bf16", giga(bf16, "GFLOPS"))).unwrap_or_default();
        format!("{} int8{bf16}, {} f32", giga(int8, "GOPS"), giga(f32, "GFLOPS"))
    };
    facts.push("peaks", peaks(limits.int8, limits.bf16, limits.f32));
    if report.threads_batch != report.threads {
        facts.push("peaks for batches", peaks(limits.int8_batch, limits.bf16_batch, limits.f32_batch));
    }
    facts.print(out)?;

    let number = |n: Option<f64>, scale: f64| n.map_or("-".to_owned(), |n| units::measured(n * scale));
    let percent = |n: Option<f64>| n.map_or("-".to_owned(), |n| format!("{:.0} %", n * 100.0));
    let share = |n: Option<f64>| format!("{}{}", percent(n), if n.is_some_and(|n| n > 1.0) { " !" } else { "" });
    let title =
        ["test", "tokens/s", "95 %", "GB/s", "of memory", "GOPS", "of int8", "of bf16", "of f32", "steal", "others"];
    let mut rows = vec![title.map(str::to_owned)];
    rows.extend(report.results.iter().map(|outcome| {
        [
            outcome.test.clone(),
            units::measured(outcome.tokens_per_second),
            units::between(outcome.low, outcome.high, outcome.confidence),
            number(outcome.bytes_per_second, 1e-9),
            share(outcome.bandwidth_share),
            number(outcome.operations_per_second, 1e-9),
            share(outcome.int8_share),
            share(outcome.bf16_share),
            share(outcome.f32_share),
            percent(outcome.steal),
            percent(outcome.others),
        ]
    }));
    writeln!(out, "\n{}\n", form.table(&rows, 1))?;
    writeln!(out, "{LEGEND}\n")?;
    spreads(report, form, out)?;
    counts(report, form, out)?;
    if report.results.iter().any(|outcome| outcome.beyond_limits) {
        writeln!(out, "{BEYOND}")?;
    }
    for outcome in report.results.iter().filter(|outcome| outcome.unsteady > 0) {
        let runs = units::plural(outcome.unsteady as u64, "run");
        writeln!(out, "{}: memory's bandwidth changed during {runs}", outcome.test)?;
    }
    if let Some(found) = &report.against {
        against(found, form, out)?;
    }
    for comparison in baseline.into_iter().flatten() {
        writeln!(out, "{}", verdict(comparison, report))?;
    }
    for spent in budgets.into_iter().flatten() {
        let test = spent.test.as_ref().map(|test| format!("{test}: ")).unwrap_or_default();
        let found = spent.found.map_or("unknown".to_owned(), units::measured);
        let says = match spent.kept {
            Some(true) => "within the budget",
            Some(false) => "beyond the budget",
            None => "cannot tell",
        };
        writeln!(out, "{test}{} {found}, limit {}: {says}", spent.what, units::measured(spent.limit))?;
    }
    Ok(())
}

fn against(found: &Against, form: ReportFormat, out: &mut impl Write) -> io::Result<()> {
    let version = found.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let load = found.load_seconds.map(|seconds| format!(", loaded in {seconds:.2} s")).unwrap_or_default();
    let first = found.first_token_seconds.map(|seconds| format!(", first token at {seconds:.2} s")).unwrap_or_default();
    writeln!(out, "\nagainst {}{version}{load}{first}", found.peer)?;
    let mut rows = vec![["test", "tokens/s", "95 %", "first is", "95 %", "p"].map(str::to_owned)];
    rows.extend(found.results.iter().map(|versus| {
        let between = versus.ratio_low.zip(versus.ratio_high);
        [
            versus.test.clone(),
            units::measured(versus.tokens_per_second),
            units::between(versus.low, versus.high, versus.confidence),
            versus.ratio.map_or("not told".to_owned(), |ratio| format!("{}x as fast", units::measured(ratio))),
            between.map_or(String::new(), |(low, high)| units::between(low, high, versus.confidence)),
            versus.p.map_or(String::new(), |p| format!("{p:.3}")),
        ]
    }));
    writeln!(out, "{}", form.table(&rows, 1))?;
    writeln!(out, "p: probability of such pairs when both are equally fast (Wilcoxon)")?;
    for versus in found.results.iter().filter(|versus| versus.ratio.is_none()) {
        let share = versus.foreign.map_or(0.0, |share| 100.0 * share);
        writeln!(
            out,
            "{}: others took {share:.0} % of the CPUs: a ratio would say nothing; measure again, or add --under-load",
            versus.test
        )?;
    }
    Ok(())
}

/// How runs and passes vary, and what a token costs.
fn spreads(report: &BenchReport, form: ReportFormat, out: &mut impl Write) -> io::Result<()> {
    let title = ["test", "mean", "sd", "CV", "pass p50", "p95", "p99", "CPU", "per core", "per GiB", "per watt"];
    let mut rows = vec![title.map(str::to_owned)];
    let number = |n: Option<f64>| n.map_or("-".to_owned(), units::measured);
    rows.extend(report.results.iter().map(|outcome| {
        let (speeds, pass) = (outcome.speeds, outcome.pass_seconds);
        // One run does not vary.
        let varying = speeds.filter(|_| outcome.samples.len() > 1);
        let milliseconds =
            |seconds: Option<f64>| seconds.map_or("-".to_owned(), |seconds| format!("{:.3} ms", 1e3 * seconds));
        [
            outcome.test.clone(),
            number(speeds.map(|speeds| speeds.mean)),
            number(varying.map(|speeds| speeds.sd)),
            varying.and_then(|speeds| speeds.cv).map_or("-".to_owned(), |cv| format!("{:.1} %", 100.0 * cv)),
            milliseconds(pass.map(|pass| pass.p50)),
            milliseconds(pass.map(|pass| pass.p95)),
            milliseconds(pass.map(|pass| pass.p99)),
            outcome.cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
            number(outcome.per_core),
            number(outcome.per_gib),
            number(outcome.per_watt),
        ]
    }));
    writeln!(out, "{}\n", form.table(&rows, 1))?;
    writeln!(out, "{SPREADS}")
}

/// What the CPUs counted for each token, if that was asked for and is known.
fn counts(report: &BenchReport, form: ReportFormat, out: &mut impl Write) -> io::Result<()> {
    let title = ["test", "instructions/token", "per cycle", "cache reads/token", "cache misses/token"];
    let mut rows = vec![title.map(str::to_owned)];
    let number = |n: Option<f64>| n.map_or("-".to_owned(), units::measured);
    rows.extend(report.results.iter().filter_map(|outcome| {
        let counts = outcome.counts?;
        let per_cycle = counts.instructions.zip(counts.cycles).map(|(instructions, cycles)| instructions / cycles);
        Some([
            outcome.test.clone(),
            number(counts.instructions),
            number(per_cycle),
            number(counts.cache_references),
            number(counts.cache_misses),
        ])
    }));
    if rows.len() == 1 {
        return Ok(());
    }
    writeln!(out, "\n{}\n", form.table(&rows, 1))
}

/// A test before and after, and what follows, in a sentence.
fn verdict(comparison: &Comparison, report: &BenchReport) -> String {
    let Comparison { test, baseline, tokens_per_second, change } = comparison;
    let samples =
        report.results.iter().find(|outcome| outcome.test == *test).map_or(0, |outcome| outcome.samples.len());
    sentence(test, [*baseline, Some(*tokens_per_second)], "tokens/s", change, samples)
}

/// What was measured before and now, as often as `samples`, and what follows.
pub fn sentence(name: &str, values: [Option<f64>; 2], unit: &str, change: &Change, samples: usize) -> String {
    let [Some(before), Some(after)] = values.map(|value| value.map(units::measured)) else {
        return format!("{name}: not in the baseline");
    };
    let signed = |ratio: f64| format!("{:+.1} %", (ratio - 1.0) * 100.0);
    let range = match (change.low, change.high) {
        (Some(low), Some(high)) => format!(" [{} to {}]", signed(low), signed(high)),
        _ => String::new(),
    };
    let says = match change.verdict {
        Verdict::Regression => "a regression".to_owned(),
        Verdict::Slower => "slower".to_owned(),
        Verdict::Faster => "faster".to_owned(),
        Verdict::NoDifference => "no difference found".to_owned(),
        Verdict::NotInBaseline => "not in the baseline".to_owned(),
        Verdict::Unclear { more } => {
            let (limit, more) = (change.threshold * 100.0, units::plural(more as u64, "more run"));
            let samples = units::plural(samples as u64, "run");
            format!("cannot tell {limit:.0} % apart with {samples}: needs {more}")
        }
        Verdict::OtherNoise { then, now } => {
            let share = |noise: Option<f64>| noise.map_or("unknown".to_owned(), |n| format!("{:.0} %", n * 100.0));
            let (then, now) = (share(then), share(now));
            format!("cannot tell: the CPU share of other processes was {then} then and is {now} now")
        }
        Verdict::OtherBandwidth { then, now } => {
            let [then, now] = [then, now].map(|speed| units::measured(speed / 1e9));
            format!("cannot tell: memory gave {then} GB/s then and {now} GB/s now")
        }
    };
    let change = change.ratio.map(signed).unwrap_or_default();
    format!("{name}: {before} {unit} before, {after} now, {change}{range}: {says}")
}
