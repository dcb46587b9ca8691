//! `trine bench batching`: what answering many requests at once gains.

use crate::exit::Exit;
use crate::machine::MachineArgs;
use crate::report::ReportArgs;
use crate::{interrupt, measure, progress, units};
use anyhow::Result;
use clap::{Args, value_parser};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use trine_lab::bench::{self, Batching as Kind, Workload, median_interval};

/// Measure what answering many requests at once gains
///
/// The same requests are answered one by one, in batches of which each begins when the last is over, and continuously, each when there is room:
/// as `trine serve` does. The three run in turn.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench batching model.gguf\n  \
    trine bench batching model.gguf --load clients=16,requests=64 --output md")]
pub struct Batching {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    model: Option<PathBuf>,
    /// Requests, as for `trine bench --load`; clients is the size of a batch
    #[arg(long, value_name = "NAME=N,...", default_value = "clients=8,prompt=16-64,output=8-64,requests=32")]
    load: Workload,
    /// Number of runs of each
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 6)]
    #[arg(value_parser = value_parser!(u32).range(1..=100))]
    repetitions: u32,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl Batching {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let flow = || if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let path = self.model.clone().map_or_else(|| crate::load::unnamed("", false), Ok)?;
        let mut options = self.machine.options();
        options.stop = Some(stop.clone());
        options.engine.context = Some(self.load.context());
        options.engine.max_sequences = self.load.parallel();
        options.engine.cache_type = self.machine.cache_type;
        let mut engine = options.open_with(&path, &mut |_| flow())?.into_parts().0;
        engine.calibrate()?;
        let kinds = [("none", Kind::None), ("static", Kind::Static), ("continuous", Kind::Continuous)];
        let mut speeds = kinds.map(|_| Vec::new());
        let mut waits = kinds.map(|_| Vec::new());
        let bar = progress::bar("{msg} {bar:30} {pos}/{len} {eta}", u64::from(3 * (self.repetitions + 1)));
        let bar = bar.with_message("answering");
        for run in 0..=self.repetitions {
            for (i, (_, kind)) in kinds.into_iter().enumerate() {
                // Prompts of another run are in no cache.
                let seed = self.load.seed.wrapping_add(u64::from(run) * 3 + i as u64);
                let workload = Workload { seed, ..self.load.clone() };
                let report = bench::load(&mut engine, &workload, kind, &mut |_, _| flow())?;
                bar.inc(1);
                // The first round is to warm up.
                if run > 0 {
                    speeds[i].push(report.output_throughput);
                    waits[i].extend(report.ttft.median_ttft_ms);
                }
            }
        }
        bar.finish_and_clear();
        let mut rows = vec![["batching", "tokens/s", "95 %", "gain", "median TTFT"].map(str::to_owned)];
        let mut results = Vec::new();
        for (i, (name, _)) in kinds.into_iter().enumerate() {
            let Some(speed) = median_interval(&speeds[i]) else { continue };
            let ratios: Vec<f64> = speeds[i].iter().zip(&speeds[0]).map(|(own, none)| own / none).collect();
            let gain = median_interval(&ratios).map(|found| found.median);
            let wait = median_interval(&waits[i]).map(|found| found.median);
            rows.push([
                name.to_owned(),
                units::measured(speed.median),
                units::between(speed.low, speed.high, speed.confidence),
                gain.map_or("-".to_owned(), |gain| format!("{gain:.2}")),
                wait.map_or("-".to_owned(), |wait| format!("{} ms", units::measured(wait))),
            ]);
            results.push(json!({
                "batching": name, "tokens_per_second": speed.median, "low": speed.low, "high": speed.high,
                "confidence": speed.confidence, "gain": gain, "median_ttft_ms": wait,
            }));
        }
        let report = json!({
            "trine": env!("CARGO_PKG_VERSION"), "machine": measure::machine(), "model": path, "workload": self.load, "results": results,
        });
        let legend = "tokens/s: of answers; gain: over none; TTFT: from when a client sends to its first token";
        self.report.print(&report, &rows, 1, legend)?;
        Ok(Exit::Done)
    }
}
