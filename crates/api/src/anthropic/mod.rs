//! Anthropic's API.

mod answer;
mod request;

pub use request::{count_tokens, messages};

use crate::{Problem, ProblemKind};
use serde_json::{Value, json};

/// What clients know a server without threads by: they go on without.
const NO_THREADS: &str = "thread_unsupported_request";

/// The body of a problem.
pub fn problem(problem: &Problem) -> Value {
    let kind = match problem.kind {
        ProblemKind::Invalid | ProblemKind::Method => "invalid_request_error",
        ProblemKind::Authentication => "authentication_error",
        ProblemKind::Permission => "permission_error",
        ProblemKind::NotFound => "not_found_error",
        ProblemKind::TooLarge => "request_too_large",
        ProblemKind::RateLimit => "rate_limit_error",
        ProblemKind::Unavailable => "overloaded_error",
        ProblemKind::Timeout => "timeout_error",
        ProblemKind::Server => "api_error",
    };
    let mut error = json!({"type": kind, "message": problem.message});
    if problem.code == Some(NO_THREADS) {
        error["details"] = json!({"error_code": NO_THREADS, "unsupported": [problem.param]});
    }
    json!({"type": "error", "error": error})
}
