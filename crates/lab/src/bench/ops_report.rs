//! What [`OpCase`](super::OpCase)s took by each instruction set, and whether one gained more over plain Rust than it does now.

use super::baseline::{expect_samples, machine, parse, positive, same_facts};
use super::{Change, Error, Machine, Verdict, median_interval};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// A loss of speed over plain Rust beyond this is a regression. The two are affected by memory and neighbours in different ways, so it is
/// more than that of a model.
const THRESHOLD: f64 = 0.1;

/// One run of `trine bench ops`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpsReport {
    pub trine: String,
    pub machine: Machine,
    pub threads: usize,
    pub results: Vec<OpOutcome>,
}

/// An operation by an instruction set, or by plain Rust.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpOutcome {
    pub operation: String,
    pub shape: String,
    pub by: String,
    /// The median of runs.
    pub seconds: f64,
    /// The least that the median may be.
    pub low: f64,
    pub high: f64,
    pub confidence: f64,
    /// How many these were: fewer than others where they take long.
    pub runs: usize,
    /// Multiplications and additions, or numbers.
    pub per_second: f64,
    /// How many times as fast as plain Rust, the median over pairs of runs.
    pub times_plain: f64,
    /// Whether it has the bits of the other instruction sets; `None` of plain Rust.
    pub same_bits: Option<bool>,
    /// The ratios of these pairs.
    pub ratios: Vec<f64>,
}

impl OpOutcome {
    /// What the seconds of runs say beside those of plain Rust, which ran in turn; `None` without runs.
    pub fn of(
        case: &super::OpCase,
        by: &str,
        same_bits: Option<bool>,
        times: &[f64],
        plain: &[f64],
    ) -> Option<OpOutcome> {
        let found = median_interval(times)?;
        let ratios: Vec<f64> = plain.iter().zip(times).map(|(plain, time)| plain / time).collect();
        Some(OpOutcome {
            operation: case.name.clone(),
            shape: case.shape.clone(),
            by: by.to_owned(),
            seconds: found.median,
            low: found.low,
            high: found.high,
            confidence: found.confidence,
            runs: times.len(),
            per_second: case.work / found.median,
            times_plain: median_interval(&ratios)?.median,
            same_bits,
            ratios,
        })
    }

    /// What it is called in a comparison.
    pub fn name(&self) -> String {
        format!("{} {} by {}", self.operation, self.shape, self.by)
    }
}

/// An operation then and now, by how much faster it is than plain Rust.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpComparison {
    pub operation: String,
    pub shape: String,
    pub by: String,
    /// The median of the baseline, if that has such an operation.
    pub baseline: Option<f64>,
    pub times_plain: f64,
    #[serde(flatten)]
    pub change: Change,
}

impl OpsReport {
    /// Reads a report.
    ///
    /// # Errors
    /// When the file cannot be read or is none.
    pub fn read(path: &Path) -> Result<OpsReport, Error> {
        let report: OpsReport = parse(path)?;
        let not = |problem: String| Error::NotAReport { path: path.display().to_string(), problem };
        for outcome in &report.results {
            expect_samples(&outcome.name(), outcome.ratios.len()).map_err(not)?;
            if let Some(ratio) = outcome.ratios.iter().find(|ratio| !positive(**ratio)) {
                return Err(not(format!("{}: expected ratios above zero, found {ratio}", outcome.name())));
            }
        }
        Ok(report)
    }

    /// Checks that `then`, which was read from `path`, is of the same machine and number of threads.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_same(&self, then: &OpsReport, path: &Path) -> Result<(), Error> {
        let facts = |report: &OpsReport| {
            [("machine", machine(&report.machine)), ("number of threads", report.threads.to_string())]
        };
        same_facts(&facts(self), &facts(then), path)
    }

    /// Compares what each instruction set gains over plain Rust with the same of `then`, which was read from `path`.
    ///
    /// # Errors
    /// Those of [`OpsReport::check_same`], or when `then` has none of these operations.
    pub fn compare(&self, then: &OpsReport, path: &Path) -> Result<Vec<OpComparison>, Error> {
        self.check_same(then, path)?;
        let same = |now: &OpOutcome| then.results.iter().find(|then| then.name() == now.name());
        if !self.results.iter().any(|now| same(now).is_some()) {
            let names = |report: &OpsReport| report.results.iter().map(OpOutcome::name).collect::<Vec<_>>().join(", ");
            let (expected, found) = (names(self), names(then));
            return Err(Error::OtherTests { path: path.display().to_string(), expected, found });
        }
        // Plain Rust is what the others are compared with.
        let gains = self.results.iter().filter(|now| now.same_bits.is_some());
        let compared = gains.map(|now| {
            let then = same(now);
            OpComparison {
                operation: now.operation.clone(),
                shape: now.shape.clone(),
                by: now.by.clone(),
                baseline: then.map(|then| then.times_plain),
                times_plain: now.times_plain,
                change: match then {
                    Some(then) => Change::of(&now.ratios, &then.ratios, THRESHOLD, |_| None),
                    None => Change::unknown(Verdict::NotInBaseline, THRESHOLD),
                },
            }
        });
        Ok(compared.collect())
    }
}
