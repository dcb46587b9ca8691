//! The runs that are timed.

use super::{Counters, Counts, Energy, Error, Kind, Noise, Snapshot, Test};
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use trine_engine::EngineOptions;
use trine_model::Runner;
use trine_model::runner::{Output, Sequences, Want, argmax};

/// What the bandwidths before and after a run may differ by.
const STEADY: f64 = 0.15;
/// How long a run goes on at least: long enough for the clocks of even one CPU to tell what else it did.
const SHORTEST: Duration = Duration::from_millis(200);
/// Runs of which the last counts although the bandwidth changed in each.
const ATTEMPTS: usize = 3;

/// Something that runs tests.
pub trait Subject {
    /// Runs a test once.
    ///
    /// # Errors
    /// When it cannot.
    fn run(&mut self, test: Test) -> Result<Run, Error>;
    /// Whether it has such a test.
    fn can(&self, test: Test) -> bool;
    /// Whether its work is done in this process.
    fn is_here(&self) -> bool;
}

/// How long a test took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    pub seconds: f64,
    /// Seconds of each forward pass, one for each token of a decode and for each part of a prompt; none where they are not known.
    pub passes: Vec<f64>,
    /// What the CPUs counted meanwhile, where that is asked for and known.
    pub counts: Option<Counts>,
}

/// One run: a test as often as [`measure`] repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// How long the test took once, the mean.
    pub seconds: f64,
    /// Bytes per second that memory gave, the mean of just before and just after.
    pub bandwidth: Option<f64>,
    /// Whether these two differed by no more than 15 %.
    pub steady: Option<bool>,
    /// What else the machine did.
    pub noise: Option<Noise>,
    /// CPU time of this process over wall time: 2 when two threads always compute.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Of the CPU packages.
    #[serde(default)]
    pub watts: Option<f64>,
    /// What the CPUs counted for the test once, the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
}

/// The runs of one test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    pub kept: Vec<Sample>,
    /// Runs during which the bandwidth changed, which were repeated.
    pub discarded: usize,
    /// Seconds of the forward passes of all runs that are kept, where they are known.
    pub passes: Vec<f64>,
}

/// Runs all tests by all subjects in turn, `repetitions` times; `[subject][test]`. In each run a test is repeated for at least 0.2 s, so
/// that what lasts milliseconds is not measured by chance. `bandwidth` measures that of memory, where it can be
/// measured. `progress` gets how many of how many runs are done, and may break off.
///
/// # Errors
/// When a subject fails, or `progress` breaks off.
pub fn measure(
    subjects: &mut [&mut dyn Subject],
    tests: &[Test],
    repetitions: usize,
    bandwidth: &mut dyn FnMut() -> Option<f64>,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<Vec<Vec<Samples>>, Error> {
    let mut samples = vec![vec![Samples::default(); tests.len()]; subjects.len()];
    let total = repetitions * tests.len() * subjects.len();
    let mut done = 0;
    let mut before = bandwidth();
    for _ in 0..repetitions {
        for (t, &test) in tests.iter().enumerate() {
            for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
                done += 1;
                if !subject.can(test) {
                    continue;
                }
                for attempt in 1.. {
                    if progress(done - 1, total).is_break() {
                        return Err(Error::Cancelled);
                    }
                    let start = Snapshot::now().filter(|_| subject.is_here());
                    let energy = Energy::now();
                    let (began, mut seconds, mut times, mut passes) = (Instant::now(), 0.0, 0, Vec::new());
                    let mut counts = None;
                    while times == 0 || began.elapsed() < SHORTEST {
                        let run = subject.run(test)?;
                        seconds += run.seconds;
                        passes.extend(run.passes);
                        counts = match counts {
                            None => run.counts,
                            Some(sum) => run.counts.map(|counts| counts.zip(sum, |a, b| a + b)),
                        };
                        times += 1;
                    }
                    let wall = began.elapsed().as_secs_f64();
                    let watts = energy.and_then(|energy| Some(Energy::now()?.since(&energy) / wall));
                    let end = start.and_then(|_| Snapshot::now());
                    let cpu = start.zip(end).map(|(start, end)| end.cpu_since(start) / wall);
                    let noise = start.zip(end).and_then(|(start, end)| end.since(start));
                    let after = bandwidth();
                    let both = before.zip(after);
                    let steady = both.map(|(a, b)| (a - b).abs() <= STEADY * a.max(b));
                    before = after;
                    if steady == Some(false) && attempt < ATTEMPTS {
                        samples[t].discarded += 1;
                        continue;
                    }
                    samples[t].passes.extend(passes);
                    samples[t].kept.push(Sample {
                        seconds: seconds / f64::from(times),
                        bandwidth: both.map(|(a, b)| (a + b) / 2.0),
                        steady,
                        noise,
                        cpu,
                        watts,
                        counts: counts.map(|counts| counts.over(times.into())),
                    });
                    break;
                }
            }
        }
    }
    Ok(samples)
}

/// Tokens that are computed of those that sequences have already, full blocks.
const COMPUTED: usize = 512;

/// Trine itself: a model on a device.
pub struct Trine<'a> {
    pub(super) runner: &'a mut dyn Runner,
    pub(super) sequences: Sequences,
    /// Tokens of a prompt that run together.
    chunk: usize,
    /// Asked before each batch.
    flow: &'a dyn Fn() -> ControlFlow<()>,
    pub(super) output: Output,
    /// Seconds of the passes of the test that runs.
    passes: Vec<f64>,
    counters: Option<&'a mut Counters>,
}

impl<'a> Trine<'a> {
    /// Makes room for these tests in a cache as an engine with `options` has it, and gives the sequences the tokens that they are to have
    /// already: 512 are computed, and copied for the rest, which costs the same to attend to. `flow` is asked before each batch, and may break off.
    ///
    /// # Errors
    /// When a test is longer than the model's context, the device has no room, or `flow` breaks off.
    pub fn new(
        runner: &'a mut dyn Runner,
        tests: &[Test],
        options: &EngineOptions,
        flow: &'a dyn Fn() -> ControlFlow<()>,
    ) -> Result<Trine<'a>, Error> {
        let context = runner.spec().context_length;
        if let Some(&test) = tests.iter().find(|test| test.depth + test.tokens > context) {
            return Err(Error::Context { test, context });
        }
        let most = |count: fn(&Test) -> usize| tests.iter().map(count).max().unwrap_or(0);
        let (tokens, count) = (most(|test| test.depth + test.tokens).max(1), most(|test| test.sequences).max(1));
        let mut sequences = Sequences::new(runner, Sequences::blocks_of(tokens) * count, options.cache_type)?;
        (0..count).for_each(|_| {
            sequences.add(tokens);
        });
        let chunk = options.prefill_chunk.max(1);
        let mut trine =
            Trine { runner, sequences, chunk, flow, output: Output::default(), passes: Vec::new(), counters: None };
        let depth = most(|test| test.depth);
        if let Err(error) = trine.prefill(0, 0, depth.min(COMPUTED)) {
            trine.release();
            return Err(error);
        }
        if depth > 0 {
            (0..count).rev().for_each(|sequence| trine.sequences.fill(trine.runner, sequence, depth, 0));
        }
        Ok(trine)
    }

    /// Whose runs tell what `counters` count.
    pub fn with_counters(self, counters: Option<&'a mut Counters>) -> Trine<'a> {
        Trine { counters, ..self }
    }

    /// The most likely token after one token, the first of a sequence, or 0 where a logit is not finite: what a user waits for after loading.
    ///
    /// # Errors
    /// When the device fails.
    pub fn first_token(&mut self) -> Result<u32, Error> {
        self.prefill(0, 0, 1)?;
        Ok(argmax(&self.output.values).unwrap_or(0))
    }

    /// Runs what is queued.
    pub(super) fn forward(&mut self) -> Result<(), Error> {
        if (self.flow)().is_break() {
            return Err(Error::Cancelled);
        }
        let start = Instant::now();
        let ran = self.sequences.run(self.runner, Want::Logits, &mut self.output);
        self.passes.push(start.elapsed().as_secs_f64());
        match ran {
            Err(trine_model::Error::Stopped) => Err(Error::Cancelled),
            result => Ok(result?),
        }
    }

    /// Any tokens after `cached` others; logits for the last.
    fn prefill(&mut self, sequence: usize, cached: usize, len: usize) -> Result<(), Error> {
        let vocab = self.runner.spec().vocab_size;
        let tokens: Vec<u32> = (0..len).map(|i| ((cached + i) * 7919 % vocab) as u32).collect();
        self.sequences.truncate(sequence, cached);
        for (i, chunk) in tokens.chunks(self.chunk).enumerate() {
            let last = (i + 1) * self.chunk >= len;
            self.sequences.push(sequence, chunk, usize::from(last));
            self.forward()?;
        }
        Ok(())
    }

    /// Each token is the most likely one after those before it, or 0.
    fn decode(&mut self, test: Test) -> Result<(), Error> {
        let vocab = self.runner.spec().vocab_size;
        let mut tokens: Vec<u32> = (0..test.sequences).map(|sequence| (sequence * 7919 % vocab) as u32).collect();
        (0..test.sequences).for_each(|sequence| self.sequences.truncate(sequence, test.depth));
        for _ in 0..test.tokens {
            for (sequence, &token) in tokens.iter().enumerate() {
                self.sequences.push(sequence, &[token], 1);
            }
            self.forward()?;
            tokens
                .iter_mut()
                .zip(self.output.values.chunks(vocab))
                .for_each(|(token, logits)| *token = argmax(logits).unwrap_or(0));
        }
        Ok(())
    }

    /// Frees the cache.
    pub fn release(self) {
        self.sequences.release(self.runner);
    }
}

impl Subject for Trine<'_> {
    fn run(&mut self, test: Test) -> Result<Run, Error> {
        self.passes.clear();
        let before = self.counters.as_mut().map(|counters| counters.read());
        let start = Instant::now();
        match test.kind {
            Kind::Prefill => {
                (0..test.sequences).try_for_each(|sequence| self.prefill(sequence, test.depth, test.tokens))?;
            }
            Kind::Decode => self.decode(test)?,
        }
        let seconds = start.elapsed().as_secs_f64();
        let after = self.counters.as_mut().map(|counters| counters.read());
        let counts = after.zip(before).map(|(after, before)| after.zip(before, |after, before| after - before));
        Ok(Run { seconds, passes: std::mem::take(&mut self.passes), counts })
    }

    fn can(&self, _test: Test) -> bool {
        true
    }

    fn is_here(&self) -> bool {
        true
    }
}
