//! `trine bench ops`: single operations, by each instruction set.

use super::model::print::sentence;
use crate::exit::{Exit, UsageError};
use crate::output::{self, OutputFile};
use crate::report::ReportArgs;
use crate::{interrupt, measure, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use indicatif::ProgressBar;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trine_kernels::{Table, tables};
use trine_lab::bench::{OPS, OpCase, OpComparison, OpOutcome, OpSizes, OpsReport, Verdict, op_formats};

/// Formats that are measured if none is named.
const FORMATS: [&str; 6] = ["f32", "f16", "q8_0", "q4_k", "i2_s", "tq2_0"];
/// How long short operations repeat in a run.
const RUN: Duration = Duration::from_millis(5);

/// Measure single operations by each instruction set, beside plain Rust
///
/// Operations are gemm (floats by floats), softmax, rms_norm, layer_norm and silu over a million numbers, and products with a matrix of each format. All
/// instruction sets compute the same bits, which is checked.
///
/// Plain Rust is written so that the compiler can make vectors of it for any CPU of this kind, has one thread, and may add in any order. The
/// instruction set called scalar is slower: it has the bits of the others.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench ops\n  \
    trine bench ops gemm --gemm-rows 4096 -r 3\n  \
    trine bench ops --save-baseline ops.json\n  \
    trine bench ops --baseline ops.json\n  \
    trine bench ops q4_k i2_s --tokens 1,16 --output md")]
pub struct Ops {
    /// Operations and formats of matrices [default: all operations, and some formats]
    names: Vec<String>,
    /// All operations and formats
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Rows and columns of matrices
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = side)]
    side: usize,
    /// Rows of the other factor of gemm
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(1..=16384))]
    gemm_rows: u32,
    /// Tokens of products
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,16")]
    #[arg(value_parser = value_parser!(u32).range(1..=16384))]
    tokens: Vec<u32>,
    /// Number of threads; plain Rust has one
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Number of runs of each
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 5)]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    /// Seconds of runs of an operation by one instruction set, after which it does not run again
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    time_limit: f64,
    /// Save the results to a file, for --baseline
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Compare how many times plain Rust each instruction set is with saved results
    ///
    /// The exit status is 4 where that is less by more than 10 % and not by chance, and 6 where the runs cannot tell.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    #[command(flatten)]
    report: ReportArgs,
}

fn seconds(text: &str) -> Result<f64, String> {
    let fits = |seconds: &f64| (0.0..=1e6).contains(seconds);
    text.parse().ok().filter(fits).ok_or_else(|| "expected seconds from 0 to 1000000".to_owned())
}

fn side(text: &str) -> Result<usize, String> {
    let fits = |side: &usize| side.is_multiple_of(256) && (256..=16384).contains(side);
    text.parse().ok().filter(fits).ok_or_else(|| "expected a multiple of 256 up to 16384".to_owned())
}

impl Ops {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let names = self.names()?;
        let then = self.baseline.as_deref().map(OpsReport::read).transpose()?;
        let save = self.save_baseline.as_deref().map(|file| {
            output::check_kind(file, r#"{"trine":"#)?;
            OutputFile::new(file, Path::new(""))
        });
        let save = save.transpose()?;
        let tables: Vec<&Table> = tables().collect();
        let cases: Vec<(&str, usize)> = names
            .iter()
            .flat_map(|name| {
                let once = OPS.contains(&name.as_str());
                let tokens = if once { &self.tokens[..1] } else { &self.tokens };
                tokens.iter().map(move |&tokens| (name.as_str(), tokens as usize))
            })
            .collect();
        let runs = (tables.len() + 1) * (self.repetitions as usize + 1);
        let bar = progress::bar("{msg} {bar:30} {pos}/{len} {eta}", (cases.len() * runs) as u64);
        let mut report = OpsReport {
            trine: env!("CARGO_PKG_VERSION").to_owned(),
            machine: measure::machine(),
            threads: self.threads as usize,
            results: Vec::new(),
        };
        let then = then.as_ref().zip(self.baseline.as_deref());
        if let Some((then, path)) = then {
            report.check_same(then, path)?;
        }
        for (i, (name, tokens)) in cases.into_iter().enumerate() {
            let numbers = (1usize << 20).next_multiple_of(self.side);
            let sizes = OpSizes { side: self.side, gemm_rows: self.gemm_rows as usize, tokens, numbers };
            let Some(mut case) = OpCase::new(name, sizes, &tables, self.threads as usize)? else {
                return Err(unknown(name).into());
            };
            bar.set_message(case.name.clone());
            report.results.extend(self.measure(&mut case, &tables, &bar, &stop)?);
            bar.set_position(((i + 1) * runs) as u64);
        }
        bar.finish_and_clear();
        let compared = then.map(|(then, path)| report.compare(then, path)).transpose()?;
        self.print(&report, compared.as_deref())?;
        if let Some(save) = save {
            let line = serde_json::to_string(&report)?;
            save.write(|out| writeln!(out, "{line}"))?;
        }
        let is = |holds: fn(Verdict) -> bool| compared.iter().flatten().any(|compared| holds(compared.change.verdict));
        Ok(if report.results.iter().any(|result| result.same_bits == Some(false)) {
            Exit::Work
        } else if is(|verdict| verdict == Verdict::Regression) {
            Exit::Regression
        } else if is(Verdict::is_open) {
            Exit::CannotTell
        } else {
            Exit::Done
        })
    }

    /// All instruction sets in turn, then plain Rust, again and again.
    fn measure(
        &self,
        case: &mut OpCase,
        tables: &[&Table],
        bar: &ProgressBar,
        stop: &AtomicBool,
    ) -> Result<Vec<OpOutcome>> {
        let limit = Duration::from_secs_f64(self.time_limit);
        let mut bits = Vec::new();
        let mut times = vec![Vec::new(); tables.len() + 1];
        let mut spent = vec![Duration::ZERO; tables.len() + 1];
        for run in 0..=self.repetitions {
            for (i, times) in times.iter_mut().enumerate() {
                bar.inc(1);
                if spent[i] > limit && !times.is_empty() {
                    continue;
                }
                if stop.load(Relaxed) {
                    return Err(trine_lab::bench::Error::Cancelled.into());
                }
                let (start, mut runs) = (Instant::now(), 0);
                while runs == 0 || run > 0 && start.elapsed() < RUN {
                    let out = black_box(if i < tables.len() { case.run(i) } else { case.run_plain() });
                    if run == 0 {
                        bits.push(out.iter().map(|x| x.to_bits()).collect::<Vec<u32>>());
                    }
                    runs += 1;
                }
                spent[i] += start.elapsed();
                // The first is to warm up, unless it took so long that there is no other.
                if run > 0 || spent[i] > limit {
                    times.push(start.elapsed().as_secs_f64() / f64::from(runs));
                }
            }
        }
        let by = tables.iter().map(|table| (table.name, true)).chain([("plain Rust", false)]);
        let outcomes = by.zip(&times).zip(&bits).filter_map(|(((by, is_table), times_by), bits_by)| {
            OpOutcome::of(case, by, is_table.then(|| *bits_by == bits[0]), times_by, &times[tables.len()])
        });
        Ok(outcomes.collect())
    }

    fn print(&self, report: &OpsReport, compared: Option<&[OpComparison]>) -> Result<()> {
        let mut rows =
            vec![["operation", "shape", "by", "ms", "95 %", "runs", "G/s", "times plain"].map(str::to_owned)];
        rows.extend(report.results.iter().map(|outcome| {
            let differs = if outcome.same_bits == Some(false) { ", OTHER BITS" } else { "" };
            [
                outcome.operation.clone(),
                outcome.shape.clone(),
                format!("{}{differs}", outcome.by),
                units::measured(1e3 * outcome.seconds),
                units::between(1e3 * outcome.low, 1e3 * outcome.high, outcome.confidence),
                outcome.runs.to_string(),
                units::measured(outcome.per_second / 1e9),
                units::measured(outcome.times_plain),
            ]
        }));
        let mut json = serde_json::to_value(report)?;
        json["baseline"] = serde_json::to_value(compared)?;
        let mut legend = "G/s: 1e9 multiplications and additions of products, 1e9 numbers of the others, per second; 95 %: interval of the median".to_owned();
        for found in compared.into_iter().flatten() {
            let OpComparison { operation, shape, by, baseline, times_plain, change } = found;
            let name = format!("{operation} {shape} by {by}");
            let samples = report.results.iter().find(|outcome| outcome.name() == name);
            let samples = samples.map_or(0, |outcome| outcome.ratios.len());
            let values = [*baseline, Some(*times_plain)];
            legend += &format!("\n{}", sentence(&name, values, "times plain", change, samples));
        }
        self.report.print(&json, &rows, 3, &legend)
    }

    fn names(&self) -> Result<Vec<String>, UsageError> {
        let formats = || op_formats().map(|format| format.name.to_ascii_lowercase());
        let ops = OPS.iter().map(ToString::to_string);
        if self.all {
            return Ok(ops.chain(formats()).collect());
        }
        if self.names.is_empty() {
            return Ok(ops.chain(FORMATS.iter().map(ToString::to_string)).collect());
        }
        let known: Vec<String> = ops.chain(formats()).collect();
        let named = |name: &String| {
            let name = name.to_ascii_lowercase();
            if known.contains(&name) { Ok(name) } else { Err(unknown(&name)) }
        };
        self.names.iter().map(named).collect()
    }
}

fn unknown(name: &str) -> UsageError {
    let formats: Vec<String> = op_formats().map(|format| format.name.to_ascii_lowercase()).collect();
    let message = format!("expected one of {}, {}, found `{name}`", OPS.join(", "), formats.join(", "));
    UsageError { message, hint: "for example trine bench ops gemm q4_k" }
}
