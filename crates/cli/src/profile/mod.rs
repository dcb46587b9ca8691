//! `--profile`: the trace in a file, and its summary on stderr.

mod conversion;
mod training;

pub use conversion::summary as conversion_summary;
pub use training::summary as training_summary;

use crate::output::{self, OutputFile};
use crate::{table, units};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trine_backend::profile::{DECODE, PREFILL, Part, ProfileReport, Recorder, RecorderOptions, Time};
use trine_lab::bench::{RequestRecord, requests_json};
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

/// Where the profile goes, and what it has.
#[derive(Args)]
pub struct ProfileArgs {
    /// Write a trace for Perfetto or chrome://tracing to a file, and print a summary
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    pub profile: Option<PathBuf>,
    /// Levels of the trace: step, pass, layer, op, or kernel, which has what each thread does
    #[arg(long, value_name = "LEVEL", requires = "profile", default_value = "op", hide_short_help = true)]
    #[arg(hide_possible_values = true)]
    profile_depth: ProfileDepth,
}

impl ProfileArgs {
    /// A profile of `work`, which reads `input`, if one is asked for.
    pub fn open(&self, work: Work, input: &Path) -> Result<Option<Profiling>> {
        self.profile.as_ref().map(|path| Profiling::new(path, self.profile_depth, work, input)).transpose()
    }
}

/// What is recorded, as its row of the trace is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Engine,
    Training,
    Conversion,
}

/// A profile that is being recorded, or none, which is the default.
#[derive(Default)]
pub struct Profiling {
    pub recorder: Recorder,
    /// Answers, in the order in which they ended.
    pub requests: Vec<RequestRecord>,
    file: Option<OutputFile>,
}

impl Profiling {
    /// Checks that the file can be written, and is not a file of the input.
    pub fn new(path: &Path, depth: ProfileDepth, work: Work, input: &Path) -> Result<Profiling> {
        output::check_kind(path, r#"{"displayTimeUnit":"#)?;
        let file = Some(OutputFile::new(path, input)?);
        let (phase, thread) = match work {
            Work::Engine => (PREFILL, "engine"),
            Work::Training => ("rest", "training"),
            Work::Conversion => ("rest", "conversion"),
        };
        let depth = depth as u8 + 1;
        let options =
            RecorderOptions { depth, phase, thread, resident: memory::resident, ..RecorderOptions::default() };
        Ok(Profiling { recorder: Recorder::new(options), requests: Vec::new(), file })
    }

    /// The recorder, if there is a profile.
    pub fn recorder(&self) -> Option<Recorder> {
        self.file.as_ref().map(|_| self.recorder.clone())
    }

    /// Prints the summary of an engine's profile, unless `quiet`, and writes the trace.
    pub fn finish(self, quiet: bool) -> Result<()> {
        let requests = requests(&self.requests);
        if !self.requests.is_empty() {
            self.recorder.note("requests", requests_json(&self.requests));
        }
        self.write(quiet, |report| {
            let parts = [slowest(report), parts(report), memory(report)].into_iter().chain(requests);
            parts.collect::<Vec<_>>().join("\n\n")
        })
    }

    /// Prints this summary, unless `quiet`, and writes the trace.
    pub fn write(self, quiet: bool, summary: impl FnOnce(&ProfileReport) -> String) -> Result<()> {
        let Some(file) = self.file else { return Ok(()) };
        self.recorder.stop();
        if !quiet {
            note!("{}", summary(&self.recorder.report()));
        }
        file.write(|mut out| self.recorder.write_trace(&mut out))
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

/// The slowest operations; percentiles are of single calls.
fn slowest(report: &ProfileReport) -> String {
    let rate = |rate: Option<f64>| rate.map_or("-".to_owned(), |rate| format!("{rate:.1}"));
    let mut rows = vec![
        ["slowest operations", "", "", "calls", "ms", "share", "p50 us", "p99 us", "GB/s", "GOPS"].map(str::to_owned),
    ];
    let all = report.time();
    rows.extend(report.operations.iter().take(SLOWEST).map(|operation| {
        let tensor = [operation.tensor.as_deref(), operation.format].into_iter().flatten().collect::<Vec<_>>();
        [
            operation.name.to_owned(),
            table::visible(&tensor.join(" ")),
            operation.phase.to_owned(),
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
    let phases = [PREFILL, DECODE].map(|phase| (phase, report.phase(phase)));
    let phases = phases.each_ref();
    let per_token = |time: Duration, phase: &Time| match u32::try_from(phase.tokens) {
        Ok(tokens @ 1..) => millis(time / tokens),
        _ => "-".to_owned(),
    };
    let text = |text: &str| text.to_owned();
    let [prefill, decode] = phases.map(|(phase, time)| format!("{phase} ({})", units::plural(time.tokens, "token")));
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
        row(format!("tensors in {format} ({})", units::count(count as u64)), Some(bytes));
    }
    row("KV cache".to_owned(), Some(memory.kv_cache));
    row("activations alive at once".to_owned(), Some(memory.activations));
    row("process".to_owned(), memory.resident);
    for tensor in &memory.biggest {
        let shape = tensor.shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ");
        row(format!("  {} {} [{shape}]", table::visible(&tensor.name), tensor.format), Some(tensor.bytes as u64));
    }
    table::columns(&rows, 1)
}

/// What each answer took; `None` without any.
fn requests(requests: &[RequestRecord]) -> Option<String> {
    let head = ["request", "prompt", "cached", "answer", "queue ms", "prefill ms", "first token ms", "decode ms", ""];
    let row = |(i, request): (usize, &RequestRecord)| {
        let ms = |time: Option<Duration>| time.map_or("-".to_owned(), millis);
        let usage = &request.usage;
        let [prompt, cached, answer] =
            [usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens].map(|n| units::count(n as u64));
        [
            (i + 1).to_string(),
            prompt,
            cached,
            answer,
            millis(request.queue()),
            ms(request.prefill()),
            ms(request.first_token()),
            ms(request.decode()),
            request.finish_reason.to_owned(),
        ]
    };
    let rows: Vec<[String; 9]> =
        std::iter::once(head.map(str::to_owned)).chain(requests.iter().enumerate().map(row)).collect();
    (!requests.is_empty()).then(|| table::columns(&rows, 1))
}
