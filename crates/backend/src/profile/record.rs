//! What is written down while the device works.

use super::histogram::Histogram;
use super::meter::ActivationMeter;
use super::recorder::RecorderOptions;
use super::report::{Operation, Part, TensorMemory, Time};
use super::work::OpWork;
use serde_json::Value;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Where in its work the device is.
#[derive(Clone, Copy, Default)]
pub(super) enum Place {
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
    pub sequences: u32,
    pub bytes: u64,
    pub operations: u64,
}

/// The memory after a pass.
pub(super) struct MemorySample {
    pub at: Duration,
    pub resident: Option<u64>,
    pub activations: usize,
}

/// What one of the threads that help did.
pub(super) struct ThreadSpan {
    pub name: &'static str,
    pub start: Duration,
    pub time: Duration,
}

/// A span that has begun.
#[derive(Clone, Copy, Default)]
pub(super) struct Open {
    pub start: Option<Instant>,
    pub name: &'static str,
    pub layer: Option<u32>,
    pub tensor: Option<u32>,
    pub rows: usize,
    pub sequences: usize,
}

/// Levels of the trace above operations: step, pass, layer.
const LEVELS: usize = 3;
/// The level of kernels.
pub(super) const KERNELS: u8 = 4;

#[derive(Default)]
pub(super) struct Record {
    pub options: RecorderOptions,
    pub origin: Option<Instant>,
    pub running: bool,
    pub place: Place,
    /// Since when it is there, and how much of that were operations.
    pub since: Option<Instant>,
    pub inside: Duration,
    pub phase: &'static str,
    /// The time of each phase, in the order in which they came first.
    pub times: Vec<(&'static str, Time)>,
    pub steps: u64,
    open: [Option<Open>; LEVELS],
    pub totals: HashMap<(&'static str, &'static str, Option<u32>), Operation>,
    pub events: Vec<TraceEvent>,
    pub samples: Vec<MemorySample>,
    /// What each of the threads that help did.
    pub threads: Vec<Vec<ThreadSpan>>,
    pub notes: Vec<(&'static str, Value)>,
    /// What the process occupied after the last pass.
    pub resident: Option<u64>,
    pub left_out: u64,
    pub tensors: Vec<TensorMemory>,
    /// For each tensor, the first that differs from it only in the numbers of its name: all of them are one line of the report.
    kinds: Vec<u32>,
    firsts: HashMap<(String, &'static str, Vec<usize>), u32>,
    pub kv: usize,
}

impl Record {
    /// Time since the trace's zero.
    pub fn at(&self, time: Instant) -> Duration {
        self.origin.map_or(Duration::ZERO, |origin| time.saturating_duration_since(origin))
    }

    pub fn count(&mut self, start: Instant, time: Duration, work: OpWork) {
        let OpWork { name, part, tensor, rows, bytes, operations } = work;
        let layer = self.open[2].and_then(|layer| layer.layer);
        let kind = tensor.map(|tensor| self.kinds[tensor as usize]);
        let phase = self.phase;
        self.inside += time;
        self.time(phase).parts[part as usize] += time;
        let (bytes, operations) = (bytes as u64, operations as u64);
        let tensors = &self.tensors;
        let total = self.totals.entry((phase, name, kind)).or_insert_with(|| {
            let tensor = kind.map(|kind| &tensors[kind as usize]);
            let (tensor, format) = (tensor.map(TensorMemory::kind), tensor.map(|tensor| tensor.format));
            let (time, times) = (Duration::ZERO, Histogram::default());
            Operation { name, part, phase, tensor, format, calls: 0, time, times, bytes: 0, operations: 0 }
        });
        total.calls += 1;
        total.time += time;
        total.times.add(time);
        total.bytes += bytes;
        total.operations += operations;
        let (start, level) = (self.at(start), LEVELS as u8);
        let (rows, sequences) = (rows as u32, 0);
        self.push(TraceEvent { start, time, level, name, layer, tensor, rows, sequences, bytes, operations });
    }

    fn push(&mut self, event: TraceEvent) {
        if event.level >= self.options.depth {
            return;
        }
        if self.events.len() < self.options.events { self.events.push(event) } else { self.left_out += 1 }
    }

    /// The time of a phase.
    fn time(&mut self, phase: &'static str) -> &mut Time {
        let i = self.times.iter().position(|(known, _)| *known == phase).unwrap_or_else(|| {
            self.times.push((phase, Time::default()));
            self.times.len() - 1
        });
        &mut self.times[i].1
    }

    pub fn begin(&mut self, level: usize, open: Open) {
        self.open[level] = Some(Open { start: self.since, ..open });
    }

    pub fn begin_phase(&mut self, phase: &'static str, open: Open) {
        self.close(1, Place::Pass);
        self.phase = phase;
        let time = self.time(phase);
        (time.passes, time.tokens) = (time.passes + 1, time.tokens + open.rows as u64);
        self.begin(1, open);
    }

    /// Says how large the batch of the step is.
    pub fn size_step(&mut self, rows: usize, sequences: usize) {
        if let Some(step) = &mut self.open[0] {
            (step.rows, step.sequences) = (rows, sequences);
        }
    }

    pub fn add(&mut self, tensor: TensorMemory) -> u32 {
        let id = self.tensors.len() as u32;
        let kind = (tensor.kind(), tensor.format, tensor.shape.clone());
        let first = *self.firsts.entry(kind).or_insert(id);
        self.kinds.push(first);
        self.tensors.push(tensor);
        id
    }

    pub fn thread_span(&mut self, thread: usize, name: &'static str, start: Instant, end: Instant) {
        if thread >= self.threads.len() {
            self.threads.resize_with(thread + 1, Vec::new);
        }
        let (start, time, most) = (self.at(start), end - start, self.options.events);
        let spans = &mut self.threads[thread];
        if spans.len() < most { spans.push(ThreadSpan { name, start, time }) } else { self.left_out += 1 }
    }

    /// Ends the spans from this level on; what follows happens at `place`.
    pub fn close(&mut self, level: usize, place: Place) {
        let now = Instant::now();
        for level in (level..LEVELS).rev() {
            if let Some(Open { start: Some(start), name, layer, tensor, rows, sequences }) = self.open[level].take() {
                let (start, time) = (self.at(start), now - start);
                let (level, rows, sequences) = (level as u8, rows as u32, sequences as u32);
                let (bytes, operations) = (0, 0);
                self.push(TraceEvent { start, time, level, name, layer, tensor, rows, sequences, bytes, operations });
            }
        }
        if let Some(since) = self.since.replace(now) {
            let part = match self.place {
                Place::Pass => Part::Between,
                Place::Sample => Part::Sampling,
                Place::Plan | Place::Outside => Part::Rest,
            };
            let time = now - since;
            let between = time.saturating_sub(self.inside);
            let times = self.time(self.phase);
            times.time += time;
            times.parts[part as usize] += between;
        }
        (self.place, self.inside) = (place, Duration::ZERO);
    }

    pub fn sample(&mut self, activations: &ActivationMeter) {
        self.resident = (self.options.resident)();
        if self.samples.len() < self.options.events {
            let (at, resident) = (self.at(Instant::now()), self.resident);
            let activations = activations.sample();
            self.samples.push(MemorySample { at, resident, activations });
        }
    }
}
