//! Who came, waited, read a prompt and generated when, as a trace.

use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;
use trine_engine::{Timing, Usage};

/// A request that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestRecord {
    pub usage: Usage,
    pub timing: Timing,
    /// [`FinishReason::name`](trine_engine::FinishReason::name).
    pub finish_reason: &'static str,
}

impl RequestRecord {
    /// How long it waited for its turn.
    pub fn queue(&self) -> Duration {
        self.timing.started.unwrap_or(self.timing.finished).saturating_sub(self.timing.submitted)
    }

    /// From its turn to its first token.
    pub fn prefill(&self) -> Option<Duration> {
        Some(self.timing.first_token?.saturating_sub(self.timing.started?))
    }

    /// From its submission to its first token.
    pub fn first_token(&self) -> Option<Duration> {
        Some(self.timing.first_token?.saturating_sub(self.timing.submitted))
    }

    /// From its first token to its end.
    pub fn decode(&self) -> Option<Duration> {
        Some(self.timing.finished.saturating_sub(self.timing.first_token?))
    }
}

/// An object for each request, with times in milliseconds; null is a time that there was not.
pub fn requests_json<'a>(requests: impl IntoIterator<Item = &'a RequestRecord>) -> Value {
    let millis = |time: Duration| 1e3 * time.as_secs_f64();
    let object = |request: &RequestRecord| {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = request.usage;
        json!({
            "prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens, "completion_tokens": completion_tokens,
            "finish_reason": request.finish_reason,
            "queue_ms": millis(request.queue()), "prefill_ms": request.prefill().map(millis),
            "ttft_ms": request.first_token().map(millis), "decode_ms": request.decode().map(millis),
        })
    };
    requests.into_iter().map(object).collect()
}

/// Writes a trace that Perfetto (<https://ui.perfetto.dev>) and `chrome://tracing` open: a row for each request, in the order in which they
/// came, with the time that it waited, that its prompt took and that its answer took.
///
/// # Errors
/// Those of `out`.
pub fn write_requests(requests: &[RequestRecord], out: &mut impl Write) -> io::Result<()> {
    let mut requests: Vec<&RequestRecord> = requests.iter().collect();
    requests.sort_by_key(|request| request.timing.submitted);
    let other = json!({ "requests": requests_json(requests.iter().copied()) });
    write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{other},\"traceEvents\":[")?;
    let name = json!({ "name": "process_name", "ph": "M", "pid": 1, "tid": 0, "args": { "name": "trine" } });
    write!(out, "\n{name}")?;
    for (row, request) in requests.iter().enumerate() {
        for event in events(row + 1, request) {
            write!(out, ",\n{event}")?;
        }
    }
    writeln!(out, "\n]}}")
}

/// The name of a row, and its spans.
fn events(row: usize, request: &RequestRecord) -> Vec<Value> {
    let RequestRecord { usage, timing, finish_reason } = request;
    let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
    let Timing { submitted, started, first_token, finished } = *timing;
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let span = |name: &str, from: Duration, to: Duration, args: Value| {
        let dur = micros(to.saturating_sub(from));
        json!({ "name": name, "ph": "X", "pid": 1, "tid": row, "ts": micros(from), "dur": dur, "args": args })
    };
    let mut events = vec![
        json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": row, "args": { "name": format!("request {row}") } }),
        json!({ "name": "thread_sort_index", "ph": "M", "pid": 1, "tid": row, "args": { "sort_index": row } }),
        span("waits", submitted, started.unwrap_or(finished), json!({})),
    ];
    if let Some(started) = started {
        let tokens = json!({ "prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens });
        events.push(span("prompt", started, first_token.unwrap_or(finished), tokens));
    }
    if let Some(first) = first_token {
        let args = json!({ "completion_tokens": completion_tokens, "finish_reason": finish_reason });
        events.push(span("answer", first, finished, args));
    }
    events
}
