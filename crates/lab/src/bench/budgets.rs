//! What a model may cost on a machine, and how much slower than before it may be: the file that `trine bench --budgets` reads.

use super::{BenchReport, Error, Outcome, Spread, THRESHOLD};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// No file of budgets is larger.
const MAX_BYTES: u64 = 1 << 20;

/// Thresholds of regressions and limits of costs, as a file in TOML has them:
///
/// ```toml
/// threshold = 0.05               # a test that is slower by more than this share has a regression
/// load_seconds = 0.5
/// first_token_seconds = 0.6
/// peak_memory_bytes = 60_000_000
///
/// [tests.tg64]
/// threshold = 0.03               # for this test
/// tokens_per_second = 1000       # at least
/// p95_ms = 2                     # of a forward pass, at most
/// p99_ms = 5
/// ```
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    threshold: Option<f64>,
    load_seconds: Option<f64>,
    first_token_seconds: Option<f64>,
    peak_memory_bytes: Option<f64>,
    #[serde(default)]
    tests: BTreeMap<String, TestBudget>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestBudget {
    threshold: Option<f64>,
    tokens_per_second: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

/// A limit, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spent {
    /// The test; `None` for what all of them share.
    pub test: Option<String>,
    /// The key of the limit.
    pub what: &'static str,
    pub limit: f64,
    /// `None` where it is unknown.
    pub found: Option<f64>,
    /// Whether the limit is kept; `None` where that is unknown.
    pub kept: Option<bool>,
}

impl Budgets {
    /// Reads a file.
    ///
    /// # Errors
    /// When the file cannot be read, has a key that is not known, or a number that is not above zero.
    pub fn read(path: &Path) -> Result<Budgets, Error> {
        let not = |problem: String| Error::NotBudgets { path: path.display().to_string(), problem };
        let bytes = trine_tensor::read_small(path, MAX_BYTES).map_err(|error| not(error.to_string()))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| not(error.to_string()))?;
        let budgets: Budgets = toml::from_str(text).map_err(|error| not(error.to_string().trim().to_owned()))?;
        let thresholds = budgets.tests.values().map(|test| test.threshold).chain([budgets.threshold]);
        if let Some(found) = thresholds.flatten().find(|threshold| !(*threshold > 0.0 && *threshold < 1.0)) {
            return Err(not(format!("threshold: expected a share between 0 and 1, found {found}")));
        }
        let of_tests = budgets.tests.values().flat_map(|test| [test.tokens_per_second, test.p95_ms, test.p99_ms]);
        let shared = [budgets.load_seconds, budgets.first_token_seconds, budgets.peak_memory_bytes];
        if let Some(found) = of_tests.chain(shared).flatten().find(|limit| !(*limit > 0.0 && limit.is_finite())) {
            return Err(not(format!("expected limits above 0, found {found}")));
        }
        Ok(budgets)
    }

    /// The share by which a test may be slower than before.
    pub fn threshold(&self, test: &str) -> f64 {
        self.tests.get(test).and_then(|test| test.threshold).or(self.threshold).unwrap_or(THRESHOLD)
    }

    /// Every limit beside what was measured. `path` is where the budgets were read.
    ///
    /// # Errors
    /// When there are limits of a test that did not run.
    pub fn check(&self, report: &BenchReport, path: &Path) -> Result<Vec<Spent>, Error> {
        let at_most = |test: Option<&str>, what, limit: Option<f64>, found: Option<f64>| {
            let kept = |limit| found.map(|found| found <= limit);
            limit.map(|limit| Spent { test: test.map(str::to_owned), what, limit, found, kept: kept(limit) })
        };
        let peak = report.peak_memory_bytes.map(|bytes| bytes as f64);
        let mut all = vec![
            at_most(None, "load_seconds", self.load_seconds, report.load_seconds),
            at_most(None, "first_token_seconds", self.first_token_seconds, report.first_token_seconds),
            at_most(None, "peak_memory_bytes", self.peak_memory_bytes, peak),
        ];
        for (name, budget) in &self.tests {
            let Some(outcome) = report.results.iter().find(|outcome| outcome.test == *name) else {
                let ran: Vec<&str> = report.results.iter().map(|outcome| &*outcome.test).collect();
                let problem = format!("tests.{name}: expected one of the tests that run, {}", ran.join(", "));
                return Err(Error::NotBudgets { path: path.display().to_string(), problem });
            };
            let Outcome { pass_seconds, tokens_per_second: speed, .. } = outcome;
            let milliseconds = |which: fn(&Spread) -> f64| pass_seconds.as_ref().map(|spread| 1e3 * which(spread));
            all.push(at_most(Some(name), "p95_ms", budget.p95_ms, milliseconds(|spread| spread.p95)));
            all.push(at_most(Some(name), "p99_ms", budget.p99_ms, milliseconds(|spread| spread.p99)));
            all.push(budget.tokens_per_second.map(|limit| Spent {
                test: Some(name.clone()),
                what: "tokens_per_second",
                limit,
                found: Some(*speed),
                kept: Some(*speed >= limit),
            }));
        }
        Ok(all.into_iter().flatten().collect())
    }
}
