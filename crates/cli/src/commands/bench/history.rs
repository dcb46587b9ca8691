//! `trine bench history`: what was measured before.

use super::{model::record_path, trend};
use crate::exit::{Exit, UsageError};
use crate::output::{self, OutputFile};
use crate::report::ReportArgs;
use crate::{table, units};
use anyhow::{Context, Result};
use clap::Args;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use trine_lab::bench::{BenchReport, Outcome, Shift, shift};

/// Show what `trine bench --record` has kept, and what changed from one time to the next
///
/// A change is that of the median speed since the last record of the same test, model, format, machine, threads and instruction set, with the
/// probability of such runs when nothing has changed (Mann and Whitney).
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench history\n  \
    trine bench history --test tg64 --model q4_k_m.gguf\n  \
    trine bench history --last 20 --output csv\n  \
    trine bench history --test tg64 --svg trend.svg")]
pub struct History {
    /// Tests to show, such as tg64 [default: all]
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// Part of the model's path or of the name of its shape
    #[arg(long, value_name = "TEXT")]
    model: Option<String>,
    /// Number of records to show at most, the newest
    #[arg(long, value_name = "N")]
    last: Option<usize>,
    /// Draw how the speed of each test changed, as a part of that of its first record, to a file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// File of records, one line of JSON each [default: trine/bench.jsonl in the user's data folder]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    report: ReportArgs,
}

impl History {
    pub fn run(self) -> Result<Exit> {
        let path = self.file.clone().map_or_else(record_path, Ok)?;
        let reports = match std::fs::File::open(&path) {
            Ok(file) => read(BufReader::new(file)).with_context(|| path.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && self.file.is_none() => {
                let message = format!("{}: nothing was recorded yet", path.display());
                return Err(UsageError { message, hint: "`trine bench --record` appends to it" }.into());
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let mut results: Vec<Value> = Vec::new();
        let mut rows = Vec::new();
        for (n, report) in reports.iter().enumerate() {
            let name = report.subject.shape.as_ref().unwrap_or(&report.subject.model);
            if self.model.as_ref().is_some_and(|part| !name.contains(&**part)) {
                continue;
            }
            for outcome in
                report.results.iter().filter(|outcome| self.test.is_empty() || self.test.contains(&outcome.test))
            {
                let earlier = reports[..n].iter().rev().filter(|earlier| key(earlier) == key(report));
                let before = earlier.flat_map(|earlier| &earlier.results).find(|before| before.test == outcome.test);
                let change = before.and_then(|before| shift(&outcome.speeds(), &before.speeds()));
                rows.push(row(report, name, outcome, change));
                results.push(json!({
                    "time": report.time, "trine": report.trine, "model": name, "format": report.subject.format,
                    "threads": report.threads, "isa": report.isa, "test": outcome.test,
                    "tokens_per_second": outcome.tokens_per_second, "low": outcome.low, "high": outcome.high,
                    "confidence": outcome.confidence, "ratio": change.map(|change| change.ratio), "p": change.map(|change| change.p),
                    "steal": outcome.steal, "others": outcome.others,
                }));
            }
        }
        if let Some(svg) = &self.svg {
            output::check_kind(svg, "<svg")?;
        }
        let drawn = self.svg.as_deref().map(|svg| OutputFile::new(svg, &path)).transpose()?;
        let first = self.last.map_or(0, |last| rows.len().saturating_sub(last));
        let header = ["time", "model", "format", "isa", "test", "tokens/s", "95 %", "change", "p"].map(str::to_owned);
        let rows: Vec<[String; 9]> = std::iter::once(header).chain(rows.drain(first..)).collect();
        if let Some(drawn) = drawn {
            let svg = trend::draw(&trend::series(&results[first..]))?;
            drawn.write(|out| out.write_all(svg.as_bytes()))?;
        }
        let report = json!({ "file": path, "results": results.split_off(first) });
        self.report.print(&report, &rows, 5, "")?;
        Ok(Exit::Done)
    }
}

/// The records of a file, oldest first.
fn read(lines: impl BufRead) -> Result<Vec<BenchReport>> {
    let parsed =
        lines.lines().enumerate().filter(|(_, line)| line.as_ref().map_or(true, |line| !line.trim().is_empty()));
    parsed
        .map(|(n, line)| {
            let report = serde_json::from_str(&line?);
            report.with_context(|| format!("line {}: expected a report of `trine bench`", n + 1))
        })
        .collect()
}

/// What two reports must have in common.
fn key(report: &BenchReport) -> impl PartialEq {
    let subject = &report.subject;
    let model =
        (subject.shape.clone().unwrap_or_else(|| subject.model.clone()), subject.format.clone(), subject.weights_bytes);
    (model, report.machine.clone(), report.threads, report.threads_batch, report.isa.clone(), report.cache_type.clone())
}

fn row(report: &BenchReport, name: &str, outcome: &Outcome, change: Option<Shift>) -> [String; 9] {
    [
        report.time.map_or("unknown".to_owned(), units::date),
        table::visible(name),
        report.subject.format.clone(),
        report.isa.clone(),
        outcome.test.clone(),
        units::measured(outcome.tokens_per_second),
        units::between(outcome.low, outcome.high, outcome.confidence),
        change.map_or(String::new(), |change| format!("{:+.1} %", 100.0 * (change.ratio - 1.0))),
        change.map_or(String::new(), |change| format!("{:.3}", change.p)),
    ]
}
