//! What a profile says.

use super::histogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a token's time is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Products with weight matrices.
    Products,
    /// Attention, with storing keys and values.
    Attention,
    /// Norms, with the additions fused into them.
    Norms,
    /// All other operations of the device.
    Other,
    /// A forward pass between its operations.
    Between,
    /// Picking tokens, and their text.
    Sampling,
    /// Text to tokens.
    Tokenizer,
    /// Choosing batches, and all that happens outside the engine.
    Rest,
}

impl Part {
    /// All of them.
    pub const ALL: [Part; 8] = [
        Part::Products,
        Part::Attention,
        Part::Norms,
        Part::Other,
        Part::Between,
        Part::Sampling,
        Part::Tokenizer,
        Part::Rest,
    ];

    /// Its name for people.
    pub fn label(self) -> &'static str {
        match self {
            Part::Products => "matrix products",
            Part::Attention => "attention",
            Part::Norms => "norms",
            Part::Other => "other operations",
            Part::Between => "between operations",
            Part::Sampling => "sampling",
            Part::Tokenizer => "tokenizer",
            Part::Rest => "rest",
        }
    }
}

/// The phase of an engine that reads prompts, perhaps with tokens of other sequences beside them: some token has logits that nobody wants.
pub const PREFILL: &str = "prefill";
/// The phase of an engine that generates.
pub const DECODE: &str = "decode";

/// All calls of one operation, over all layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    /// Of the device's method.
    pub name: &'static str,
    pub part: Part,
    /// Such as [`PREFILL`].
    pub phase: &'static str,
    /// Its weight, with `*` for the layer's number.
    pub tensor: Option<String>,
    pub format: Option<&'static str>,
    pub calls: u64,
    pub time: Duration,
    /// Of the calls.
    pub times: Histogram,
    /// Bytes moved at least.
    pub bytes: u64,
    /// Multiplications and additions.
    pub operations: u64,
}

impl Operation {
    /// GB/s.
    pub fn gigabytes_per_second(&self) -> Option<f64> {
        rate(self.bytes, self.time)
    }

    /// Thousand millions of operations per second.
    pub fn gops(&self) -> Option<f64> {
        rate(self.operations, self.time)
    }
}

/// Thousand millions per second, where there is anything to count.
pub(super) fn rate(count: u64, time: Duration) -> Option<f64> {
    (count > 0 && !time.is_zero()).then(|| count as f64 / time.as_nanos() as f64)
}

/// The time of a phase.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Time {
    pub passes: u64,
    /// Tokens in them.
    pub tokens: u64,
    pub time: Duration,
    /// The same divided, in the order of [`Part::ALL`].
    pub parts: [Duration; Part::ALL.len()],
}

/// A weight.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorMemory {
    pub name: String,
    pub format: &'static str,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Bytes that it takes.
    pub bytes: usize,
}

impl TensorMemory {
    /// Its name with `*` for the numbers between dots.
    pub(super) fn kind(&self) -> String {
        let parts = self.name.split('.').map(|part| if part.parse::<u32>().is_ok() { "*" } else { part });
        parts.collect::<Vec<_>>().join(".")
    }
}

/// Tensors that a [`MemoryUse`] names.
const BIGGEST: usize = 10;

/// Who has the memory, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct MemoryUse {
    /// Weights: format, how many tensors, bytes; most bytes first.
    pub weights: Vec<(&'static str, usize, u64)>,
    /// The KV cache, at its largest.
    pub kv_cache: u64,
    /// The most that activations took at once, as float32.
    pub activations: u64,
    /// The process after the last pass, where known.
    pub resident: Option<u64>,
    /// The ten biggest weights.
    pub biggest: Vec<TensorMemory>,
}

impl MemoryUse {
    pub(super) fn of(tensors: &[TensorMemory], kv: usize, activations: usize, resident: Option<u64>) -> MemoryUse {
        let mut formats: BTreeMap<&'static str, (usize, u64)> = BTreeMap::new();
        for tensor in tensors {
            let (count, bytes) = formats.entry(tensor.format).or_default();
            (*count, *bytes) = (*count + 1, *bytes + tensor.bytes as u64);
        }
        let mut weights: Vec<_> = formats.into_iter().map(|(format, (count, bytes))| (format, count, bytes)).collect();
        weights.sort_by_key(|&(_, _, bytes)| std::cmp::Reverse(bytes));
        let mut biggest: Vec<&TensorMemory> = tensors.iter().collect();
        biggest.sort_by_key(|tensor| std::cmp::Reverse(tensor.bytes));
        let biggest = biggest.into_iter().take(BIGGEST).cloned().collect();
        MemoryUse { weights, kv_cache: kv as u64, activations: activations as u64, resident, biggest }
    }
}

/// What a [`Recorder`](super::Recorder) found.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfileReport {
    pub operations: Vec<Operation>,
    /// The time of each phase, in the order in which they came first.
    pub phases: Vec<(&'static str, Time)>,
    pub steps: u64,
    pub memory: MemoryUse,
    /// Events that found no room in the trace.
    pub left_out: u64,
}

impl ProfileReport {
    /// The time of a phase.
    pub fn phase(&self, phase: &str) -> Time {
        let found = self.phases.iter().find(|(known, _)| *known == phase);
        found.map(|(_, time)| time.clone()).unwrap_or_default()
    }

    /// The time of all phases.
    pub fn time(&self) -> Duration {
        self.phases.iter().map(|(_, time)| time.time).sum()
    }
}
