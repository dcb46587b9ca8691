//! What a bench found, as it is printed, kept and compared.

use super::{Cost, Counts, Interval, Kl, Sample, Samples, Spread, Test, median_interval, signed_rank};
use serde::{Deserialize, Serialize};
use trine_backend::ActivationPrecision;

/// One run of the bench. What is not known is `None`, and `null` in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BenchReport {
    pub trine: String,
    /// The commit that the program was built from, if whoever built it said so.
    #[serde(default)]
    pub commit: Option<String>,
    /// The command line.
    #[serde(default)]
    pub command: Option<String>,
    /// Seconds since 1970.
    pub time: Option<u64>,
    pub machine: Machine,
    /// What ran.
    #[serde(flatten)]
    pub subject: Description,
    /// Threads that computed one token at a time.
    pub threads: usize,
    /// Threads that computed batches of more.
    pub threads_batch: usize,
    /// Their instruction set.
    pub isa: String,
    /// What keys and values were kept as.
    pub cache_type: String,
    /// The precision of the inputs of linear layers.
    #[serde(default = "usual_activations")]
    pub activations: String,
    /// Where the weights lay.
    pub weights_in: String,
    /// Bytes of the process in huge pages when the model was loaded.
    pub huge_bytes: Option<u64>,
    /// From opening the file to a model that is ready.
    pub load_seconds: Option<f64>,
    /// From opening the file to the first token after a prompt of one.
    pub first_token_seconds: Option<f64>,
    /// The most memory of the process at once, pages of the mapped file included.
    pub peak_memory_bytes: Option<u64>,
    /// The highest of a CPU after the runs, in degrees Celsius; unknown without sensors.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// The share of its time that a GPU computed; unknown without one.
    #[serde(default)]
    pub gpu_utilization: Option<f64>,
    /// What activations of this precision change; unknown for float32, which changes nothing.
    pub kl: Option<Kl>,
    /// What keys and values of this type change, with float32 activations; unknown for float32, which changes nothing.
    pub cache_kl: Option<Kl>,
    /// What the machine can do with these threads and instructions.
    pub limits: Limits,
    pub results: Vec<Outcome>,
    /// Another program beside it.
    pub against: Option<Against>,
}

/// Those of reports that do not name them.
fn usual_activations() -> String {
    ActivationPrecision::default().to_string()
}

/// A machine, as far as speeds depend on it and it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The name that the CPU gives itself.
    pub cpu: Option<String>,
    /// Cores that the process may use.
    pub cores: Option<usize>,
    pub memory_bytes: Option<u64>,
    pub os: String,
}

/// A model, as far as its speed depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The file's path, or `synthetic`.
    pub model: String,
    /// The shape of a synthetic model.
    pub shape: Option<String>,
    /// The mixture of a synthetic model, otherwise the format of most bytes.
    pub format: String,
    pub architecture: String,
    pub parameters: u64,
    /// Their bytes.
    pub weights_bytes: u64,
}

/// What was measured of the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes per second read from memory, the median of the samples around runs.
    pub bandwidth: Option<f64>,
    /// The pages that were read.
    pub pages: Option<String>,
    /// Operations per second with bytes, by the threads that compute one token at a time.
    pub int8: Option<f64>,
    /// Operations per second with floats, by these.
    pub f32: Option<f64>,
    /// Operations per second with numbers of bfloat16, by these; null without instructions for them.
    #[serde(default)]
    pub bf16: Option<f64>,
    /// Operations per second with bytes, by the threads that compute batches of more.
    pub int8_batch: Option<f64>,
    /// Operations per second with floats, by these.
    pub f32_batch: Option<f64>,
    /// Operations per second with numbers of bfloat16, by these.
    #[serde(default)]
    pub bf16_batch: Option<f64>,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub test: String,
    /// The median of runs; of all sequences together.
    pub tokens_per_second: f64,
    /// The least that the median may be.
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    /// Tokens per second of the runs.
    #[serde(default)]
    pub speeds: Option<Spread>,
    /// Seconds of a forward pass, of which each gives every sequence of a decode a token, and a prompt up to 512; null where it is not known.
    #[serde(default)]
    pub pass_seconds: Option<Spread>,
    /// How many these were.
    #[serde(default)]
    pub passes: usize,
    /// Median CPU time of the process over wall time.
    #[serde(default)]
    pub cpu: Option<f64>,
    /// Median of the CPU packages.
    #[serde(default)]
    pub watts: Option<f64>,
    /// What the CPUs counted for each token, medians; null where that was not asked for or is not known.
    #[serde(default)]
    pub counts: Option<Counts>,
    /// Tokens per second over the threads that computed them.
    #[serde(default)]
    pub per_core: Option<f64>,
    /// Tokens per second over the peak memory of the process in GiB.
    #[serde(default)]
    pub per_gib: Option<f64>,
    /// Tokens per second over watts: tokens per joule.
    #[serde(default)]
    pub per_watt: Option<f64>,
    /// The least bytes that a run must read, per second.
    pub bytes_per_second: Option<f64>,
    /// A share of what the machine can do is more than all of it: the limit was measured too low, or a cache gave what memory would have.
    #[serde(default)]
    pub beyond_limits: bool,
    /// Of the bandwidth measured around the runs.
    pub bandwidth_share: Option<f64>,
    /// Multiplications and additions with weights, per second.
    pub operations_per_second: Option<f64>,
    /// Those with quantized weights, of the measured peak; null for a model that has none.
    pub int8_share: Option<f64>,
    /// Those with weights that are rounded to bfloat16, of the measured peak; null for a model that has none.
    #[serde(default)]
    pub bf16_share: Option<f64>,
    /// Those with other weights that are plain numbers, of the measured peak; null for a model that has none.
    pub f32_share: Option<f64>,
    /// Median share of CPU time that the host took.
    pub steal: Option<f64>,
    /// Median share of CPU time that other processes used.
    pub others: Option<f64>,
    /// Runs that were repeated because the bandwidth changed meanwhile.
    pub discarded: usize,
    /// Runs that count although it changed.
    pub unsteady: usize,
    /// Tokens of a run.
    pub tokens: usize,
    pub samples: Vec<Sample>,
}

/// The same tests by another program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Against {
    pub peer: String,
    /// What it says its version is.
    pub version: Option<String>,
    /// How long it took to load the model.
    pub load_seconds: Option<f64>,
    /// From opening the file to the first token after a prompt of one.
    #[serde(default)]
    pub first_token_seconds: Option<f64>,
    /// The tests that it can do.
    pub results: Vec<Versus>,
}

/// One test by both.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Versus {
    pub test: String,
    pub tokens_per_second: f64,
    /// The least that it may be.
    pub low: f64,
    pub high: f64,
    /// Trine's speed over the peer's: the median over pairs of neighbouring runs; null where other processes took too much of the machine.
    pub ratio: Option<f64>,
    /// The least that the ratio may be.
    pub ratio_low: Option<f64>,
    pub ratio_high: Option<f64>,
    /// How sure both intervals are.
    pub confidence: f64,
    /// Probability of such pairs or of more different ones when both are equally fast (Wilcoxon's signed-rank test).
    #[serde(default)]
    pub p: Option<f64>,
    /// Median share of CPU time that the host and other processes took during Trine's runs.
    #[serde(default)]
    pub foreign: Option<f64>,
}

/// The share of all CPU time that others may take before a ratio says nothing: programs that wait at barriers lose more than their share.
pub const FOREIGN: f64 = 0.1;

/// Tokens per second of each run.
fn speeds(tokens: usize, samples: &[Sample]) -> Vec<f64> {
    samples.iter().map(|sample| tokens as f64 / sample.seconds).collect()
}

/// Median share of CPU time that others took during the runs.
fn taken_by_others(samples: &[Sample]) -> Option<f64> {
    median(samples.iter().map(|sample| sample.noise.map(|noise| noise.steal + noise.others)))
}

/// The median of values that are all known.
pub(super) fn median(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    median_interval(&values.collect::<Option<Vec<f64>>>()?).map(|interval| interval.median)
}

impl Outcome {
    /// What the runs of a test say; `None` without runs.
    pub fn of(test: Test, samples: Samples, cost: Option<&Cost>, limits: &Limits) -> Option<Outcome> {
        let Samples { kept, discarded, passes } = samples;
        let Interval { median: speed, low, high, confidence } = median_interval(&speeds(test.total(), &kept))?;
        let work = cost.map(|cost| cost.work(test));
        let runs = speed / test.total() as f64;
        let per_second = |amount: u64| amount as f64 * runs;
        let share = |amount: Option<u64>, peak: Option<f64>| Some(per_second(amount.filter(|&n| n > 0)?) / peak?);
        let [int8, bf16, f32] = match test.is_batch() {
            true => [limits.int8_batch, limits.bf16_batch, limits.f32_batch],
            false => [limits.int8, limits.bf16, limits.f32],
        };
        let noise =
            |which: fn(&super::Noise) -> f64| median(kept.iter().map(|sample| sample.noise.as_ref().map(which)));
        let bandwidth_share = median(kept.iter().map(|run| Some(work?.bytes as f64 / run.seconds / run.bandwidth?)));
        let int8_share = share(work.map(|work| work.int8), int8);
        let bf16_share = share(work.map(|work| work.bf16), bf16);
        let f32_share = share(work.map(|work| work.f32), f32);
        let shares = [bandwidth_share, int8_share, bf16_share, f32_share];
        let watts = median(kept.iter().map(|sample| sample.watts));
        Some(Outcome {
            speeds: Spread::of(&speeds(test.total(), &kept)),
            pass_seconds: Spread::of(&passes),
            passes: passes.len(),
            cpu: median(kept.iter().map(|sample| sample.cpu)),
            watts,
            counts: Counts::medians(&kept.iter().map(|sample| sample.counts).collect::<Vec<_>>())
                .map(|counts| counts.over(test.total() as f64)),
            per_core: None,
            per_gib: None,
            per_watt: watts.filter(|&watts| watts > 0.0).map(|watts| speed / watts),
            beyond_limits: shares.into_iter().flatten().any(|share| share > 1.0),
            test: test.to_string(),
            tokens_per_second: speed,
            low,
            high,
            confidence,
            bytes_per_second: work.map(|work| per_second(work.bytes)),
            bandwidth_share,
            operations_per_second: work.map(|work| per_second(work.int8 + work.bf16 + work.f32)),
            int8_share,
            bf16_share,
            f32_share,
            steal: noise(|noise| noise.steal),
            others: noise(|noise| noise.others),
            discarded,
            unsteady: kept.iter().filter(|sample| sample.steady == Some(false)).count(),
            tokens: test.total(),
            samples: kept,
        })
    }

    /// With the speed over these threads and bytes of memory.
    pub fn over(self, threads: usize, memory: Option<u64>) -> Outcome {
        let speed = self.tokens_per_second;
        let per_gib = memory.filter(|&bytes| bytes > 0).map(|bytes| speed / (bytes as f64 / (1u64 << 30) as f64));
        Outcome { per_core: Some(speed / threads.max(1) as f64), per_gib, ..self }
    }

    /// Median share of CPU time that the host and other processes took; `None` where the system does not tell.
    pub fn foreign(&self) -> Option<f64> {
        taken_by_others(&self.samples)
    }

    /// Tokens per second of each run.
    pub fn speeds(&self) -> Vec<f64> {
        speeds(self.tokens, &self.samples)
    }
}

impl Versus {
    /// What the runs of a test by a peer say beside Trine's; `None` without runs. There is no ratio where others took more than `foreign` of the
    /// CPUs, such as [`FOREIGN`].
    pub fn of(test: Test, ours: &Samples, theirs: &Samples, foreign: f64) -> Option<Versus> {
        let speed = median_interval(&speeds(test.total(), &theirs.kept))?;
        let ratios: Vec<f64> =
            ours.kept.iter().zip(&theirs.kept).map(|(ours, theirs)| theirs.seconds / ours.seconds).collect();
        let ratio = median_interval(&ratios)?;
        let took = taken_by_others(&ours.kept);
        let quiet = took.is_none_or(|took| took <= foreign);
        let known = |x: f64| quiet.then_some(x);
        Some(Versus {
            test: test.to_string(),
            tokens_per_second: speed.median,
            low: speed.low,
            high: speed.high,
            ratio: known(ratio.median),
            ratio_low: known(ratio.low),
            ratio_high: known(ratio.high),
            confidence: ratio.confidence,
            p: signed_rank(&ratios).filter(|_| quiet),
            foreign: took,
        })
    }
}
