mod load;
pub mod print;
mod synthetic;

use crate::exit::{Exit, UsageError};
use crate::machine::MachineArgs;
use crate::output::{self, OutputFile};
use crate::profile::{ProfileDepth, Profiling, Work};
use crate::report::{ReportArgs, ReportFormat};
use crate::{interrupt, measure, near, progress, report, table};
use anyhow::{Context, Result};
use clap::{Args, value_parser};
use indicatif::ProgressBar;
pub use load::ItlTarget;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Instant, SystemTime};
use synthetic::Synthetic;
use trine::EMBEDDED;
use trine::Placement;
use trine_backend::profile::Recorder;
use trine_backend::{ActivationPrecision, CacheType};
use trine_engine::EngineOptions;
use trine_kernels::limits::{Meter, Pages, Peaks, peaks};
use trine_lab::bench::{
    self, Against, BenchReport, Budgets, Cost, Description, FOREIGN, Kind, Limits, Outcome, Peer, PeerKind,
    PeerOptions, Rounding, Samples, Subject, Test, Verdict, Versus, Workload,
};
use trine_lab::crossval::{PYTHON, Source};
use trine_tensor::{File, OpenOptions, memory};

/// `trine bench model`: the speed of a model, beside what the machine could do.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    trine bench model model.gguf --batch 1,8\n  \
    trine bench model --shape 1.1b --output md")]
pub struct Model {
    /// Model: a GGUF or safetensors file, or its folder [default: built-in]
    #[arg(conflicts_with = "a")]
    model: Option<PathBuf>,
    /// Model, as without the name of the option
    #[arg(long, value_name = "MODEL", requires = "b", conflicts_with = "shape", hide_short_help = true)]
    a: Option<PathBuf>,
    /// Another model, whose runs alternate with those of the first
    ///
    /// Both are loaded with the same options. The ratio of their speeds is the median over pairs of neighbouring runs.
    #[arg(long, value_name = "MODEL", conflicts_with_all = ["against", "load", "profile", "write_model"])]
    b: Option<PathBuf>,
    /// Count instructions, cycles and cache misses
    ///
    /// By Linux's perf_event_open: of each run, all threads together. Where the machine has no such counters, as most virtual ones, or they may
    /// not be read, a warning says so and the fields are null.
    #[arg(long, conflicts_with = "load", hide_short_help = true)]
    perf_counters: bool,
    /// Print ratios although others took more than 10 % of the CPUs
    #[arg(long, hide_short_help = true)]
    under_load: bool,
    /// Synthetic model of this shape: 2b4t, 1.1b, 7b, 70b, ..., or layers=4,hidden=2048
    ///
    /// Sizes are layers, hidden, heads, kv-heads, head-dim, ffn, vocab and context; those that are not given are Llama 2 7B's, or those of the
    /// name before them: qwen3-8b,layers=2. Heads and ffn grow with hidden. What does not fit into memory is refused before it is written.
    #[arg(long, value_name = "NAME|KEY=N,...", conflicts_with = "model")]
    shape: Option<String>,
    /// Format of the synthetic model, such as q4_k_m, i2_s or f16
    ///
    /// The names are those of llama.cpp's quantizer. The default is i2_s for BitNet, and q4_k_m otherwise.
    #[arg(long, value_name = "NAME", requires = "shape", conflicts_with = "model")]
    format: Option<String>,
    /// Format of its output head [default: q6_k, or the format if that has more bits]
    #[arg(long, value_name = "NAME", requires = "shape", conflicts_with = "model", hide_short_help = true)]
    head: Option<String>,
    /// Write the synthetic model to a file, and measure nothing
    #[arg(long, value_name = "FILE", requires = "shape", hide_short_help = true)]
    #[arg(conflicts_with_all = ["model", "json", "output", "save_baseline", "baseline", "record", "against", "profile"])]
    write_model: Option<PathBuf>,
    /// Prompt lengths in tokens; 0 for none
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "512")]
    prefill: Vec<usize>,
    /// Numbers of tokens to generate; 0 for none
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "64")]
    decode: Vec<usize>,
    /// Numbers of sequences to generate concurrently
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8,16")]
    #[arg(value_parser = value_parser!(u32).range(1..=1024))]
    batch: Vec<u32>,
    /// Number of tokens in the KV cache before each test
    ///
    /// 512 of them are computed, and their keys and values repeated.
    #[arg(long, value_name = "N", default_value_t = 0, hide_short_help = true)]
    depth: usize,
    /// Number of runs of each test
    #[arg(short, long, visible_alias = "iterations", value_name = "N", default_value_t = 6, value_parser = value_parser!(u32).range(1..=100))]
    repetitions: u32,
    /// Number of runs before the first that counts
    ///
    /// With 0, peak memory is unknown.
    #[arg(long, value_name = "N", default_value_t = 1, hide_short_help = true)]
    warmup: u32,
    /// Compare activations as chosen with those of f32, and the KV cache with one of f32, over N tokens; 0 for none
    ///
    /// Reports the KL divergence after each of N tokens of a short story, which is repeated if necessary. Layers whose inputs are
    /// int8 by definition, as in BitNet, have int8 inputs in both. Caches are compared with f32 activations.
    #[arg(long, value_name = "N", default_value_t = 32, hide_short_help = true)]
    kl: usize,
    /// Write a trace for Perfetto or chrome://tracing to a file, and print a summary
    ///
    /// With --load, the trace has a row for each request: when it waited, when its prompt was read, when its answer came.
    #[arg(long, value_name = "FILE", hide_short_help = true)]
    profile: Option<PathBuf>,
    /// Levels of the trace: step, pass, layer, op, or kernel, which has what each thread does
    #[arg(
        long,
        value_name = "LEVEL",
        requires = "profile",
        default_value = "op",
        hide_short_help = true,
        conflicts_with = "load"
    )]
    #[arg(hide_possible_values = true)]
    profile_depth: ProfileDepth,
    /// Answer many requests at once: clients=8,prompt=16-64,output=32,requests=32
    ///
    /// Each client sends a request of random tokens when its last is answered. rate=N sends N per second instead, at random times,
    /// prefix=N lets all prompts begin with the same N tokens, late=N sends a prompt of N tokens when all others generate, and seed=N draws
    /// others. The times are those of `vllm bench serve`.
    #[arg(long, value_name = "NAME=N,...", conflicts_with_all = LOAD_ALONE)]
    load: Option<Workload>,
    /// Number of sequences that --load runs at once [default: clients]
    #[arg(long, value_name = "N", requires = "load", value_parser = value_parser!(u32).range(1..=1024), hide_short_help = true)]
    parallel: Option<u32>,
    /// Maximum number of prompt tokens of --load in one forward pass [default: 512]
    #[arg(long, visible_alias = "prefill-chunk", value_name = "N", requires = "load", hide_short_help = true)]
    #[arg(value_parser = value_parser!(u32).range(1..))]
    ubatch: Option<u32>,
    /// Maximum number of tokens of --load in one forward pass, those of answers included [default: no limit but --ubatch]
    #[arg(long, value_name = "N", requires = "load", value_parser = value_parser!(u32).range(1..), hide_short_help = true)]
    max_batch_tokens: Option<u32>,
    /// Milliseconds that a step may take while a sequence of --load generates, or off
    #[arg(long, value_name = "MS", requires = "load", default_value = "250", hide_short_help = true)]
    itl_target: ItlTarget,
    #[command(flatten)]
    report: ReportArgs,
    /// Save the results to a file, for --baseline
    #[arg(long, value_name = "FILE")]
    save_baseline: Option<PathBuf>,
    /// Compare with saved results
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Check limits of speed, memory and time, and take the thresholds of regressions from a file
    ///
    /// TOML: threshold, load_seconds, first_token_seconds, peak_memory_bytes, and for a test as [tests.tg64] threshold, tokens_per_second, p95_ms and
    /// p99_ms. The exit status is 4 if a limit is not kept, and 6 if that is not known.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["load", "write_model"])]
    budgets: Option<PathBuf>,
    /// Append the results to trine/bench.jsonl in the user's data folder
    #[arg(long, hide_short_help = true)]
    record: bool,
    /// Compare with another program: xllamacpp, a Python that has it, or llama.cpp's llama-bench
    ///
    /// It runs the same file, alternating with trine, with as many threads and the same format of the KV cache. With xllamacpp, the
    /// times to load the file and until the first token are printed for both.
    #[arg(long, value_name = "PROGRAM", value_parser = peer)]
    against: Option<PeerKind>,
    /// Python interpreter that has xllamacpp
    #[arg(long, value_name = "FILE", default_value = PYTHON, requires = "against", hide_short_help = true)]
    python: PathBuf,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What --load does not measure.
const LOAD_ALONE: [&str; 11] = [
    "prefill",
    "decode",
    "batch",
    "depth",
    "repetitions",
    "warmup",
    "kl",
    "save_baseline",
    "baseline",
    "record",
    "against",
];

/// As `trine crossval` reads its reference: a Python, or any program of llama.cpp for the one beside it.
fn peer(text: &str) -> Result<PeerKind, String> {
    match (text.split_once('='), Source::of(text)) {
        (Some(("llama-bench", path)), _) if !path.is_empty() => Ok(PeerKind::LlamaBench { program: path.into() }),
        (None, Source::Python(python)) => Ok(PeerKind::Xllamacpp { python }),
        (None, Source::Server(server)) if text.contains("llama") => {
            let name = format!("llama-bench{}", std::env::consts::EXE_SUFFIX);
            Ok(PeerKind::LlamaBench { program: server.with_file_name(name) })
        }
        _ => Err(format!("expected xllamacpp, a Python that has it, llama-bench or llama-bench=PATH, found `{text}`")),
    }
}

impl Model {
    pub fn run(self) -> Result<Exit> {
        let refuse = |message: &str, hint| Err(UsageError { message: message.to_owned(), hint }.into());
        if self.under_load && self.b.is_none() && self.against.is_none() {
            return refuse("--under-load: expected a ratio to tell, found one model", "add --b or --against");
        }
        if self.load.is_some() && matches!(self.report.format(), ReportFormat::Markdown | ReportFormat::Csv) {
            return refuse("--output: a report of --load is text or JSON", "omit --output, or pass --json");
        }
        let stop = interrupt::flag()?;
        let shape =
            self.shape.as_deref().map(|shape| Synthetic::new(shape, self.format.as_deref(), self.head.as_deref()));
        let synthetic = shape.transpose()?;
        let synthetic = synthetic.as_ref();
        if let (Some(synthetic), Some(path)) = (synthetic, &self.write_model) {
            output::check_new(path, false, "choose another name, or delete it")?;
            synthetic.write(path, &stop)?;
            writeln!(std::io::stdout(), "{}: {synthetic}", path.display())?;
            return Ok(Exit::Done);
        }
        if let Some(workload) = &self.load {
            return self.run_load(workload, &self.path(synthetic, &stop)?, synthetic, &stop);
        }
        let tests = self.tests()?;
        let budgets = self.budgets.as_deref().map(Budgets::read).transpose()?.unwrap_or_default();
        let then = self.baseline.as_deref().map(bench::read).transpose()?;
        if let (Some(then), Some(path)) = (&then, &self.baseline) {
            bench::expect(then, &tests, path)?;
        }
        let path = self.path(synthetic, &stop)?;
        if self.against.is_some() && path == Path::new(EMBEDDED) {
            let message = format!("--against: expected a model file, found {EMBEDDED}");
            let hint = "`trine quantize embedded:stories FILE --format tq2_0` writes one";
            return Err(UsageError { message, hint }.into());
        }
        let profiling = |file| Profiling::new(file, self.profile_depth, Work::Engine, &path);
        let profile = self.profile.as_deref().map(profiling).transpose()?;
        let save = |file| {
            output::check_kind(file, r#"{"trine":"#).map_err(Into::into).and_then(|()| OutputFile::new(file, &path))
        };
        let save = self.save_baseline.as_deref().map(save).transpose()?;
        let recorder = profile.as_ref().map(|profile| &profile.recorder);
        let report = self.measure(&path, synthetic, &tests, &stop, recorder)?;
        let comparisons = match (&then, &self.baseline) {
            (Some(then), Some(path)) => Some(bench::compare(&report, then, path, &budgets)?),
            _ => None,
        };
        let spent = self.budgets.as_deref().map(|path| budgets.check(&report, path)).transpose()?;
        let mut out = std::io::stdout().lock();
        let line = serde_json::to_string(&report)?;
        match self.report.format() {
            ReportFormat::Json => {
                let mut json = serde_json::to_value(&report)?;
                json["baseline"] = serde_json::to_value(&comparisons)?;
                json["budgets"] = serde_json::to_value(&spent)?;
                writeln!(out, "{json}")?;
            }
            ReportFormat::Csv => {
                let rows = report.results.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
                writeln!(out, "{}", table::csv(&rows))?;
            }
            form => print::report(&report, comparisons.as_deref(), spent.as_deref(), form, &mut out)?,
        }
        if let Some(save) = save {
            save.write(|out| writeln!(out, "{line}"))?;
            for outcome in &report.results {
                if let Some(share) = outcome.foreign().filter(|share| *share > FOREIGN) {
                    let share = 100.0 * share;
                    note!(
                        "warning: {}: others took {share:.0} % of the CPUs: save a baseline on a quiet machine",
                        outcome.test
                    );
                }
            }
        }
        if self.record {
            let path = record(&line)?;
            note!("appended to {}", path.display());
        }
        if let Some(profile) = profile {
            profile.finish(false)?;
        }
        let verdicts: Vec<Verdict> = comparisons.iter().flatten().map(|comparison| comparison.change.verdict).collect();
        let kept: Vec<Option<bool>> = spent.iter().flatten().map(|spent| spent.kept).collect();
        Ok(if verdicts.contains(&Verdict::Regression) || kept.contains(&Some(false)) {
            Exit::Regression
        } else if verdicts.iter().any(|verdict| verdict.is_open()) || kept.contains(&None) {
            Exit::CannotTell
        } else {
            Exit::Done
        })
    }

    /// The model's file. That of a synthetic model is written if it is not there.
    fn path(&self, synthetic: Option<&Synthetic>, stop: &AtomicBool) -> Result<PathBuf> {
        let path = match synthetic {
            None => {
                let named = self.model.clone().or_else(|| self.a.clone());
                named.map_or_else(|| crate::load::unnamed("", false), Ok)?
            }
            Some(synthetic) => synthetic.path(stop)?,
        };
        let is_word = path.extension().is_none() && path.components().count() == 1 && path != Path::new(EMBEDDED);
        if is_word && !path.exists() {
            let word = path.display().to_string();
            let parts = super::parts();
            let part = near::best(&word, parts.iter().map(String::as_str));
            let part = part.map_or(String::new(), |part| format!(", did you mean {part}?"));
            let message = format!("expected a model file or its folder, found the word `{word}`{part}");
            let hint = "--shape NAME measures a synthetic model; `trine bench --help` lists what else is measured";
            return Err(UsageError { message, hint }.into());
        }
        Ok(path)
    }

    fn tests(&self) -> Result<Vec<Test>> {
        let test = |kind, tokens: usize, sequences| Test { kind, tokens, sequences, depth: self.depth };
        let prefill = self.prefill.iter().map(|&tokens| test(Kind::Prefill, tokens, 1));
        let decode = |&tokens: &usize| self.batch.iter().map(move |&n| test(Kind::Decode, tokens, n as usize));
        let all = prefill.chain(self.decode.iter().flat_map(decode));
        let mut tests = Vec::new();
        for test in all.filter(|test| test.tokens > 0) {
            if !tests.contains(&test) {
                tests.push(test);
            }
        }
        if tests.is_empty() {
            let message = "expected a test, found none".to_owned();
            return Err(UsageError { message, hint: "pass --prefill or --decode" }.into());
        }
        Ok(tests)
    }

    /// Loads the model of `--b`.
    fn other(&self, path: &Path, engine: &EngineOptions, stop: &Arc<AtomicBool>) -> Result<Other> {
        let flow = || if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let mut options = self.machine.options();
        options.stop = Some(stop.clone());
        let start = Instant::now();
        let mut runner = options.load(path, &mut |_| flow())?.into_parts().0;
        let load_seconds = start.elapsed().as_secs_f64();
        let mut trine = bench::Trine::new(&mut *runner, &[], engine, &flow)?;
        trine.first_token()?;
        trine.release();
        Ok(Other { runner, load_seconds, first_token_seconds: start.elapsed().as_secs_f64() })
    }

    /// Loads the model and runs the tests.
    fn measure(
        &self,
        path: &Path,
        synthetic: Option<&Synthetic>,
        tests: &[Test],
        stop: &Arc<AtomicBool>,
        recorder: Option<&Recorder>,
    ) -> Result<BenchReport> {
        let flow = || if stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let mut options = self.machine.options();
        options.device.profile = recorder.cloned();
        options.stop = Some(stop.clone());
        // Loading may bind this thread to a CPU, and then it sees no other.
        let machine = measure::machine();
        // They count in threads that are started after them.
        let counters = self.perf_counters.then(bench::Counters::open).transpose();
        if let Err(error) = &counters {
            note!("warning: the CPU's performance counters are unavailable: {error}");
            note!(
                "hint: virtual machines seldom have them; elsewhere sudo sysctl kernel.perf_event_paranoid=2 lets every user read them"
            );
        }
        let mut counters = counters.ok().flatten();
        let start = Instant::now();
        let decoder = options.load(path, &mut |_| flow())?;
        decoder.warnings().iter().for_each(|warning| note!("warning: {}", table::visible(warning)));
        let load_seconds = start.elapsed().as_secs_f64();
        let placement = decoder.placement().clone();
        let story = decoder.tokens(bench::TEXT);
        let (mut runner, _) = decoder.into_parts();
        let engine = EngineOptions { cache_type: self.machine.cache_type, ..EngineOptions::default() };
        let mut trine = bench::Trine::new(&mut *runner, &[], &engine, &flow)?;
        trine.first_token()?;
        trine.release();
        let first_token_seconds = start.elapsed().as_secs_f64();

        let Placement { threads, threads_batch, isa, .. } = placement;
        let options = PeerOptions { threads, threads_batch, cache_type: engine.cache_type };
        let kind = self.against.clone().map(|kind| match kind {
            PeerKind::Xllamacpp { python } if python == Path::new(PYTHON) => {
                PeerKind::Xllamacpp { python: self.python.clone() }
            }
            kind => kind,
        });
        let mut peer = kind.map(|kind| Peer::start(kind, path, options, tests)).transpose()?;
        let mut other = self.b.as_deref().map(|path| self.other(path, &engine, stop)).transpose()?;
        let mut trine = bench::Trine::new(&mut *runner, tests, &engine, &flow)?.with_counters(counters.as_mut());
        let second = other.as_mut().map(|other| bench::Trine::new(&mut *other.runner, tests, &engine, &flow));
        let mut second = second.transpose()?;
        let bar = bar("warming up", tests.len() * self.warmup as usize);
        for _ in 0..self.warmup {
            for &test in tests {
                trine.run(test)?;
                second.as_mut().map(|second| second.run(test)).transpose()?;
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        // The measurements below allocate memory of their own.
        let peak_memory_bytes = if self.warmup > 0 { memory::peak_resident() } else { None };

        // What a CPU can do says nothing about another device.
        let instructions = if placement.device == "cpu" { Some(trine_kernels::table(isa)?) } else { None };
        let peaks = |threads| match flow() {
            ControlFlow::Continue(()) => Ok(instructions.map(|table| peaks(table, threads, &placement.cpus))),
            ControlFlow::Break(()) => Err(bench::Error::Cancelled),
        };
        let measure_peaks = || -> Result<[Option<Peaks>; 2], bench::Error> {
            let one = peaks(threads)?;
            Ok([one, if threads_batch == threads { one } else { peaks(threads_batch)? }])
        };
        let before = measure_peaks()?;
        let found = |pages| Meter::new(threads, &placement.cpus, pages).map(|meter| (meter, pages));
        let meter = instructions.and_then(|_| found(Pages::Huge).or_else(|| found(Pages::Small)));
        let mut bandwidths = Vec::new();
        // The profile covers the runs only.
        let mut bandwidth = || {
            recorder.inspect(|recorder| recorder.stop());
            let speed = meter.as_ref().map(|(meter, _)| meter.sample());
            recorder.inspect(|recorder| recorder.start());
            let speed = speed?;
            bandwidths.push(speed);
            Some(speed)
        };
        let mut subjects: Vec<&mut dyn Subject> = vec![&mut trine];
        subjects.extend(peer.as_mut().map(|peer| peer as &mut dyn Subject));
        subjects.extend(second.as_mut().map(|second| second as &mut dyn Subject));
        let bar = self::bar("measuring", 0);
        let mut samples =
            bench::measure(&mut subjects, tests, self.repetitions as usize, &mut bandwidth, &mut |done, total| {
                bar.set_length(total as u64);
                bar.set_position(done as u64);
                flow()
            })?;
        recorder.inspect(|recorder| recorder.stop());
        let temperature = bench::temperature();
        trine.release();
        second.into_iter().for_each(bench::Trine::release);
        bar.finish_and_clear();
        // What disturbed one of the two measurements need not have disturbed the runs.
        let [one, batch] = {
            let after = measure_peaks()?;
            [0, 1].map(|i| before[i].zip(after[i]).map(|(a, b)| a.max(b)))
        };
        let ids: Vec<u32> = story.into_iter().cycle().take(self.kl.min(runner.spec().context_length)).collect();
        let mut compare = |what: &'static str, roundings: [(ActivationPrecision, CacheType); 2]| {
            if ids.is_empty() {
                return Ok(None);
            }
            let bar = self::bar(what, ids.len());
            let roundings = roundings.map(|(activations, cache_type)| Rounding { activations, cache_type });
            let kl = bench::kl(&mut *runner, &ids, roundings, &mut |done, _| {
                bar.set_position(done as u64);
                flow()
            });
            bar.finish_and_clear();
            kl.map(Some)
        };
        let (exact, cache_type) = (ActivationPrecision::F32, engine.cache_type);
        let activations = self.machine.activations;
        let kl = if activations == exact {
            None
        } else {
            compare("comparing activations", [(exact, cache_type), (activations, cache_type)])?
        };
        let cache_kl = if cache_type == CacheType::F32 {
            None
        } else {
            compare("comparing KV caches", [(exact, CacheType::F32), (exact, cache_type)])?
        };

        let limits = Limits {
            bandwidth: bench::median_interval(&bandwidths).map(|interval| interval.median),
            pages: meter.map(|(_, pages)| pages.name().to_owned()),
            int8: one.map(|peaks| peaks.int8),
            f32: one.map(|peaks| peaks.f32),
            bf16: one.and_then(|peaks| peaks.bf16),
            int8_batch: batch.map(|peaks| peaks.int8),
            f32_batch: batch.map(|peaks| peaks.f32),
            bf16_batch: batch.and_then(|peaks| peaks.bf16),
        };
        let file = trine::open_file(path, &OpenOptions::default())?;
        let cost = Cost::of(&file, &*runner, &engine, activations);
        let theirs = samples.drain(1..).next();
        let ours = samples.swap_remove(0);
        let foreign = if self.under_load { f64::INFINITY } else { FOREIGN };
        let versus = |theirs: &[Samples]| {
            (0..tests.len()).filter_map(|i| Versus::of(tests[i], &ours[i], &theirs[i], foreign)).collect()
        };
        let against = theirs.map(|theirs| match (&peer, &other) {
            (Some(peer), _) => Against {
                peer: peer.name().to_owned(),
                version: peer.version.clone(),
                load_seconds: peer.load_seconds,
                first_token_seconds: peer.first_token_seconds,
                results: versus(&theirs),
            },
            (None, other) => Against {
                peer: self.b.as_ref().map_or_else(String::new, |path| path.display().to_string()),
                version: None,
                load_seconds: other.as_ref().map(|other| other.load_seconds),
                first_token_seconds: other.as_ref().map(|other| other.first_token_seconds),
                results: versus(&theirs),
            },
        });
        let outcome = |(&test, samples): (&Test, _)| {
            let threads = if test.is_batch() { threads_batch } else { threads };
            Some(Outcome::of(test, samples, cost.as_ref(), &limits)?.over(threads, peak_memory_bytes))
        };
        Ok(BenchReport {
            trine: env!("CARGO_PKG_VERSION").to_owned(),
            commit: report::commit(),
            command: Some(report::command()),
            time: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok().map(|time| time.as_secs()),
            machine,
            subject: describe(&file, runner.spec().arch.name(), synthetic),
            threads,
            threads_batch,
            isa: isa.to_owned(),
            cache_type: engine.cache_type.to_string(),
            activations: activations.to_string(),
            weights_in: placement.weights.to_string(),
            huge_bytes: placement.huge_bytes,
            load_seconds: Some(load_seconds),
            first_token_seconds: Some(first_token_seconds),
            peak_memory_bytes,
            temperature,
            gpu_utilization: None,
            kl,
            cache_kl,
            results: tests.iter().zip(ours).filter_map(outcome).collect(),
            limits,
            against,
        })
    }
}

/// The model of `--b`.
struct Other {
    runner: Box<dyn trine_model::Runner>,
    load_seconds: f64,
    first_token_seconds: f64,
}

fn describe(file: &File, architecture: &str, synthetic: Option<&Synthetic>) -> Description {
    let mut formats: Vec<(&str, u64)> = Vec::new();
    for view in file.tensors() {
        match formats.iter_mut().find(|(name, _)| *name == view.format.name) {
            Some((_, bytes)) => *bytes += view.bytes.len() as u64,
            None => formats.push((view.format.name, view.bytes.len() as u64)),
        }
    }
    let most = formats.iter().max_by_key(|(_, bytes)| *bytes).map_or("", |(name, _)| name);
    Description {
        model: file.path().display().to_string(),
        shape: synthetic.map(|synthetic| synthetic.shape.name.to_string()),
        format: synthetic.map_or_else(|| most.to_lowercase(), |synthetic| synthetic.mixture.name()),
        architecture: architecture.to_owned(),
        parameters: trine::parameters(file),
        weights_bytes: trine::tensor_bytes(file),
    }
}

/// The file of this machine's record.
pub fn record_path() -> Result<PathBuf> {
    Ok(dirs::data_dir().context("expected a data folder of the user, found none")?.join("trine").join("bench.jsonl"))
}

/// Appends a line to this machine's record.
fn record(line: &str) -> Result<PathBuf> {
    let path = record_path()?;
    let append = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{line}\n").as_bytes())
    };
    append().with_context(|| path.display().to_string())?;
    Ok(path)
}

/// A progress bar over runs.
fn bar(verb: &'static str, total: usize) -> ProgressBar {
    progress::bar("{msg} {bar:30} {pos}/{len} {eta}", total as u64).with_message(verb)
}
