//! Anthropic's API.

mod answer;
mod request;

pub use request::{count_tokens, messages};

use crate::{Problem, ProblemKind};
use serde_json::{Value, json};

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
    json!({"type": "error", "error": {"type": kind, "message": problem.message}})
}
