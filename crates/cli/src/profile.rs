//! `--profile`: the trace in a file, and its summary on stderr.

use crate::output::{self, OutputFile};
use crate::{table, units};
use anyhow::Result;
use clap::ValueEnum;
use std::path::Path;
use std::time::Duration;
use trine_backend::profile::{Part, Phase, ProfileReport, Recorder, RecorderOptions, Time};
use trine_tensor::memory;

/// Number of operations in the summary.
const SLOWEST: usize = 15;

/// What a trace has, each with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProfileDepth {
    Step,
    Pass,
    Layer,
    Op,
    Kernel,
}

/// A profile that is being recorded.
pub struct Profiling {
    pub recorder: Recorder,
    file: OutputFile,
}

impl Profiling {
    /// Checks that the file can be written, and is not a file of the model.
    pub fn new(path: &Path, depth: ProfileDepth, model: &Path) -> Result<Profiling> {
        output::check_kind(path, "displayTimeUnit")?;
        let file = OutputFile::new(path, model)?;
        let depth = depth as u8 + 1;
        let options = RecorderOptions { depth, resident: memory::resident, ..RecorderOptions::default() };
        let recorder = Recorder::new(options);
        Ok(Profiling { recorder, file })
    }

    /// Prints the summary, unless `quiet`, and writes the trace.
    pub fn finish(self, quiet: bool) -> Result<()> {
        self.recorder.stop();
        if !quiet {
            note!("{}", summary(&self.recorder.report()));
        }
        self.file.write(|mut out| self.recorder.write_trace(&mut out))
    }
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

fn micros(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| units::measured(time.as_secs_f64() * 1e6))
}

fn share(part: Duration, whole: Duration) -> String {
    if whole.is_zero() { String::new() } else { format!("{:.1} %", part.as_secs_f64() / whole.as_secs_f64() * 100.0) }
}

fn summary(report: &ProfileReport) -> String {
    [slowest(report), parts(report), memory(report)].join("\n\n")
}

/// The slowest operations; percentiles are of single calls.
fn slowest(report: &ProfileReport) -> String {
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    let mut rows = vec![
        ["slowest operations", "", "", "calls", "ms", "share", "p50 us", "p99 us", "GB/s", "GOPS"].map(str::to_owned),
    ];
    let all = report.prefill.time + report.decode.time;
    rows.extend(report.operations.iter().take(SLOWEST).map(|operation| {
        let tensor = [operation.tensor.as_deref(), operation.format].into_iter().flatten().collect::<Vec<_>>();
        [
            operation.name.to_owned(),
            table::visible(&tensor.join(" ")),
            operation.phase.label().to_owned(),
            units::count(operation.calls),
            millis(operation.time),
            share(operation.time, all),
            micros(operation.times.percentile(0.5)),
            micros(operation.times.percentile(0.99)),
            rate(operation.gigabytes_per_second()),
            rate(operation.gops()),
        ]
    }));
    table::columns(&rows, 3)
}

/// The time of each phase, by part.
fn parts(report: &ProfileReport) -> String {
    let phases = [(Phase::Prefill, &report.prefill), (Phase::Decode, &report.decode)];
    let per_token = |time: Duration, phase: &Time| match u32::try_from(phase.tokens) {
        Ok(tokens @ 1..) => millis(time / tokens),
        _ => "-".to_owned(),
    };
    let text = |text: &str| text.to_owned();
    let [prefill, decode] =
        phases.map(|(phase, time)| format!("{} ({})", phase.label(), units::plural(time.tokens, "token")));
    let (what, token, part) = (text("time, ms"), text("per token"), text("share"));
    let mut rows = vec![[what, prefill, token.clone(), part.clone(), decode, token, part]];
    let mut row = |label: &str, of: &dyn Fn(&Time) -> Duration| {
        let [a, b] = phases.map(|(_, phase)| {
            let time = of(phase);
            (millis(time), per_token(time, phase), share(time, phase.time))
        });
        rows.push([text(label), a.0, a.1, a.2, b.0, b.1, b.2]);
    };
    for (i, part) in Part::ALL.into_iter().enumerate() {
        row(part.label(), &|phase| phase.parts[i]);
    }
    row("all", &|phase| phase.time);
    table::columns(&rows, 1)
}

fn memory(report: &ProfileReport) -> String {
    let memory = &report.memory;
    let mut rows = vec![["memory".to_owned(), String::new()]];
    let mut row = |what: String, bytes: Option<u64>| {
        rows.push([what, bytes.map_or("unknown".to_owned(), units::bytes)]);
    };
    for &(format, count, bytes) in &memory.weights {
        row(format!("weights, {format} ({})", units::plural(count as u64, "tensor")), Some(bytes));
    }
    row("KV cache".to_owned(), Some(memory.kv_cache));
    row("activations, peak".to_owned(), Some(memory.activations));
    row("process".to_owned(), memory.resident);
    for tensor in &memory.biggest {
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        row(format!("  {} {} [{shape}]", table::visible(&tensor.name), tensor.format), Some(tensor.bytes as u64));
    }
    table::columns(&rows, 1)
}
