//! `trine bench ops`: single operations, by each instruction set.

use crate::exit::{Exit, UsageError};
use crate::report::ReportArgs;
use crate::{interrupt, measure, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::json;
use std::hint::black_box;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use trine_kernels::{Table, tables};
use trine_lab::bench::{OPS, OpCase, OpSizes, median_interval, op_formats};

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
    #[command(flatten)]
    report: ReportArgs,
}

fn side(text: &str) -> Result<usize, String> {
    let fits = |side: &usize| side.is_multiple_of(256) && (256..=16384).contains(side);
    text.parse().ok().filter(fits).ok_or_else(|| "expected a multiple of 256 up to 16384".to_owned())
}

impl Ops {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let names = self.names()?;
        let tables: Vec<&Table> = tables().collect();
        let cases: Vec<(&str, usize)> = names
            .iter()
            .flat_map(|name| {
                let once = OPS.contains(&name.as_str());
                let tokens = if once { &self.tokens[..1] } else { &self.tokens };
                tokens.iter().map(move |&tokens| (name.as_str(), tokens as usize))
            })
            .collect();
        let bar = progress::bar("{msg} {bar:30} {pos}/{len} {eta}", cases.len() as u64).with_message("measuring");
        let mut results = Vec::new();
        let mut rows = vec![["operation", "shape", "by", "ms", "95 %", "G/s", "times plain"].map(str::to_owned)];
        for (name, tokens) in cases {
            let numbers = (1usize << 20).next_multiple_of(self.side);
            let sizes = OpSizes { side: self.side, gemm_rows: self.gemm_rows as usize, tokens, numbers };
            let Some(mut case) = OpCase::new(name, sizes, &tables, self.threads as usize)? else {
                return Err(unknown(name).into());
            };
            let bits = |out: &[f32]| out.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
            let first = bits(case.run(0));
            let same: Vec<bool> = (0..tables.len()).map(|table| bits(case.run(table)) == first).collect();
            // All run in turn; the last is plain Rust.
            let mut times = vec![Vec::new(); tables.len() + 1];
            for _ in 0..self.repetitions {
                for (i, times) in times.iter_mut().enumerate() {
                    if stop.load(Relaxed) {
                        return Err(trine_lab::bench::Error::Cancelled.into());
                    }
                    let (start, mut runs) = (Instant::now(), 0);
                    while runs == 0 || start.elapsed() < RUN {
                        black_box(if i < tables.len() { case.run(i) } else { case.run_plain() });
                        runs += 1;
                    }
                    times.push(start.elapsed().as_secs_f64() / f64::from(runs));
                }
            }
            let plain = times[tables.len()].clone();
            let by = tables.iter().map(|table| table.name).chain(["plain Rust"]);
            for (i, (by, times)) in by.zip(&times).enumerate() {
                let found = median_interval(times).expect("one run at least");
                let ratios: Vec<f64> = plain.iter().zip(times).map(|(plain, time)| plain / time).collect();
                let ratio = median_interval(&ratios).expect("one run at least");
                let same = same.get(i).copied();
                rows.push([
                    case.name.clone(),
                    case.shape.clone(),
                    format!("{by}{}", if same == Some(false) { ", OTHER BITS" } else { "" }),
                    units::measured(1e3 * found.median),
                    units::between(1e3 * found.low, 1e3 * found.high, found.confidence),
                    units::measured(case.work / found.median / 1e9),
                    units::measured(ratio.median),
                ]);
                results.push(json!({
                    "operation": case.name, "shape": case.shape, "by": by, "seconds": found.median, "low": found.low, "high": found.high,
                    "confidence": found.confidence, "per_second": case.work / found.median, "times_plain": ratio.median, "same_bits": same,
                }));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let differ = results.iter().any(|result| result["same_bits"] == false);
        let report = json!({
            "trine": env!("CARGO_PKG_VERSION"), "machine": measure::machine(), "threads": self.threads, "results": results,
        });
        let legend = "G/s: 1e9 multiplications and additions of products, 1e9 numbers of the others, per second; 95 %: interval of the median";
        self.report.print(&report, &rows, 3, legend)?;
        Ok(if differ { Exit::Work } else { Exit::Done })
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
