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

/// What to try.
#[derive(Clone)]
pub struct TuneOptions {
    /// The device, and all that is not tuned.
    pub device: DeviceOptions,
    /// Numbers of threads.
    pub threads: Vec<usize>,
    /// Numbers of prompt tokens of a forward pass.
    pub chunks: Vec<usize>,
    /// Whether memory suffices for a copy of the weights, in huge pages or repacked.
    pub copies: bool,
    pub cache_type: CacheType,
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
    /// Where it matters.
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
    let mut settings = Settings { device: options.device.clone(), chunk: EngineOptions::default().prefill_chunk };
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
    let Tuner { trials, left_out, .. } = tuner;
    let last = |speed: fn(&Trial) -> Option<f64>| trials.iter().rev().filter(|trial| trial.chosen).find_map(speed);
    let (decode, prompt) = (last(|trial| trial.decode), last(|trial| trial.prompt));
    Ok(TuneReport { trials, left_out, decode, prompt, seconds: begin.elapsed().as_secs_f64() })
}

/// What is tuned.
#[derive(Clone)]
struct Settings {
    device: DeviceOptions,
    /// Prompt tokens of a forward pass.
    chunk: usize,
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
    /// Sets the best of several values: of those that are as fast as the fastest but for what is not worth it, the first. Without time left,
    /// all stays as it is.
    fn best<T: Copy>(
        &mut self,
        settings: &mut Settings,
        option: &'static str,
        matters: Matters,
        values: impl IntoIterator<Item = (impl Into<String>, T)>,
        set: impl Fn(&mut Settings, T),
    ) -> Result<(), Error> {
        let mut found: Vec<(T, f64)> = Vec::new();
        let first = self.trials.len();
        for (text, value) in values {
            let text: String = text.into();
            if self.begin.elapsed() > self.options.time {
                // Nothing is the best of what was not compared.
                self.left_out.push(option);
                return Ok(());
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
        let highest = found.iter().map(|(_, speed)| *speed).fold(0.0, f64::max);
        if let Some(best) = found.iter().position(|(_, speed)| *speed * WORTH >= highest) {
            self.trials[first + best].chosen = true;
            set(settings, found[best].0);
        }
        Ok(())
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
        let test = |kind, tokens: usize| Test { kind, tokens: tokens.min(context), sequences: 1, depth: 0 };
        let tests = [
            (Matters::Prompt, test(Kind::Decode, DECODED)),
            (Matters::Decode, test(Kind::Prefill, PROMPT.max(settings.chunk))),
        ];
        let engine = EngineOptions {
            cache_type: self.options.cache_type,
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
            trine.seconds(test)?;
            let (start, mut runs) = (Instant::now(), Vec::with_capacity(RUNS));
            while runs.is_empty() || runs.len() < RUNS && start.elapsed() < self.options.time / 20 {
                runs.push(test.total() as f64 / trine.seconds(test)?);
            }
            *speed = median_interval(&runs).map(|interval| interval.median);
        }
        trine.release();
        Ok(speeds)
    }
}
