//! `trine bench --load`: many requests at once.

use super::{Model, describe, synthetic::Synthetic};
use crate::exit::Exit;
use crate::output::OutputFile;
use crate::report::{self, ReportFormat};
use crate::table::{Facts, columns};
use crate::{measure, units};
use anyhow::Result;
use serde::Serialize;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use trine_lab::bench::{self, Batching, Description, LoadReport, Machine, Workload};
use trine_tensor::OpenOptions;

/// The longest target that can be asked for: a day.
const MOST: f64 = 86_400_000.0;

/// How long a step may take while a sequence generates, or no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ItlTarget(pub Option<Duration>);

impl std::str::FromStr for ItlTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<ItlTarget, String> {
        if text == "off" {
            return Ok(ItlTarget(None));
        }
        match text.parse().ok().filter(|ms| (1.0..=MOST).contains(ms)) {
            Some(ms) => Ok(ItlTarget(Some(Duration::from_secs_f64(ms / 1e3)))),
            None => Err(format!("expected milliseconds from 1 to {MOST}, or off, found `{text}`")),
        }
    }
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    trine: &'static str,
    commit: Option<String>,
    command: String,
    /// Seconds since 1970.
    time: Option<u64>,
    machine: Machine,
    #[serde(flatten)]
    subject: Description,
    threads: usize,
    threads_batch: usize,
    isa: &'a str,
    cache_type: String,
    activations: String,
    workload: &'a Workload,
    parallel: usize,
    itl_target_ms: Option<f64>,
    load: &'a LoadReport,
}

impl Model {
    /// Loads the model and sends it the requests.
    pub(super) fn run_load(
        &self,
        workload: &Workload,
        path: &Path,
        synthetic: Option<&Synthetic>,
        stop: &Arc<AtomicBool>,
    ) -> Result<Exit> {
        let flow = || if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let parallel = self.parallel.map_or(workload.parallel(), |n| n as usize);
        let mut options = self.machine.options();
        options.engine.context = Some(workload.context());
        options.engine.max_sequences = parallel;
        options.engine.itl_target = self.itl_target.0;
        options.engine.max_batch_tokens = self.max_batch_tokens.map(|tokens| tokens as usize);
        if let Some(tokens) = self.ubatch {
            options.engine.prefill_chunk = tokens as usize;
        }
        options.engine.cache_type = self.machine.cache_type;
        options.stop = Some(stop.clone());
        let trace = self.profile.as_deref().map(|file| OutputFile::new(file, path)).transpose()?;
        // Loading may bind this thread to a CPU, and then it sees no other.
        let machine = measure::machine();
        let llm = options.open_with(path, &mut |_| flow())?;
        let placement = llm.placement().clone();
        let mut engine = llm.into_parts().0;
        engine.calibrate()?;
        let bar = super::bar("requests", workload.requests);
        let report = bench::load(&mut engine, workload, Batching::Continuous, &mut |done, _| {
            bar.set_position(done as u64);
            flow()
        });
        bar.finish_and_clear();
        let report = report?;
        if let Some(trace) = trace {
            trace.write(|mut out| bench::write_requests(&report.requests, &mut out))?;
        }
        let milliseconds = |target: Duration| 1e3 * target.as_secs_f64();
        let target = self.itl_target.0.map(milliseconds);
        if let (Some(target), Some(step)) = (target, report.step_target_ms)
            && step > target
        {
            note!(
                "warning: --itl-target {target} leaves too little time for prompts: steps were given up to {} ms",
                units::measured(step)
            );
        }
        if workload.late > 0 && report.late_ttft_ms.is_none() {
            note!(
                "warning: the late prompt was not answered: it is sent when all others generate; ask for longer answers"
            );
        }
        let file = trine::open_file(path, &OpenOptions::default())?;
        let subject = describe(&file, engine.spec().arch.name(), synthetic);
        let mut out = io::stdout().lock();
        if self.report.format() == ReportFormat::Json {
            let report = Report {
                trine: env!("CARGO_PKG_VERSION"),
                commit: report::commit(),
                command: report::command(),
                time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs()),
                machine,
                subject,
                threads: placement.threads,
                threads_batch: placement.threads_batch,
                isa: placement.isa,
                cache_type: self.machine.cache_type.to_string(),
                activations: self.machine.activations.to_string(),
                workload,
                parallel,
                itl_target_ms: target,
                load: &report,
            };
            writeln!(out, "{}", serde_json::to_string(&report)?)?;
        } else {
            print(&subject, &report, &mut out)?;
        }
        Ok(Exit::Done)
    }
}

fn print(subject: &Description, report: &LoadReport, out: &mut impl Write) -> io::Result<()> {
    let LoadReport { ttft, tpot, itl, e2el, .. } = report;
    let mut facts = Facts::default();
    facts.push("model", format!("{}, {}", subject.shape.as_ref().unwrap_or(&subject.model), subject.format));
    let failed = if report.failed == 0 { String::new() } else { format!(", {} failed", report.failed) };
    facts.push(
        "requests",
        format!(
            "{} in {:.1} s{failed}, at most {} at once",
            report.completed, report.duration, report.max_concurrent_requests
        ),
    );
    let cached = units::count(report.total_cached_tokens as u64);
    facts.push("prompts", format!("{} ({cached} cached)", units::plural(report.total_input_tokens as u64, "token")));
    let rate = units::measured(report.output_throughput);
    facts.push("answers", format!("{}, {rate}/s", units::plural(report.total_output_tokens as u64, "token")));
    facts.print(out)?;
    let row = |name: &str, times: [Option<f64>; 5]| {
        let [mean, median, std, p95, p99] = times.map(|ms| ms.map_or("-".to_owned(), units::measured));
        [name.to_owned(), mean, median, std, p95, p99]
    };
    let rows = [
        ["milliseconds", "mean", "median", "std", "p95", "p99"].map(str::to_owned),
        row(
            "time to first token",
            [ttft.mean_ttft_ms, ttft.median_ttft_ms, ttft.std_ttft_ms, ttft.p95_ttft_ms, ttft.p99_ttft_ms],
        ),
        row(
            "time per output token",
            [tpot.mean_tpot_ms, tpot.median_tpot_ms, tpot.std_tpot_ms, tpot.p95_tpot_ms, tpot.p99_tpot_ms],
        ),
        row(
            "inter-token latency",
            [itl.mean_itl_ms, itl.median_itl_ms, itl.std_itl_ms, itl.p95_itl_ms, itl.p99_itl_ms],
        ),
        row(
            "whole answer",
            [e2el.mean_e2el_ms, e2el.median_e2el_ms, e2el.std_e2el_ms, e2el.p95_e2el_ms, e2el.p99_e2el_ms],
        ),
    ];
    writeln!(out, "\n{}", columns(&rows, 1))?;
    let longest = report.max_itl_ms.map_or("-".to_owned(), units::measured);
    writeln!(out, "\nlongest time between two tokens: {longest} ms")?;
    if let (Some(first), Some(stall)) = (report.late_ttft_ms, report.late_max_itl_ms) {
        let (first, stall) = (units::measured(first), units::measured(stall));
        writeln!(out, "late prompt: first token after {first} ms, others waited {stall} ms for a token at most")?;
    }
    Ok(())
}
