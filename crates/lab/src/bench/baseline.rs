//! Whether a model runs slower than it did.

use super::report::median;
use super::{BenchReport, Budgets, Description, Error, Machine, Outcome, Shift, Test, shift};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A loss of speed beyond this is a regression, unless [`Budgets`] say otherwise.
pub const THRESHOLD: f64 = 0.05;

/// Bandwidths that differ by more are of two states of the machine, which may be why speeds differ where memory has a part in them.
const SAME_STATE: f64 = 0.15;

/// When others take so much more of the CPUs than before, what is slower need not be Trine.
const SAME_NOISE: f64 = 0.05;

/// Most runs of a test in a file, since an exact test takes time.
const MOST: usize = 200;
/// No report is larger.
const MAX_BYTES: u64 = 64 << 20;

/// A test then and now.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    pub test: String,
    /// The median of the baseline, if that has such a test.
    pub baseline: Option<f64>,
    pub tokens_per_second: f64,
    #[serde(flatten)]
    pub change: Change,
}

/// What changed since the baseline, and what follows. What is not known is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    pub ratio: Option<f64>,
    /// The least that it may be, at 95 %.
    pub low: Option<f64>,
    pub high: Option<f64>,
    /// Probability of such samples when nothing has changed.
    pub p: Option<f64>,
    /// The share by which it may be slower.
    pub threshold: f64,
    /// What follows.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// By more than the threshold, and no chance.
    Regression,
    /// No chance, but not more than the threshold.
    Slower,
    Faster,
    /// If there is a difference, it is below the threshold.
    NoDifference,
    /// The samples do not tell.
    Unclear {
        /// How many more runs of each are likely to, if they vary as these do.
        more: usize,
    },
    /// As a regression, but others took more of the CPUs than before, or it is not known what they took.
    OtherNoise {
        /// Their share of the time of all CPUs then, 0 to 1.
        then: Option<f64>,
        now: Option<f64>,
    },
    /// The baseline has no such test.
    NotInBaseline,
    /// Memory had another speed then, which may be why it is slower, or hide that it is.
    OtherBandwidth {
        /// Bytes per second then.
        then: f64,
        now: f64,
    },
}

impl Verdict {
    /// Whether it stays open if Trine is slower.
    pub fn is_open(self) -> bool {
        matches!(self, Verdict::Unclear { .. } | Verdict::OtherNoise { .. } | Verdict::OtherBandwidth { .. })
    }
}

/// Reads a report.
///
/// # Errors
/// When the file cannot be read or is none.
pub fn read(path: &Path) -> Result<BenchReport, Error> {
    let not = |problem: String| Error::NotAReport { path: path.display().to_string(), problem };
    let report: BenchReport = parse(path)?;
    for outcome in &report.results {
        let test = &outcome.test;
        expect_samples(test, outcome.samples.len()).map_err(not)?;
        let bad = |sample: &&super::Sample| !positive(sample.seconds) || !sample.bandwidth.is_none_or(positive);
        if let Some(sample) = outcome.samples.iter().find(bad) {
            return Err(not(format!("{test}: expected samples above zero, found {sample:?}")));
        }
    }
    Ok(report)
}

/// What the JSON of a file says.
pub(super) fn parse<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let not = |problem: String| Error::NotAReport { path: path.display().to_string(), problem };
    let text = trine_tensor::read_small(path, MAX_BYTES).map_err(|error| not(error.to_string()))?;
    serde_json::from_slice(&text).map_err(|error| not(error.to_string()))
}

pub(super) fn expect_samples(test: &str, found: usize) -> Result<(), String> {
    let fits = (1..=MOST).contains(&found);
    if fits { Ok(()) } else { Err(format!("{test}: expected 1 to {MOST} samples, found {found}")) }
}

pub(super) fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

/// That a report, read from `path`, has one of these tests at least.
///
/// # Errors
/// When it has none.
pub fn expect(then: &BenchReport, tests: &[Test], path: &Path) -> Result<(), Error> {
    let expected: Vec<String> = tests.iter().map(Test::to_string).collect();
    let found: Vec<&str> = then.results.iter().map(|outcome| outcome.test.as_str()).collect();
    if expected.iter().any(|test| found.contains(&test.as_str())) {
        return Ok(());
    }
    let path = path.display().to_string();
    Err(Error::OtherTests { path, expected: expected.join(", "), found: found.join(", ") })
}

/// Compares each test of `now` with the same of `then`, by the thresholds of `budgets`. `path` is where `then` was read.
///
/// # Errors
/// When the two are not of the same machine, model, threads or instruction set.
pub fn compare(
    now: &BenchReport,
    then: &BenchReport,
    path: &Path,
    budgets: &Budgets,
) -> Result<Vec<Comparison>, Error> {
    // What a model is, since the same file has many paths, and a path may have another file tomorrow.
    let model = |report: &BenchReport| {
        let Description { architecture, parameters, weights_bytes, .. } = &report.subject;
        format!("{architecture}, {parameters} weights in {weights_bytes} bytes")
    };
    let facts = |report: &BenchReport| {
        [
            ("machine", machine(&report.machine)),
            ("model", model(report)),
            ("format", report.subject.format.clone()),
            ("number of threads", format!("{}, for batches {}", report.threads, report.threads_batch)),
            ("instruction set", report.isa.clone()),
            ("cache type", report.cache_type.clone()),
            ("precision of activations", report.activations.clone()),
        ]
    };
    same_facts(&facts(now), &facts(then), path)?;
    let same = |now: &Outcome| then.results.iter().find(|then| then.test == now.test);
    Ok(now.results.iter().map(|now| judge(now, same(now), budgets.threshold(&now.test))).collect())
}

/// A machine in words.
pub(super) fn machine(machine: &Machine) -> String {
    let (cpu, cores) = (machine.cpu.as_deref().unwrap_or("unknown CPU"), machine.cores);
    format!("{cpu}, cores: {}, {}", cores.map_or("unknown".into(), |n| n.to_string()), machine.os)
}

/// That a report and its baseline, read from `path`, are of the same things.
pub(super) fn same_facts(now: &[(&'static str, String)], then: &[(&str, String)], path: &Path) -> Result<(), Error> {
    match now.iter().zip(then).find(|((_, now), (_, then))| now != then) {
        None => Ok(()),
        Some(((what, expected), (_, found))) => {
            let (expected, found) = (expected.clone(), found.clone());
            Err(Error::Another { path: path.display().to_string(), what, expected, found })
        }
    }
}

fn judge(now: &Outcome, then: Option<&Outcome>, threshold: f64) -> Comparison {
    let change = match then {
        Some(then) => Change::of(&now.speeds(), &then.speeds(), threshold, |found| weigh(found, now, then, threshold)),
        None => Change::unknown(Verdict::NotInBaseline, threshold),
    };
    let baseline = then.map(|then| then.tokens_per_second);
    Comparison { test: now.test.clone(), baseline, tokens_per_second: now.tokens_per_second, change }
}

/// What else than Trine may have changed, where that decides.
fn weigh(found: Shift, now: &Outcome, then: &Outcome, threshold: f64) -> Option<Verdict> {
    let Shift { ratio, interval, .. } = found;
    let (_, high) = interval?;
    let memory = by_memory(then, now);
    let known = |outcome| bandwidth(outcome).unwrap_or(0.0);
    let other_bandwidth = Verdict::OtherBandwidth { then: known(then), now: known(now) };
    // Slower than memory explains.
    if high < memory.min(1.0) && ratio < (1.0 - threshold) * memory.min(1.0) {
        return match (then.foreign(), now.foreign()) {
            (Some(then), Some(now)) if now <= then + SAME_NOISE => Some(Verdict::Regression),
            (then, now) => Some(Verdict::OtherNoise { then, now }),
        };
    }
    // Faster memory may hide that Trine is slower.
    let by_memory = high < 1.0 && ratio < 1.0 - threshold || memory > 1.0 + threshold;
    by_memory.then_some(other_bandwidth)
}

impl Change {
    /// Of these speeds, where `weigh` may know better what follows.
    pub(super) fn of(
        now: &[f64],
        then: &[f64],
        threshold: f64,
        weigh: impl FnOnce(Shift) -> Option<Verdict>,
    ) -> Change {
        let Some(found) = shift(now, then) else { return Change::unknown(Verdict::Unclear { more: 1 }, threshold) };
        let Shift { ratio, interval, p } = found;
        let by_interval = || match interval {
            Some((_, high)) if high < 1.0 && ratio < 1.0 - threshold => Verdict::Regression,
            Some((_, high)) if high < 1.0 => Verdict::Slower,
            Some((low, _)) if low > 1.0 => Verdict::Faster,
            Some((low, high)) if low >= 1.0 - threshold && high <= 1.0 / (1.0 - threshold) => Verdict::NoDifference,
            interval => Verdict::Unclear { more: more(interval, now.len().min(then.len()), threshold) },
        };
        let (low, high) = interval.unzip();
        Change {
            ratio: Some(ratio),
            low,
            high,
            p: Some(p),
            threshold,
            verdict: weigh(found).unwrap_or_else(by_interval),
        }
    }

    pub(super) fn unknown(verdict: Verdict, threshold: f64) -> Change {
        Change { ratio: None, low: None, high: None, p: None, threshold, verdict }
    }
}

/// Runs that are missing from `n` of each until the interval is as narrow as the threshold: its width goes with the square root of their
/// number. Four of each are the fewest of which the test rejects anything.
fn more(interval: Option<(f64, f64)>, n: usize, threshold: f64) -> usize {
    let Some((low, high)) = interval else { return 4usize.saturating_sub(n).max(1) };
    let narrow = -(1.0 - threshold).ln();
    let needed = n as f64 * ((high / low).ln() / 2.0 / narrow).powi(2);
    (needed.ceil() as usize).saturating_sub(n).max(1)
}

/// The ratio of speeds that another bandwidth alone may cause; 1 where it is about the same. Of the time of a test, memory takes the share
/// of the bandwidth that it uses, or all of it where that is unknown.
fn by_memory(then: &Outcome, now: &Outcome) -> f64 {
    match (bandwidth(then), bandwidth(now)) {
        (Some(before), Some(after)) if (before - after).abs() > SAME_STATE * before.max(after) => {
            let share = then.bandwidth_share.map_or(1.0, |share| share.clamp(0.0, 1.0));
            1.0 / (1.0 - share + share * before / after)
        }
        _ => 1.0,
    }
}

/// The median bandwidth around the runs.
fn bandwidth(outcome: &Outcome) -> Option<f64> {
    median(outcome.samples.iter().map(|sample| sample.bandwidth))
}
