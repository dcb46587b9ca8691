//! `trine bench quantize`: how fast weights are encoded.

use crate::exit::{Exit, UsageError};
use crate::report::ReportArgs;
use crate::{measure, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::{Value, json};
use std::time::Instant;
use trine_kernels::tables;
use trine_lab::bench::median_interval;
use trine_tensor::{FORMATS, Format, format};

/// Columns of the matrix that is encoded.
const COLS: usize = 2048;
/// Its weights.
const WEIGHTS: usize = 1 << 18;

/// Measure how fast weights are encoded in each format
///
/// One thread encodes a matrix of Gaussian weights, without and with the importance of its columns, by each instruction set of this CPU. All write
/// the same bytes, which is checked.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench quantize\n  \
    trine bench quantize q4_k iq2_xs --output md")]
pub struct Quantize {
    /// Formats [default: all]
    formats: Vec<String>,
    /// All formats, as without names
    #[arg(long, conflicts_with = "formats")]
    all: bool,
    /// Number of runs of each
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 5)]
    #[arg(value_parser = value_parser!(u32).range(1..=1000))]
    repetitions: u32,
    #[command(flatten)]
    report: ReportArgs,
}

impl Quantize {
    pub fn run(self) -> Result<Exit> {
        let formats: Vec<&'static Format> = match self.formats.is_empty() {
            true => FORMATS.iter().copied().filter(|format| is_encoded(format)).collect(),
            false => self.formats.iter().map(|name| named(name)).collect::<Result<_, _>>()?,
        };
        let mut random = fastrand::Rng::with_seed(1);
        let weights: Vec<f32> = (0..WEIGHTS).map(|_| gaussian(&mut random) * 0.02).collect();
        let importance: Vec<f32> = (0..COLS).map(|_| gaussian(&mut random).powi(2) + 0.1).collect();
        let bar = progress::bar("{msg} {bar:30} {pos}/{len} {eta}", formats.len() as u64).with_message("encoding");
        let mut results = Vec::new();
        let mut rows =
            vec![["format", "instructions", "M weights/s", "95 %", "with importance", "95 %"].map(str::to_owned)];
        for format in formats {
            let mut first: Option<[Vec<u8>; 2]> = None;
            for table in tables() {
                // A ternary format holds ternary weights.
                let trits: Vec<f32> = match format.ternary {
                    true => weights.iter().map(|weight| (weight / 0.02).round().clamp(-1.0, 1.0) * 0.5).collect(),
                    false => Vec::new(),
                };
                let weights = if format.ternary { &trits } else { &weights };
                let mut out =
                    vec![0; format.size((WEIGHTS / COLS) as u64, COLS as u64).expect("whole blocks") as usize];
                let stride = format.row_bytes(COLS).expect("whole blocks");
                let mut speeds = [Vec::new(), Vec::new()];
                let mut bytes = [Vec::new(), Vec::new()];
                for _ in 0..=self.repetitions {
                    for (i, importance) in [None, Some(&importance[..])].into_iter().enumerate() {
                        let start = Instant::now();
                        if format.head() == 0 {
                            table.encode(format, weights, importance, &mut out);
                        } else {
                            let rows = weights.chunks_exact(COLS).zip(out.chunks_exact_mut(stride));
                            rows.for_each(|(row, out)| table.encode(format, row, importance, out));
                        }
                        speeds[i].push(WEIGHTS as f64 / start.elapsed().as_secs_f64());
                        bytes[i].clone_from(&out);
                    }
                }
                let same = first.get_or_insert_with(|| bytes.clone()) == &bytes;
                // The first run meets cold caches.
                let found = speeds.map(|speeds| median_interval(&speeds[1..]).expect("one run at least"));
                let millions = |speed: f64| units::measured(speed / 1e6);
                let between = |i: usize| units::between(found[i].low / 1e6, found[i].high / 1e6, found[i].confidence);
                rows.push([
                    format.name.to_owned(),
                    format!("{}{}", table.name, if same { "" } else { ", OTHER BYTES" }),
                    millions(found[0].median),
                    between(0),
                    millions(found[1].median),
                    between(1),
                ]);
                let speed = |i: usize| json!({ "weights_per_second": found[i].median, "low": found[i].low, "high": found[i].high });
                results.push(json!({
                    "format": format.name, "isa": table.name, "plain": speed(0), "with_importance": speed(1), "same_bytes": same,
                    "confidence": found[0].confidence,
                }));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let differ = results.iter().any(|result: &Value| result["same_bytes"] == false);
        let report = json!({ "trine": env!("CARGO_PKG_VERSION"), "machine": measure::machine(), "results": results });
        self.report.print(&report, &rows, 2, "one thread; 95 %: interval of the median")?;
        Ok(if differ { Exit::Work } else { Exit::Done })
    }
}

/// Whether rows are encoded one by one, and more is done than to round floats.
fn is_encoded(format: &Format) -> bool {
    format.weights && format.block > 1 && format.matrix_layout().is_none()
}

fn named(name: &str) -> Result<&'static Format, UsageError> {
    let unknown = || {
        let known: Vec<&str> = FORMATS.iter().filter(|format| is_encoded(format)).map(|format| format.name).collect();
        let message = format!("expected one of {}, found `{name}`", known.join(", ").to_lowercase());
        UsageError { message, hint: "for example trine bench quantize q4_k" }
    };
    format::by_name(name).filter(|format| is_encoded(format)).ok_or_else(unknown)
}

/// A number of the normal distribution, nearly: the sum of twelve even ones.
fn gaussian(random: &mut fastrand::Rng) -> f32 {
    (0..12).map(|_| random.f32()).sum::<f32>() - 6.0
}
