//! Which options of the machine are fastest for a model: measured one after the other, each with the best of those before it.

use crate::bench::{Error, Interval, Kind, Noise, Snapshot, Subject, Test, Trine, median_interval};
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
/// Runs of each, of which the median counts: so few have an interval at 95 %.
const RUNS: usize = 6;
/// How often something is measured until other programs leave it alone.
const ATTEMPTS: usize = 3;
/// How much faster something must be to be worth it: less is what a machine differs by from minute to minute.
const WORTH: f64 = 1.03;
/// How much faster more sequences must be together: each of them waits for the others, and needs a cache of its own.
const KNEE: f64 = 1.1;
/// How much more another value may gain, as far as the intervals tell, without a choice being unsure.
const RISK: f64 = 1.1;
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
    /// The share of all CPU time that others may take during what is chosen by, such as [`FOREIGN`](crate::bench::FOREIGN).
    pub foreign: f64,
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
    /// Where the median of each may lie: the least and the most. Null for one run.
    pub decode_interval: Option<[f64; 2]>,
    pub prompt_interval: Option<[f64; 2]>,
    /// The share of all CPU time that the host and other processes took meanwhile; null where the system does not tell.
    pub foreign: Option<f64>,
    /// Whether it is the best value of the option.
    pub chosen: bool,
}

/// Why nothing was chosen of what was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// Others took more of the CPUs than [`TuneOptions::foreign`].
    Foreign,
    /// Speeds vary so much from run to run that another value may be the best.
    Spread,
}

/// What was measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct TuneReport {
    pub trials: Vec<Trial>,
    /// Options of which not every value was measured, because the time was over; none is chosen.
    pub incomplete: Vec<&'static str>,
    /// Options that stay as they are, since their measurements tell no value to be the best.
    pub unsure: Vec<(&'static str, Doubt)>,
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
    let mut tuner =
        Tuner { file, options, begin, trials: Vec::new(), incomplete: Vec::new(), unsure: Vec::new(), progress };
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
    // What is measured as `on` is chosen where memory suffices, which is `auto`.
    let switches = || switches.iter().map(|when| (if *when == When::On { "auto" } else { "off" }, *when));
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
    tuner.choose("parallel", &found, KNEE);
    let types = options.cache_types.iter().map(|cache_type| (cache_type.to_string(), *cache_type));
    let set = |settings: &mut Settings, cache_type| (settings.cache_type, settings.depth) = (cache_type, DEPTH);
    tuner.trials("cache-type", &settings, Matters::Decode, types, set)?;
    let Tuner { trials, incomplete, unsure, .. } = tuner;
    Ok(TuneReport { trials, incomplete, unsure, decode, prompt, seconds: begin.elapsed().as_secs_f64() })
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
    incomplete: Vec<&'static str>,
    unsure: Vec<(&'static str, Doubt)>,
    progress: &'a mut dyn FnMut(&str) -> ControlFlow<()>,
}

impl Tuner<'_> {
    /// Sets the best of several values. Without time left, or in doubt, all stays as it is.
    fn best<T: Copy>(
        &mut self,
        settings: &mut Settings,
        option: &'static str,
        matters: Matters,
        values: impl IntoIterator<Item = (impl Into<String>, T)>,
        set: impl Fn(&mut Settings, T),
    ) -> Result<(), Error> {
        let found = self.trials(option, settings, matters, values, &set)?;
        if let Some(best) = self.choose(option, &found, WORTH) {
            set(settings, best);
        }
        Ok(())
    }

    /// Chooses the first of those values that are as fast as the fastest, but for what is not worth it.
    fn choose<T: Copy>(&mut self, option: &'static str, found: &[(T, Measured)], worth: f64) -> Option<T> {
        match best(&found.iter().map(|(_, measured)| *measured).collect::<Vec<_>>(), worth, self.options.foreign)? {
            Ok(best) => {
                let first = self.trials.len() - found.len();
                self.trials[first + best].chosen = true;
                Some(found[best].0)
            }
            Err(doubt) => {
                self.unsure.push((option, doubt));
                None
            }
        }
    }

    /// How fast the model is with each of several values; nothing, when the time is over before the last.
    fn trials<T: Copy>(
        &mut self,
        option: &'static str,
        settings: &Settings,
        matters: Matters,
        values: impl IntoIterator<Item = (impl Into<String>, T)>,
        set: impl Fn(&mut Settings, T),
    ) -> Result<Vec<(T, Measured)>, Error> {
        let mut found: Vec<(T, Measured)> = Vec::new();
        for (text, value) in values {
            let text: String = text.into();
            if self.begin.elapsed() > self.options.time {
                // Nothing is the best of what was not compared.
                self.incomplete.push(option);
                return Ok(Vec::new());
            }
            if (self.progress)(&format!("--{option} {text}")).is_break() {
                return Err(Error::Cancelled);
            }
            let mut tried = settings.clone();
            set(&mut tried, value);
            let measured = self.measure(&tried, matters)?;
            let Measured { decode, prompt, foreign } = measured;
            found.push((value, measured));
            self.trials.push(Trial {
                option,
                value: text,
                decode: decode.map(|speed| speed.median),
                prompt: prompt.map(|speed| speed.median),
                decode_interval: decode.and_then(range),
                prompt_interval: prompt.and_then(range),
                foreign,
                chosen: false,
            });
        }
        Ok(found)
    }

    /// Tokens per second of answers and of prompts.
    fn measure(&mut self, settings: &Settings, matters: Matters) -> Result<Measured, Error> {
        let model = ModelOptions { stop: Some(self.options.stop.clone()), ..ModelOptions::default() };
        let mut go_on = |_| match self.options.stop.load(Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let mut runner = trine_model::load(self.file, &settings.device, model, &mut go_on)?;
        let context = runner.spec().context_length;
        let depth = settings.depth.min(context.saturating_sub(DECODED));
        let test = |kind, tokens: usize| Test { kind, tokens: tokens.min(context), sequences: 1, depth: 0 };
        let decode = Test { sequences: settings.sequences, depth, ..test(Kind::Decode, DECODED) };
        let prefill = test(Kind::Prefill, PROMPT.max(settings.chunk));
        let engine = EngineOptions {
            cache_type: settings.cache_type,
            prefill_chunk: settings.chunk,
            ..EngineOptions::default()
        };
        let go_on = || ControlFlow::Continue(());
        let mut trine = Trine::new(&mut *runner, &[decode, prefill], &engine, &go_on)?;
        let (decode, by_decode) = match matters {
            Matters::Prompt => (None, None),
            _ => self.speed(&mut trine, decode)?,
        };
        let (prompt, by_prompt) = match matters {
            Matters::Decode => (None, None),
            _ => self.speed(&mut trine, prefill)?,
        };
        trine.release();
        let foreign = [by_decode, by_prompt].into_iter().flatten().reduce(f64::max);
        Ok(Measured { decode, prompt, foreign })
    }

    /// Tokens per second of a test, and the share of the CPUs that others took: of several attempts, the one that they disturbed the least.
    fn speed(&self, trine: &mut Trine, test: Test) -> Result<(Option<Interval>, Option<f64>), Error> {
        // The first is slower: pages come from the disk, and buffers are made.
        trine.run(test)?;
        let mut best: (Option<Interval>, Option<f64>) = (None, None);
        for attempt in 0..ATTEMPTS {
            let (start, before, mut runs) = (Instant::now(), Snapshot::now(), Vec::with_capacity(RUNS));
            let noise = || Snapshot::now()?.since(before?);
            // Short runs go on until it can be told what others took.
            while runs.is_empty()
                || (runs.len() < RUNS || before.is_some() && noise().is_none())
                    && start.elapsed() < self.options.time / 20
            {
                runs.push(test.total() as f64 / trine.run(test)?.seconds);
            }
            let foreign = noise().map(|Noise { steal, others }| steal + others);
            if attempt == 0 || foreign.zip(best.1).is_some_and(|(now, then)| now < then) {
                best = (median_interval(&runs), foreign);
            }
            if best.1.is_none_or(|foreign| foreign <= self.options.foreign) || self.begin.elapsed() > self.options.time
            {
                break;
            }
        }
        Ok(best)
    }
}

/// Speeds of one value.
#[derive(Clone, Copy, Debug)]
struct Measured {
    decode: Option<Interval>,
    prompt: Option<Interval>,
    foreign: Option<f64>,
}

impl Measured {
    /// A speed of it. Answers and prompts count alike: the geometric mean of both.
    fn speed(&self, of: fn(Interval) -> f64) -> f64 {
        match (self.decode.map(of), self.prompt.map(of)) {
            (Some(decode), Some(prompt)) => (decode * prompt).sqrt(),
            (decode, prompt) => decode.or(prompt).unwrap_or(0.0),
        }
    }
}

/// Where a median may lie; one run does not tell.
fn range(speed: Interval) -> Option<[f64; 2]> {
    (speed.confidence > 0.0).then_some([speed.low, speed.high])
}

/// The index of the first value that is as fast as the fastest, but for what is not worth it, or why that cannot be told; `None` without
/// values.
fn best(found: &[Measured], worth: f64, foreign: f64) -> Option<Result<usize, Doubt>> {
    let highest = found.iter().map(|value| value.speed(|speed| speed.median)).fold(0.0, f64::max);
    let best = found.iter().position(|value| value.speed(|speed| speed.median) * worth >= highest)?;
    if found.iter().any(|value| value.foreign.is_some_and(|share| share > foreign)) {
        return Some(Err(Doubt::Foreign));
    }
    let least = found[best].speed(|speed| speed.low) * worth * RISK;
    let others = found.iter().enumerate().filter(|(i, _)| *i != best);
    let beaten = others.map(|(_, value)| value.speed(|speed| speed.high)).all(|most| most <= least);
    Some(if beaten { Ok(best) } else { Err(Doubt::Spread) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(speeds: &[f64], foreign: f64) -> Measured {
        Measured { decode: median_interval(speeds), prompt: None, foreign: Some(foreign) }
    }

    #[test]
    fn a_choice_needs_a_quiet_machine_and_speeds_that_differ_by_more_than_they_vary() {
        let (slow, fast) = (measured(&[99.0, 100.0, 101.0], 0.0), measured(&[198.0, 200.0, 202.0], 0.1));
        let choose = |found: &[Measured]| best(found, WORTH, 0.1);
        assert_eq!(choose(&[slow, fast]), Some(Ok(1)));
        assert_eq!(choose(&[fast, slow]), Some(Ok(0)));
        assert_eq!(choose(&[slow, measured(&[100.0, 102.0, 104.0], 0.0)]), Some(Ok(0)));
        assert_eq!(choose(&[slow, measured(&[60.0, 90.0, 140.0], 0.0)]), Some(Err(Doubt::Spread)));
        assert_eq!(choose(&[slow, measured(&[198.0, 200.0, 202.0], 0.2)]), Some(Err(Doubt::Foreign)));
        assert_eq!(best(&[slow, measured(&[198.0, 200.0, 202.0], 0.2)], WORTH, 1.0), Some(Ok(1)));
        assert_eq!(choose(&[]), None);
    }

    #[test]
    fn answers_and_prompts_count_alike() {
        let both = |decode: f64, prompt: f64| Measured {
            decode: median_interval(&[decode]),
            prompt: median_interval(&[prompt]),
            foreign: None,
        };
        assert_eq!(best(&[both(100.0, 100.0), both(50.0, 300.0)], WORTH, 0.1), Some(Ok(1)));
        assert_eq!(range(median_interval(&[1.0]).unwrap()), None);
        assert_eq!(range(median_interval(&[1.0, 2.0]).unwrap()), Some([1.0, 2.0]));
    }
}
