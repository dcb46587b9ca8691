//! What each tensor of a conversion took.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use trine_backend::profile::{Part, Recorder, TensorMemory};
use trine_tensor::{TensorInfo, View};

/// What threads do with a piece of rows.
#[derive(Clone, Copy)]
pub(super) enum Stage {
    Decode,
    Encode,
    /// Decoding what was encoded, and comparing.
    Check,
}

impl Stage {
    const ALL: [&str; 3] = ["decode", "encode", "check"];
}

/// What one tensor took. Whoever is not reading or writing it waits for the threads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorTime {
    pub name: String,
    pub from: &'static str,
    pub to: &'static str,
    pub weights: u64,
    /// Bytes read, and written.
    pub bytes: [u64; 2],
    pub time: Duration,
    /// Finding, stacking or unpacking it. The system reads what is mapped when threads decode it.
    pub read: Duration,
    /// Writing, hashing included.
    pub write: Duration,
    /// What all threads together spent decoding, encoding, and checking what they had encoded.
    pub threads: [Duration; 3],
}

impl TensorTime {
    /// Weights a second.
    pub fn rate(&self) -> f64 {
        self.weights as f64 / self.time.as_secs_f64()
    }

    /// As an object, in milliseconds.
    fn json(&self) -> Value {
        let millis = |time: Duration| 1e3 * time.as_secs_f64();
        let [decode, encode, check] = self.threads.map(millis);
        json!({
            "name": self.name, "from": self.from, "to": self.to, "weights": self.weights,
            "bytes_before": self.bytes[0], "bytes_after": self.bytes[1],
            "ms": millis(self.time), "read_ms": millis(self.read), "write_ms": millis(self.write),
            "threads_decode_ms": decode, "threads_encode_ms": encode, "threads_check_ms": check,
            "weights_per_second": self.rate(),
        })
    }
}

/// A profile of a conversion: [`write`](fn@super::write) and [`write_folder`](super::write_folder) fill it. The new file has the same bytes.
pub struct ConversionProfile {
    recorder: Recorder,
    tensors: Vec<TensorTime>,
    /// Since when the current tensor is worked on.
    begin: Instant,
}

impl ConversionProfile {
    /// An empty profile: the trace of `recorder` gets a step for each tensor, with reading and encoding as phases, writing as operations, and what each
    /// thread does.
    pub fn new(recorder: Recorder) -> ConversionProfile {
        ConversionProfile { recorder, tensors: Vec::new(), begin: Instant::now() }
    }

    /// The tensors, in the order in which they were written.
    pub fn tensors(&self) -> &[TensorTime] {
        &self.tensors
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    pub(super) fn start(&self) {
        self.recorder.start();
    }

    /// Ends it. The trace's `otherData` gets an object for each tensor.
    pub(super) fn finish(&self) {
        self.recorder.stop();
        self.recorder.note("tensors", self.tensors.iter().map(TensorTime::json).collect());
    }

    /// Begins a tensor, which is read first.
    pub(super) fn begin_tensor(&mut self, info: &TensorInfo) {
        let (name, format, shape) = (info.name.clone(), info.format.name, info.shape.clone());
        let (weights, bytes) = (shape.iter().product::<usize>() as u64, info.size().unwrap_or_default());
        let memory = TensorMemory { name: name.clone(), format, shape, bytes: bytes as usize };
        self.recorder.begin_step("tensor", Some(self.recorder.add(memory)));
        self.recorder.begin_phase("read", 0);
        self.tensors.push(TensorTime { name, to: format, weights, bytes: [0, bytes], ..TensorTime::default() });
        self.begin = Instant::now();
    }

    /// The tensor is there, in this format: threads have it.
    pub(super) fn end_read(&mut self, view: &View) {
        let tensor = self.tensors.last_mut().expect("one has begun");
        (tensor.read, tensor.from, tensor.bytes[0]) = (self.begin.elapsed(), view.format.name, view.bytes.len() as u64);
        self.recorder.begin_phase("encode", 0);
    }

    pub(super) fn write<T>(&mut self, body: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let result = self.recorder.time("write", Part::Other, body);
        self.tensors.last_mut().expect("one has begun").write += begin.elapsed();
        result
    }

    /// Counts what threads did for the tensor.
    pub(super) fn threads(&mut self, times: [Duration; 3]) {
        let sums = &mut self.tensors.last_mut().expect("one has begun").threads;
        sums.iter_mut().zip(times).for_each(|(sum, time)| *sum += time);
    }

    pub(super) fn end_tensor(&mut self) {
        self.recorder.end_step();
        self.recorder.sample_memory(0);
        self.tensors.last_mut().expect("one has begun").time = self.begin.elapsed();
    }
}

/// Tells what the time of a thread goes to, if anybody wants to know.
pub(super) struct Laps<'a> {
    recorder: Option<&'a Recorder>,
    thread: usize,
    since: Option<Instant>,
    times: [Duration; 3],
}

impl<'a> Laps<'a> {
    pub fn new(recorder: Option<&'a Recorder>, thread: usize) -> Laps<'a> {
        Laps { recorder, thread, since: None, times: Default::default() }
    }

    /// A piece of work begins.
    pub fn begin(&mut self) {
        self.since = self.recorder.map(|_| Instant::now());
        self.times = Default::default();
    }

    /// What was done since the last lap.
    pub fn lap(&mut self, stage: Stage) {
        let (Some(recorder), Some(since)) = (self.recorder, self.since) else { return };
        let now = Instant::now();
        self.times[stage as usize] += now - since;
        self.since = Some(now);
        if recorder.threads() {
            recorder.thread_span(self.thread, Stage::ALL[stage as usize], since);
        }
    }

    pub fn times(&self) -> [Duration; 3] {
        self.times
    }
}
