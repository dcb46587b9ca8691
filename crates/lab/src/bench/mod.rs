//! How fast a model runs here, beside what the machine could do.
//!
//! Speeds are medians of whole runs with distribution-free intervals; the bandwidth of memory is measured just before and just after each
//! run, since on shared machines it changes by a factor of two from one minute to the next.

mod baseline;
mod budgets;
mod cost;
mod counters;
mod kl;
mod load;
mod noise;
mod ops;
mod ops_report;
mod peer;
mod power;
mod report;
mod run;
mod spread;
mod stats;
mod trace;

pub use baseline::{Change, Comparison, THRESHOLD, Verdict, compare, expect, read};
pub use budgets::{Budgets, Spent};
pub use cost::{Cost, Work};
pub use counters::{Counters, Counts};
pub use kl::{Kl, Rounding, TEXT, kl};
pub use load::{Batching, LoadReport, Workload, load};
pub use noise::{Noise, Snapshot};
pub use ops::{OPS, OpCase, OpSizes, op_formats};
pub use ops_report::{OpComparison, OpOutcome, OpsReport};
pub use peer::{Peer, PeerKind, PeerOptions};
pub use power::{Energy, temperature};
pub use report::{Against, BenchReport, Description, FOREIGN, Limits, Machine, Outcome, Versus};
pub use run::{Run, Sample, Samples, Subject, Trine, measure};
pub use spread::Spread;
pub use stats::{Interval, Shift, median_interval, shift, signed_rank};
pub use trace::{RequestRecord, requests_json, write_requests};

use serde::{Deserialize, Serialize};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Test {
    /// Which part of a model's work.
    pub kind: Kind,
    /// Tokens of each sequence.
    pub tokens: usize,
    pub sequences: usize,
    /// Tokens that each sequence already has.
    pub depth: usize,
}

/// A part of a model's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Tokens that are known, all at once.
    Prefill,
    /// One token after the other.
    Decode,
}

impl Test {
    /// Tokens that are computed.
    pub fn total(self) -> usize {
        self.tokens * self.sequences
    }

    /// Whether several tokens are computed together.
    pub fn is_batch(self) -> bool {
        let together = if self.kind == Kind::Prefill { self.tokens } else { self.sequences };
        together > 1
    }
}

/// `pp512`, `tg64`, `tg64x16`, `tg64@d4096`.
impl std::fmt::Display for Test {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.kind == Kind::Prefill { "pp" } else { "tg" }, self.tokens)?;
        if self.sequences > 1 {
            write!(f, "x{}", self.sequences)?;
        }
        if self.depth > 0 {
            write!(f, "@d{}", self.depth)?;
        }
        Ok(())
    }
}

/// What can go wrong when something is measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The caller gave up.
    #[error("cancelled")]
    Cancelled,
    /// The model, or its device.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The engine refused a request.
    #[error(transparent)]
    Engine(#[from] trine_engine::Error),
    /// A test that the model cannot do.
    #[error("{test}: the model's context has {context} tokens")]
    Context { test: Test, context: usize },
    /// A file of measurements cannot be read or written.
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    /// A file that is no report of a bench.
    #[error("{path}: expected a report of `trine bench`: {problem}")]
    NotAReport { path: String, problem: String },
    /// A file of budgets that cannot be used.
    #[error("{path}: expected budgets of `trine bench`: {problem}")]
    NotBudgets { path: String, problem: String },
    /// A baseline of something else.
    #[error("{path}: the baseline is of another {what}: expected {expected}, found {found}")]
    Another { path: String, what: &'static str, expected: String, found: String },
    /// A baseline of other tests.
    #[error("{path}: the baseline has none of these tests: expected {expected}, found {found}")]
    OtherTests { path: String, expected: String, found: String },
    /// Another program that does not do what it should.
    #[error("{peer}: {problem}")]
    Peer { peer: String, problem: String },
}
