//! What is written down while the device works.

use super::floats;
use super::histogram::Histogram;
use super::report::{MemoryUse, Operation, Part, Phase, ProfileReport, TensorMemory, Time};
use crate::Stage;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use trine_kernels::Timeline;

/// What a [`Recorder`] writes down.
#[derive(Clone, Debug)]
pub struct RecorderOptions {
    /// Maximum events of the trace; the trace says how many more were left out. An event takes about 70 bytes of memory, and 200 in a file.
    pub events: usize,
    /// Levels of the trace: 1 has steps, 2 also passes and sampling, 3 layers, 4 operations, 5 what each thread does of their kernels.
    pub depth: u8,
    /// Tells the memory that the process occupies, in bytes, where that is known.
    pub resident: fn() -> Option<u64>,
}

impl Default for RecorderOptions {
    /// At most 400,000 events of all levels, without the memory of the process.
    fn default() -> RecorderOptions {
        RecorderOptions { events: 400_000, depth: 4, resident: || None }
    }
}

/// The account that a [`Profile`](super::Profile) keeps. Clones share it, so that who started the work can read it.
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

/// Bytes in use.
#[derive(Default)]
pub(super) struct ActivationMeter {
    live: AtomicUsize,
    /// At most, ever and since the last pass.
    peak: AtomicUsize,
    recent: AtomicUsize,
}

impl ActivationMeter {
    pub fn take(&self, bytes: usize) {
        let live = self.live.fetch_add(bytes, Relaxed) + bytes;
        self.peak.fetch_max(live, Relaxed);
        self.recent.fetch_max(live, Relaxed);
    }

    pub fn give(&self, bytes: usize) {
        self.live.fetch_sub(bytes, Relaxed);
    }
}

/// What one operation is.
pub(super) struct OpWork {
    pub op: &'static str,
    pub part: Part,
    pub tensor: Option<u32>,
    /// Tokens, where they matter.
    pub rows: usize,
    pub bytes: usize,
    pub operations: usize,
}

impl OpWork {
    /// Work that moves so many numbers of activations.
    pub fn new(op: &'static str, part: Part, moved: usize, operations: usize) -> OpWork {
        OpWork { op, part, tensor: None, rows: 0, bytes: floats(moved), operations }
    }

    /// With a weight that takes `bytes` to read.
    pub fn with(mut self, tensor: u32, rows: usize, bytes: usize) -> OpWork {
        (self.tensor, self.rows) = (Some(tensor), rows);
        self.bytes += bytes;
        self
    }
}

/// Where in the engine's work the device is.
#[derive(Clone, Copy, Default)]
enum Place {
    Plan,
    Pass,
    Sample,
    #[default]
    Outside,
}

/// A span of the trace.
pub(super) struct TraceEvent {
    /// Since the first start.
    pub start: Duration,
    pub time: Duration,
    pub level: u8,
    pub name: &'static str,
    pub layer: Option<u32>,
    pub tensor: Option<u32>,
    pub rows: u32,
    pub bytes: u64,
    pub operations: u64,
}

/// The memory after a pass.
pub(super) struct MemorySample {
    pub at: Duration,
    pub resident: Option<u64>,
    pub activations: usize,
}

/// A span that has begun.
#[derive(Clone, Copy)]
struct Open {
    start: Instant,
    name: &'static str,
    layer: Option<u32>,
    rows: usize,
}

/// Levels of the trace above operations: step, pass, layer.
const LEVELS: usize = 3;
/// The level of kernels.
const KERNELS: u8 = 4;

#[derive(Default)]
pub(super) struct Record {
    pub options: RecorderOptions,
    origin: Option<Instant>,
    running: bool,
    place: Place,
    /// Since when it is there, and how much of that were operations.
    since: Option<Instant>,
    inside: Duration,
    phase: Phase,
    times: [Time; 2],
    open: [Option<Open>; LEVELS],
    totals: HashMap<(Phase, &'static str, Option<u32>), Operation>,
    pub events: Vec<TraceEvent>,
    pub samples: Vec<MemorySample>,
    /// What the process occupied after the last pass.
    resident: Option<u64>,
    pub left_out: u64,
    pub tensors: Vec<TensorMemory>,
    /// For each tensor, the first that differs from it only in the numbers of its name: all of them are one line of the report.
    kinds: Vec<u32>,
    firsts: HashMap<(String, &'static str, Vec<usize>), u32>,
    kv: usize,
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
        (self.lock().options.depth > KERNELS).then_some(&self.timeline)
    }

    /// Begins to count, as in a prefill; goes on when it did before.
    pub fn start(&self) {
        let now = Instant::now();
        let mut record = self.lock();
        record.origin.get_or_insert(now);
        (record.running, record.place, record.since, record.inside) = (true, Place::Outside, Some(now), Duration::ZERO);
        record.phase = Phase::Prefill;
        self.timeline.set(record.options.depth > KERNELS);
    }

    /// Ends what [`Recorder::start`] began.
    pub fn stop(&self) {
        let mut record = self.lock();
        if record.running {
            record.close(0, Place::Outside);
            record.running = false;
        }
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
        Guard { recorder: self, start: self.begin(), name, part }
    }

    /// Counts `body` as an operation that is not the device's own.
    pub fn time<T>(&self, name: &'static str, part: Part, body: impl FnOnce() -> T) -> T {
        let _span = self.span(name, part);
        body()
    }

    /// The time at which an operation begins, if anybody wants to know.
    pub(super) fn begin(&self) -> Option<Instant> {
        self.lock().running.then(Instant::now)
    }

    pub(super) fn end(&self, start: Option<Instant>, work: OpWork) {
        let Some(start) = start else { return };
        let time = start.elapsed();
        let mut record = self.lock();
        if record.running {
            record.count(start, time, work);
        }
    }

    pub(super) fn enter(&self, stage: Stage) {
        let mut record = self.lock();
        if !record.running {
            return;
        }
        match stage {
            Stage::Step => {
                record.close(0, Place::Plan);
                record.begin(0, "step", None, 0);
            }
            Stage::Layer(i) => {
                record.close(2, Place::Pass);
                record.begin(2, "layer", Some(i as u32), 0);
            }
            Stage::Head => {
                record.close(2, Place::Pass);
                record.begin(2, "head", None, 0);
            }
            Stage::Sample => {
                record.close(1, Place::Sample);
                record.begin(1, "sample", None, 0);
            }
            Stage::Idle => record.close(0, Place::Outside),
        }
    }

    /// A forward pass begins.
    pub(super) fn begin_pass(&self, rows: usize, outputs: usize) {
        let mut record = self.lock();
        if !record.running {
            return;
        }
        // A batch in which every token has an output has no prompt in it.
        let phase = if rows == outputs { Phase::Decode } else { Phase::Prefill };
        if matches!(record.place, Place::Plan) {
            record.phase = phase;
        }
        record.close(1, Place::Pass);
        record.phase = phase;
        let time = &mut record.times[phase as usize];
        (time.passes, time.tokens) = (time.passes + 1, time.tokens + rows as u64);
        record.begin(1, phase.label(), None, rows);
    }

    /// The logits are there.
    pub(super) fn end_pass(&self) {
        let mut record = self.lock();
        if record.running {
            record.close(1, Place::Outside);
            record.sample(&self.activations);
        }
    }

    pub(super) fn add(&self, tensor: TensorMemory) -> u32 {
        let mut record = self.lock();
        let id = record.tensors.len() as u32;
        let kind = (tensor.kind(), tensor.format, tensor.shape.clone());
        let first = *record.firsts.entry(kind).or_insert(id);
        record.kinds.push(first);
        record.tensors.push(tensor);
        id
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
        let peak = self.activations.peak.load(Relaxed);
        let memory = MemoryUse::of(&record.tensors, record.kv, peak, record.resident);
        let [prefill, decode] = record.times.clone();
        ProfileReport { operations, prefill, decode, memory, left_out: record.left_out }
    }
}

/// An operation that ends when this is dropped: [`Recorder::span`].
#[must_use = "it ends when it is dropped"]
pub struct Guard<'a> {
    recorder: &'a Recorder,
    start: Option<Instant>,
    name: &'static str,
    part: Part,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.recorder.end(self.start, OpWork::new(self.name, self.part, 0, 0));
    }
}

impl Record {
    /// Time since the trace's zero.
    pub fn at(&self, time: Instant) -> Duration {
        self.origin.map_or(Duration::ZERO, |origin| time.saturating_duration_since(origin))
    }

    fn count(&mut self, start: Instant, time: Duration, work: OpWork) {
        let OpWork { op, part, tensor, rows, bytes, operations } = work;
        let layer = self.open[2].and_then(|layer| layer.layer);
        let kind = tensor.map(|tensor| self.kinds[tensor as usize]);
        let phase = self.phase;
        self.inside += time;
        self.times[phase as usize].parts[part as usize] += time;
        let (bytes, operations) = (bytes as u64, operations as u64);
        let tensors = &self.tensors;
        let total = self.totals.entry((phase, op, kind)).or_insert_with(|| {
            let tensor = kind.map(|kind| &tensors[kind as usize]);
            let (tensor, format) = (tensor.map(TensorMemory::kind), tensor.map(|tensor| tensor.format));
            let (time, times) = (Duration::ZERO, Histogram::default());
            Operation { name: op, part, phase, tensor, format, calls: 0, time, times, bytes: 0, operations: 0 }
        });
        total.calls += 1;
        total.time += time;
        total.times.add(time);
        total.bytes += bytes;
        total.operations += operations;
        let (start, level) = (self.at(start), LEVELS as u8);
        self.push(TraceEvent { start, time, level, name: op, layer, tensor, rows: rows as u32, bytes, operations });
    }

    fn push(&mut self, event: TraceEvent) {
        if event.level >= self.options.depth {
            return;
        }
        if self.events.len() < self.options.events { self.events.push(event) } else { self.left_out += 1 }
    }

    fn begin(&mut self, level: usize, name: &'static str, layer: Option<u32>, rows: usize) {
        self.open[level] = self.since.map(|start| Open { start, name, layer, rows });
    }

    /// Ends the spans from this level on; what follows happens at `place`.
    fn close(&mut self, level: usize, place: Place) {
        let now = Instant::now();
        for level in (level..LEVELS).rev() {
            if let Some(Open { start, name, layer, rows }) = self.open[level].take() {
                let (start, time) = (self.at(start), now - start);
                let (rows, level) = (rows as u32, level as u8);
                self.push(TraceEvent { start, time, level, name, layer, tensor: None, rows, bytes: 0, operations: 0 });
            }
        }
        if let Some(since) = self.since.replace(now) {
            let part = match self.place {
                Place::Pass => Part::Between,
                Place::Sample => Part::Sampling,
                Place::Plan | Place::Outside => Part::Rest,
            };
            let time = now - since;
            let times = &mut self.times[self.phase as usize];
            times.time += time;
            times.parts[part as usize] += time.saturating_sub(self.inside);
        }
        (self.place, self.inside) = (place, Duration::ZERO);
    }

    fn sample(&mut self, activations: &ActivationMeter) {
        self.resident = (self.options.resident)();
        if self.samples.len() < self.options.events {
            let (at, resident) = (self.at(Instant::now()), self.resident);
            let activations = activations.recent.swap(activations.live.load(Relaxed), Relaxed);
            self.samples.push(MemorySample { at, resident, activations });
        }
    }
}
