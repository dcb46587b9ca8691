//! `trine bench scaling`: how speed grows with threads.

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
use trine_engine::EngineOptions;
use trine_lab::bench::{self, Kind, Subject, Test, median_interval};

/// Measure how the speed of a model grows with threads
///
/// The model is loaded once for each number of threads, and they run in turn. Efficiency is the speed over that of one thread and the number of
/// threads: generating one token at a time stops growing where memory gives no more.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench scaling model.gguf\n  \
    trine bench scaling model.gguf --counts 1,2,4 --output md")]
pub struct Scaling {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    model: Option<PathBuf>,
    /// Numbers of threads [default: 1, 2, 4 and so on, and all cores]
    #[arg(long, value_name = "N,...", value_delimiter = ',', value_parser = value_parser!(u32).range(1..=1024))]
    counts: Vec<u32>,
    /// Prompt length in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    prefill: usize,
    /// Number of tokens to generate
    #[arg(long, value_name = "N", default_value_t = 64)]
    decode: usize,
    /// Number of runs of each test
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 6)]
    #[arg(value_parser = value_parser!(u32).range(1..=100))]
    repetitions: u32,
    #[command(flatten)]
    report: ReportArgs,
    #[command(flatten)]
    machine: MachineArgs,
}

impl Scaling {
    pub fn run(self) -> Result<Exit> {
        let stop = interrupt::flag()?;
        let flow = || if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let path = self.model.clone().map_or_else(|| crate::load::unnamed("", false), Ok)?;
        let machine = measure::machine();
        let counts = if self.counts.is_empty() {
            measure::thread_counts(machine.cores.unwrap_or(1))
        } else {
            self.counts.clone()
        };
        let test = |kind, tokens| Test { kind, tokens, sequences: 1, depth: 0 };
        let tests = [test(Kind::Prefill, self.prefill), test(Kind::Decode, self.decode)];
        let tests: Vec<Test> = tests.into_iter().filter(|test| test.tokens > 0).collect();
        let engine = EngineOptions { cache_type: self.machine.cache_type, ..EngineOptions::default() };
        let mut runners = Vec::new();
        for &threads in &counts {
            let mut options = self.machine.options();
            options.stop = Some(stop.clone());
            options.device.cpu.threads = threads as usize;
            options.device.cpu.threads_batch = None;
            runners.push(options.load(&path, &mut |_| flow())?.into_parts().0);
        }
        let mut subjects = Vec::new();
        for runner in &mut runners {
            let mut trine = bench::Trine::new(&mut **runner, &tests, &engine, &flow)?;
            tests.iter().try_for_each(|&test| trine.run(test).map(drop))?;
            subjects.push(trine);
        }
        let mut turns: Vec<&mut dyn Subject> = subjects.iter_mut().map(|trine| trine as &mut dyn Subject).collect();
        let bar = progress::bar("{msg} {bar:30} {pos}/{len} {eta}", 0).with_message("measuring");
        let samples =
            bench::measure(&mut turns, &tests, self.repetitions as usize, &mut || None, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                flow()
            })?;
        bar.finish_and_clear();
        subjects.into_iter().for_each(bench::Trine::release);

        let mut rows = vec![["test", "threads", "tokens/s", "95 %", "speedup", "efficiency", "CPU"].map(str::to_owned)];
        let mut results = Vec::new();
        for (t, test) in tests.iter().enumerate() {
            let seconds = |s: usize| samples[s][t].kept.iter().map(|run| run.seconds).collect::<Vec<_>>();
            let first = seconds(0);
            for (s, &threads) in counts.iter().enumerate() {
                let own = seconds(s);
                let speeds: Vec<f64> = own.iter().map(|seconds| test.total() as f64 / seconds).collect();
                let Some(speed) = median_interval(&speeds) else { continue };
                let ratios: Vec<f64> = first.iter().zip(&own).map(|(first, own)| first / own).collect();
                let speedup = median_interval(&ratios).map(|found| found.median);
                let grown = f64::from(threads) / f64::from(counts[0]);
                let efficiency = speedup.map(|speedup| speedup / grown);
                let cpus: Option<Vec<f64>> = samples[s][t].kept.iter().map(|run| run.cpu).collect();
                let cpu = cpus.and_then(|cpus| median_interval(&cpus)).map(|found| found.median);
                rows.push([
                    test.to_string(),
                    threads.to_string(),
                    units::measured(speed.median),
                    units::between(speed.low, speed.high, speed.confidence),
                    speedup.map_or("-".to_owned(), |speedup| format!("{speedup:.2}")),
                    efficiency.map_or("-".to_owned(), |efficiency| format!("{:.0} %", 100.0 * efficiency)),
                    cpu.map_or("-".to_owned(), |cpu| format!("{cpu:.2}")),
                ]);
                results.push(json!({
                    "test": test.to_string(), "threads": threads, "tokens_per_second": speed.median, "low": speed.low,
                    "high": speed.high, "confidence": speed.confidence, "speedup": speedup, "efficiency": efficiency, "cpu": cpu,
                }));
            }
        }
        let report = json!({
            "trine": env!("CARGO_PKG_VERSION"), "machine": machine, "model": path, "results": results,
        });
        let legend = "speedup: over the first row, median of runs in turn; efficiency: over as many times its threads; CPU: CPU time over wall time";
        self.report.print(&report, &rows, 2, legend)?;
        Ok(Exit::Done)
    }
}
