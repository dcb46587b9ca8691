//! Who writes down what happens: shared by whoever works, and whoever asks for the account.

use super::meter::ActivationMeter;
use super::record::{KERNELS, Open, Place, Record};
use super::report::{DECODE, MemoryUse, Operation, PREFILL, Part, ProfileReport, TensorMemory};
use super::work::OpWork;
use crate::Stage;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use trine_kernels::Timeline;

/// What a [`Recorder`] writes down.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Maximum events of the trace; the trace says how many more were left out. An event takes about 70 bytes of memory, and 200 in a file.
    pub events: usize,
    /// Levels of the trace: 1 has steps, 2 also phases, such as passes and sampling, 3 layers, 4 operations, 5 what each thread does.
    pub depth: u8,
    /// The phase of what happens before the first, and outside of steps.
    pub phase: &'static str,
    /// Who works, the name of the trace's first row.
    pub thread: &'static str,
    /// Tells the memory that the process occupies, in bytes, where that is known.
    pub resident: fn() -> Option<u64>,
}

impl Default for RecorderOptions {
    /// At most 400,000 events of an engine, with operations, without the memory of the process.
    fn default() -> RecorderOptions {
        RecorderOptions { events: 400_000, depth: 4, phase: PREFILL, thread: "engine", resident: || None }
    }
}

/// The account that a [`Profile`](super::Profile) keeps, or any work of steps and phases. Clones share it, so that who started the work can read
/// it.
///
/// It is off until [`Recorder::start`].
///
/// ```
/// use trine_backend::profile::{Part, Recorder};
///
/// let recorder = Recorder::default();
/// recorder.start();
/// let words = recorder.time("split", Part::Tokenizer, || "once upon a time".split(' ').count());
/// recorder.stop();
/// let report = recorder.report();
/// assert_eq!((words, report.operations[0].name, report.operations[0].calls), (4, "split", 1));
/// let mut trace = Vec::new();
/// recorder.write_trace(&mut trace)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Recorder {
    record: Arc<Mutex<Record>>,
    activations: Arc<ActivationMeter>,
    pub(super) timeline: Timeline,
}

impl Recorder {
    /// A recorder that is off.
    pub fn new(options: RecorderOptions) -> Recorder {
        let recorder = Recorder { timeline: Timeline::new(options.events), ..Recorder::default() };
        recorder.lock().options = options;
        recorder
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn meter(&self) -> Arc<ActivationMeter> {
        self.activations.clone()
    }

    /// Where a device's threads write down when they work, if the trace has this level.
    pub fn timeline(&self) -> Option<&Timeline> {
        self.threads().then_some(&self.timeline)
    }

    /// Begins to count, in the phase that the options name; goes on when it did before.
    pub fn start(&self) {
        let now = Instant::now();
        let mut record = self.lock();
        record.origin.get_or_insert(now);
        (record.running, record.place, record.since, record.inside) = (true, Place::Outside, Some(now), Duration::ZERO);
        record.phase = record.options.phase;
        self.timeline.set(record.options.depth > KERNELS);
    }

    /// Ends what [`Recorder::start`] began.
    pub fn stop(&self) {
        self.on(|record| {
            record.close(0, Place::Outside);
            record.running = false;
        });
        self.timeline.set(false);
    }

    /// Counts what happens until the span is dropped as an operation that is not the device's own.
    ///
    /// ```
    /// use trine_backend::profile::{Part, Recorder};
    ///
    /// let recorder = Recorder::default();
    /// recorder.start();
    /// {
    ///     let _span = recorder.span("read", Part::Tokenizer);
    ///     std::fs::read("prompt.txt").ok();
    /// }
    /// assert_eq!(recorder.report().operations[0].name, "read");
    /// ```
    pub fn span(&self, name: &'static str, part: Part) -> Guard<'_> {
        self.operation(OpWork::new(name, part, 0, 0))
    }

    /// Counts `body` as an operation that is not the device's own.
    pub fn time<T>(&self, name: &'static str, part: Part, body: impl FnOnce() -> T) -> T {
        let _span = self.span(name, part);
        body()
    }

    /// Counts what happens until the span is dropped as this operation.
    pub fn operation(&self, work: OpWork) -> Guard<'_> {
        let start = self.lock().running.then(Instant::now);
        Guard { recorder: self, start, work }
    }

    /// Begins a step, which ends the one before. What it is about may be one of the tensors.
    pub fn begin_step(&self, name: &'static str, tensor: Option<u32>) {
        self.on(|record| {
            record.close(0, Place::Outside);
            record.phase = record.options.phase;
            record.steps += 1;
            record.begin(0, Open { name, tensor, ..Open::default() });
        });
    }

    /// Begins a phase of so many tokens, which ends the one before. Its operations, and the time between them, count for it.
    ///
    /// ```
    /// use trine_backend::profile::{Recorder, RecorderOptions};
    ///
    /// let recorder = Recorder::new(RecorderOptions { phase: "rest", thread: "training", ..RecorderOptions::default() });
    /// recorder.start();
    /// recorder.begin_step("step", None);
    /// recorder.begin_phase("forward", 512);
    /// recorder.begin_phase("backward", 512);
    /// recorder.end_step();
    /// recorder.stop();
    /// let phases: Vec<_> = recorder.report().phases.iter().map(|(phase, time)| (*phase, time.tokens)).collect();
    /// assert_eq!(phases, [("rest", 0), ("forward", 512), ("backward", 512)]);
    /// ```
    pub fn begin_phase(&self, phase: &'static str, tokens: usize) {
        self.on(|record| record.begin_phase(phase, Open { name: phase, rows: tokens, ..Open::default() }));
    }

    /// Ends the step, and its phase.
    pub fn end_step(&self) {
        self.on(|record| {
            record.close(0, Place::Outside);
            record.phase = record.options.phase;
        });
    }

    /// What one of the threads that help did since `start`, for the trace's last level: see [`Recorder::threads`].
    pub fn thread_span(&self, thread: usize, name: &'static str, start: Instant) {
        let end = Instant::now();
        self.on(|record| record.thread_span(thread, name, start, end));
    }

    /// Whether the trace has what threads do.
    pub fn threads(&self) -> bool {
        self.lock().options.depth > KERNELS
    }

    /// Adds something that is no span to the trace's `otherData`.
    pub fn note(&self, name: &'static str, value: Value) {
        self.lock().notes.push((name, value));
    }

    /// Writes down how much memory there is now, `activations` bytes of it for activations.
    pub fn sample_memory(&self, activations: usize) {
        self.activations.set(activations);
        self.on(|record| record.sample(&self.activations));
    }

    fn on(&self, body: impl FnOnce(&mut Record)) {
        let mut record = self.lock();
        if record.running {
            body(&mut record);
        }
    }

    pub(super) fn end(&self, start: Option<Instant>, work: OpWork) {
        let Some(start) = start else { return };
        let time = start.elapsed();
        self.on(|record| record.count(start, time, work));
    }

    /// Begins a stage of an engine's step, or a layer of a forward pass.
    pub fn enter(&self, stage: Stage) {
        let open = |name| Open { name, ..Open::default() };
        self.on(|record| match stage {
            Stage::Step => {
                record.close(0, Place::Plan);
                record.steps += 1;
                record.begin(0, open("step"));
            }
            Stage::Layer(i) => {
                record.close(2, Place::Pass);
                record.begin(2, Open { layer: Some(i as u32), ..open("layer") });
            }
            Stage::Head => {
                record.close(2, Place::Pass);
                record.begin(2, open("head"));
            }
            Stage::Sample => {
                record.close(1, Place::Sample);
                record.begin(1, open("sample"));
            }
            Stage::Idle => record.close(0, Place::Outside),
        });
    }

    /// A forward pass begins.
    pub(super) fn begin_pass(&self, rows: usize, outputs: usize, sequences: usize) {
        // A batch in which every token has an output has no prompt in it.
        let phase = if rows == outputs { DECODE } else { PREFILL };
        self.on(|record| {
            if matches!(record.place, Place::Plan) {
                record.phase = phase;
            }
            record.size_step(rows, sequences);
            record.begin_phase(phase, Open { name: phase, rows, sequences, ..Open::default() });
        });
    }

    /// The logits are there.
    pub(super) fn end_pass(&self) {
        self.on(|record| {
            record.close(1, Place::Outside);
            record.sample(&self.activations);
        });
    }

    /// Makes a tensor known, which counts as memory, and gives its number.
    pub fn add(&self, tensor: TensorMemory) -> u32 {
        self.lock().add(tensor)
    }

    pub(super) fn set_kv(&self, bytes: usize) {
        let mut record = self.lock();
        record.kv = record.kv.max(bytes);
    }

    /// What was counted until [`Recorder::stop`], or until now but for the stage that goes on.
    pub fn report(&self) -> ProfileReport {
        let record = self.lock();
        let mut operations: Vec<Operation> = record.totals.values().cloned().collect();
        operations.sort_by(|a, b| b.time.cmp(&a.time).then_with(|| a.name.cmp(b.name)));
        let memory = MemoryUse::of(&record.tensors, record.kv, self.activations.peak(), record.resident);
        let phases = record.times.iter().map(|(phase, time)| (*phase, time.clone())).collect();
        ProfileReport { operations, phases, steps: record.steps, memory, left_out: record.left_out }
    }
}

/// An operation that ends when this is dropped: [`Recorder::span`], [`Recorder::operation`].
#[must_use = "it ends when it is dropped"]
pub struct Guard<'a> {
    recorder: &'a Recorder,
    start: Option<Instant>,
    work: OpWork,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.recorder.end(self.start, self.work);
    }
}
