//! Which options of the machine are fastest for a model: measured one after the other, each with the best of those before it.

use crate::bench::{Error, Kind, Subject, Test, Trine, median_interval};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use trine_backend::{CacheType, When};
use trine_engine::EngineOptions;
use trine_model::{DeviceOptions, ModelOptions};
use trine_tensor::File;

/// Tokens of a decode and of a prompt that are measured.
const DECODED: usize = 16;
const PROMPT: usize = 256;
/// Runs of each, of which the median counts.
const RUNS: usize = 5;
/// How much faster something must be to be worth it: less is what a machine differs by from minute to minute.
const WORTH: f64 = 1.03;
/// How much faster more sequences must be together: each of them waits for the others, and needs a cache of its own.
const KNEE: f64 = 1.1;
/// Tokens before those that types of the cache are measured with.
const DEPTH: usize = 2048;

/// What to try.
#[derive(Clone)]
pub struct TuneOptions {
    /// The device, and all that is not tuned.
    pub device: DeviceOptions,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Numbers of prompt tokens of a forward pass.
    pub chunks: Vec<usize>,
    /// Numbers of sequences at once, the fewest first.
    pub sequences: Vec<usize>,
    /// Whether memory suffices for a copy of the weights, in huge pages or repacked.
    pub copies: bool,
    /// Types of the KV cache. None is chosen, since they change answers; all else is measured with the first.
    pub cache_types: Vec<CacheType>,
    /// When this is over, what was not measured yet is left out. Measuring one option takes a tenth of it at most, but for one run.
    pub time: Duration,
    /// Ends the work when it is set.
    pub stop: Arc<AtomicBool>,
}

/// An option with a value, and how fast the model is with it, in tokens per second.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Trial {
    /// As the command line names it.
    pub option: &'static str,
    pub value: String,
    /// Where it matters. Of several sequences, all together.
    pub decode: Option<f64>,
    pub prompt: Option<f64>,
    /// Whether it is the best value of the option.
    pub chosen: bool,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TuneReport {
    pub trials: Vec<Trial>,
    /// Options that were not measured, because the time was over.
    pub left_out: Vec<&'static str>,
    /// Tokens per second with what was chosen last.
    pub decode: Option<f64>,
    pub prompt: Option<f64>,
    pub seconds: f64,
}

impl TuneReport {
    /// The best values of the options, by name.
    pub fn chosen(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.trials.iter().filter(|trial| trial.chosen).map(|trial| (trial.option, &*trial.value))
    }
}

/// Measures the options of the machine for a model. `progress` gets what is being measured, and may break off.
///
/// # Errors
/// When the model does not load, a pass fails, or `progress` breaks off.
pub fn tune(
    file: &File,
    options: &TuneOptions,
    progress: &mut dyn FnMut(&str) -> ControlFlow<()>,
) -> Result<TuneReport, Error> {
    let begin = Instant::now();
    let mut tuner = Tuner { file, options, begin, trials: Vec::new(), left_out: Vec::new(), progress };
    let most = *options.threads.iter().max().unwrap_or(&1);
    let mut settings = Settings {
        device: options.device.clone(),
        chunk: EngineOptions::default().prefill_chunk,
        cache_type: options.cache_types.first().copied().unwrap_or(CacheType::F32),
        sequences: 1,
        depth: 0,
    };
    let cpu = &mut settings.device.cpu;
    (cpu.threads, cpu.threads_batch, cpu.huge_pages, cpu.repack) = (most, None, When::Off, When::Off);
    // Copies first, as the best number of threads depends on them.
    let switches = if options.copies { &[When::Off, When::On][..] } else { &[When::Off] };
    let switches = || switches.iter().map(|when| (if *when == When::On { "on" } else { "off" }, *when));
    let numbers = |list: &[usize]| list.iter().map(|n| (n.to_string(), *n)).collect::<Vec<_>>();
    let threads = numbers(&options.threads);
    tuner
        .best(&mut settings, "repack", Matters::Both, switches(), |settings, when| settings.device.cpu.repack = when)?;
    let set = |settings: &mut Settings, when| settings.device.cpu.huge_pages = when;
    tuner.best(&mut settings, "huge-pages", Matters::Both, switches(), set)?;
    let set = |settings: &mut Settings, threads| settings.device.cpu.threads_batch = Some(threads);
    tuner.best(&mut settings, "threads-batch", Matters::Prompt, threads.clone(), set)?;
    let set = |settings: &mut Settings, threads| settings.device.cpu.threads = threads;
    tuner.best(&mut settings, "threads", Matters::Decode, threads, set)?;
    let set = |settings: &mut Settings, chunk| settings.chunk = chunk;
    tuner.best(&mut settings, "prefill-chunk", Matters::Prompt, numbers(&options.chunks), set)?;
    let last =
        |speed: fn(&Trial) -> Option<f64>| tuner.trials.iter().rev().filter(|trial| trial.chosen).find_map(speed);
    let (decode, prompt) = (last(|trial| trial.decode), last(|trial| trial.prompt));
    let set = |settings: &mut Settings, sequences| settings.sequences = sequences;
    let found = tuner.trials("parallel", &settings, Matters::Decode, numbers(&options.sequences), set)?;
    tuner.choose(&found, KNEE);
    let types = options.cache_types.iter().map(|cache_type| (cache_type.to_string(), *cache_type));
    let set = |settings: &mut Settings, cache_type| (settings.cache_type, settings.depth) = (cache_type, DEPTH);
    tuner.trials("cache-type", &settings, Matters::Decode, types, set)?;
    let Tuner { trials, left_out, .. } = tuner;
    Ok(TuneReport { trials, left_out, decode, prompt, seconds: begin.elapsed().as_secs_f64() })
}

/// What is tuned.
#[derive(Clone)]
struct Settings {
    device: DeviceOptions,
    /// Prompt tokens of a forward pass.
    chunk: usize,
    cache_type: CacheType,
    /// Sequences that are decoded at once.
    sequences: usize,
    /// Tokens before those that are decoded.
    depth: usize,
}

/// What an option changes the speed of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Matters {
    Decode,
    Prompt,
    Both,
}

struct Tuner<'a> {
    file: &'a File,
    options: &'a TuneOptions,
    begin: Instant,
    trials: Vec<Trial>,
    left_out: Vec<&'static str>,
    progress: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Tuner<'_> {
    /// Sets the best of several values. Without time left, all stays as it is.
    fn best<T: Copy>(
        &mut self,
        settings: &mut Settings,
        option: &'static str,
        matters: Matters,
        values: impl IntoIterator<Item = (impl Into<String>, T)>,
        set: impl Fn(&mut Settings, T),
    ) -> Result<(), Error> {
        let found = self.trials(option, settings, matters, values, &set)?;
        if let Some(best) = self.choose(&found, WORTH) {
            set(settings, best);
        }
        Ok(())
    }

    /// Chooses the first of those values that are as fast as the fastest, but for what is not worth it.
    fn choose<T: Copy>(&mut self, found: &[(T, f64)], worth: f64) -> Option<T> {
        let highest = found.iter().map(|(_, speed)| *speed).fold(0.0, f64::max);
        let best = found.iter().position(|(_, speed)| *speed * worth >= highest)?;
        let first = self.trials.len() - found.len();
        self.trials[first + best].chosen = true;
        Some(found[best].0)
    }

    /// How fast the model is with each of several values; nothing, when the time is over before the last.
    fn trials<T: Copy>(
        &mut self,
        option: &'static str,
        settings: &Settings,
        matters: Matters,
        values: impl IntoIterator<Item = (impl Into<String>, T)>,
        set: impl Fn(&mut Settings, T),
    ) -> Result<Vec<(T, f64)>, Error> {
        let mut found: Vec<(T, f64)> = Vec::new();
        for (text, value) in values {
            let text: String = text.into();
            if self.begin.elapsed() > self.options.time {
                // Nothing is the best of what was not compared.
                self.left_out.push(option);
                return Ok(Vec::new());
            }
            if (self.progress)(&format!("--{option} {text}")).is_break() {
                return Err(Error::Cancelled);
            }
            let mut tried = settings.clone();
            set(&mut tried, value);
            let [decode, prompt] = self.speeds(&tried, matters)?;
            // Both count alike: the geometric mean.
            let speed = decode.unwrap_or(1.0) * prompt.unwrap_or(1.0);
            found.push((value, if matters == Matters::Both { speed.sqrt() } else { speed }));
            self.trials.push(Trial { option, value: text, decode, prompt, chosen: false });
        }
        Ok(found)
    }

    /// Tokens per second of answers and of prompts, the medians.
    fn speeds(&mut self, settings: &Settings, matters: Matters) -> Result<[Option<f64>; 2], Error> {
        let model = ModelOptions { stop: Some(self.options.stop.clone()), ..ModelOptions::default() };
        let mut go_on = |_| match self.options.stop.load(Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let mut runner = trine_model::load(self.file, &settings.device, model, &mut go_on)?;
        let context = runner.spec().context_length;
        let depth = settings.depth.min(context.saturating_sub(DECODED));
        let test = |kind, tokens: usize| Test { kind, tokens: tokens.min(context), sequences: 1, depth: 0 };
        let tests = [
            (Matters::Prompt, Test { sequences: settings.sequences, depth, ..test(Kind::Decode, DECODED) }),
            (Matters::Decode, test(Kind::Prefill, PROMPT.max(settings.chunk))),
        ];
        let engine = EngineOptions {
            cache_type: settings.cache_type,
            prefill_chunk: settings.chunk,
            ..EngineOptions::default()
        };
        let go_on = || ControlFlow::Continue(());
        let mut trine = Trine::new(&mut *runner, &tests.map(|(_, test)| test), &engine, &go_on)?;
        let mut speeds = [None; 2];
        for (speed, (unless, test)) in speeds.iter_mut().zip(tests) {
            if matters == unless {
                continue;
            }
            // The first is slower: pages come from the disk, and buffers are made.
            trine.run(test)?;
            let (start, mut runs) = (Instant::now(), Vec::with_capacity(RUNS));
            while runs.is_empty() || runs.len() < RUNS && start.elapsed() < self.options.time / 20 {
                runs.push(test.total() as f64 / trine.run(test)?.seconds);
            }
            *speed = median_interval(&runs).map(|interval| interval.median);
        }
        trine.release();
        Ok(speeds)
    }
}
