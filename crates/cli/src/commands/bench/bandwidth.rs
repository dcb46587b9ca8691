//! `trine bench bandwidth`: how fast memory is read.

use crate::exit::Exit;
use crate::report::ReportArgs;
use crate::{measure, units};
use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::json;
use trine_kernels::limits::{Meter, Pages};
use trine_lab::bench::{Spread, median_interval};

/// Measure how fast memory is read
///
/// Threads read a buffer that no cache holds, with large pages and with small ones: what bounds the speed of generating one token at a
/// time. On shared machines it changes from minute to minute.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench bandwidth\n  \
    trine bench bandwidth --threads 1,2 --json")]
pub struct Bandwidth {
    /// Numbers of threads [default: 1, 2, 4 and so on, and all cores]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=1024))]
    threads: Vec<u32>,
    /// Number of samples of each
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 9)]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    #[command(flatten)]
    report: ReportArgs,
}

impl Bandwidth {
    pub fn run(self) -> Result<Exit> {
        let machine = measure::machine();
        let threads =
            if self.threads.is_empty() { measure::thread_counts(machine.cores.unwrap_or(1)) } else { self.threads };
        let mut results = Vec::new();
        let mut rows = vec![["threads", "pages", "GB/s", "95 %", "CV"].map(str::to_owned)];
        for threads in threads {
            for pages in [Pages::Huge, Pages::Small] {
                let Some(meter) = Meter::new(threads as usize, &[], pages) else {
                    note!("pages of {}: the system grants none", pages.name());
                    continue;
                };
                let samples: Vec<f64> = (0..self.repetitions).map(|_| meter.sample()).collect();
                let (Some(found), Some(spread)) = (median_interval(&samples), Spread::of(&samples)) else { continue };
                let giga = |speed: f64| units::measured(speed / 1e9);
                rows.push([
                    threads.to_string(),
                    pages.name().to_owned(),
                    giga(found.median),
                    units::between(found.low / 1e9, found.high / 1e9, found.confidence),
                    spread.cv.map_or("-".to_owned(), |cv| format!("{:.1} %", 100.0 * cv)),
                ]);
                results.push(json!({
                    "threads": threads, "pages": pages.name(), "bytes_per_second": found.median, "low": found.low, "high": found.high,
                    "confidence": found.confidence, "spread": spread,
                }));
            }
        }
        let report = json!({ "trine": env!("CARGO_PKG_VERSION"), "machine": machine, "results": results });
        self.report.print(&report, &rows, 2, "95 %: interval of the median; CV: standard deviation over mean")?;
        Ok(Exit::Done)
    }
}
