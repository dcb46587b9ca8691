//! Ollama's API, for the model that is served.

mod answer;
mod options;
mod request;

pub use options::keep_alive;
pub use request::{chat, generate};

use crate::Problem;
use serde_json::{Value, json};

/// The time as RFC 3339 writes it.
pub fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0));
    time.map(|time| time.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)).unwrap_or_default()
}

/// The body of a problem.
pub fn problem(problem: &Problem) -> Value {
    json!({"error": problem.message})
}
