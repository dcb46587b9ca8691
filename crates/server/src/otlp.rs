//! Requests as spans of OpenTelemetry, sent to a collector: OTLP over HTTP, as JSON.

use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Spans that wait for the collector; more are lost, and counted.
const WAITING: usize = 4096;

/// Spans of a message to the collector at most, and how long the first of them waits for others.
const BATCH: (usize, Duration) = (512, Duration::from_secs(2));

/// The trace of a request, as W3C's `traceparent` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// The span that asked, in 16 digits.
    pub parent: Option<String>,
    /// The span of the request, in 16 digits.
    pub span: String,
}

impl TraceContext {
    /// That of a header; without one that makes sense, a new one.
    pub fn of(traceparent: Option<&str>) -> TraceContext {
        let span = format!("{:016x}", fastrand::u64(1..));
        let parts: Vec<&str> = traceparent.unwrap_or_default().trim().split('-').collect();
        let hexadecimal = |text: &str, length: usize| {
            let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            text.len() == length && digits && text.bytes().any(|byte| byte != b'0')
        };
        match parts[..] {
            // Later versions may have more parts.
            [version, trace, parent, _, ..] if version != "ff" && hexadecimal(trace, 32) && hexadecimal(parent, 16) => {
                TraceContext { trace: trace.to_owned(), parent: Some(parent.to_owned()), span }
            }
            _ => TraceContext { trace: format!("{:032x}", fastrand::u128(1..)), parent: None, span },
        }
    }
}

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Span {
    pub context: TraceContext,
    pub method: String,
    pub route: String,
    pub status: u16,
    pub request_id: String,
    pub begun: SystemTime,
    pub ended: SystemTime,
}

impl Span {
    fn to_json(&self) -> Value {
        let nanoseconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos()).to_string();
        let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
        let status = json!({"key": "http.response.status_code", "value": {"intValue": self.status.to_string()}});
        json!({
            "traceId": self.context.trace,
            "spanId": self.context.span,
            "parentSpanId": self.context.parent.as_deref().unwrap_or_default(),
            "name": format!("{} {}", self.method, self.route),
            "kind": 2,
            "startTimeUnixNano": nanoseconds(self.begun),
            "endTimeUnixNano": nanoseconds(self.ended),
            "attributes": [
                text("http.request.method", &self.method),
                text("http.route", &self.route),
                text("http.request.id", &self.request_id),
                status,
            ],
            // 2 is an error, which a request is by the server's fault.
            "status": if self.status >= 500 { json!({"code": 2}) } else { json!({}) },
        })
    }
}

/// Sends spans to a collector, on a thread of its own.
pub struct Exporter(SyncSender<Span>);

impl Exporter {
    /// `endpoint` is the address of a collector, such as `http://127.0.0.1:4318`.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(endpoint: &str) -> std::io::Result<Exporter> {
        let (sender, spans) = sync_channel(WAITING);
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        std::thread::Builder::new().name("otlp".to_owned()).spawn(move || export(&url, &spans))?;
        Ok(Exporter(sender))
    }

    /// Takes a span, unless too many wait.
    pub fn send(&self, span: Span) {
        if self.0.try_send(span).is_err() {
            tracing::debug!("a span is lost: the collector is too slow");
        }
    }
}

fn export(url: &str, spans: &Receiver<Span>) {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10)));
    let agent: ureq::Agent = config.build().into();
    while let Ok(first) = spans.recv() {
        let mut batch = vec![first.to_json()];
        while batch.len() < BATCH.0 {
            match spans.recv_timeout(BATCH.1) {
                Ok(span) => batch.push(span.to_json()),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let service = json!([
            {"key": "service.name", "value": {"stringValue": "trine"}},
            {"key": "service.version", "value": {"stringValue": env!("CARGO_PKG_VERSION")}},
        ]);
        let scope = json!({"scope": {"name": "trine"}, "spans": batch});
        let body = json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [scope]}]});
        if let Err(error) = agent.post(url).content_type("application/json").send(body.to_string()) {
            tracing::warn!(%error, url, "spans are lost");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_where_its_header_makes_sense() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let context = TraceContext::of(Some(&format!("00-{trace}-{parent}-01")));
        assert_eq!((context.trace.as_str(), context.parent.as_deref()), (trace, Some(parent)));
        let zeros = "0".repeat(32);
        for wrong in [
            None,
            Some(""),
            Some("00-4bf9-00f067aa0ba902b7-01"),
            Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some(&format!("00-{zeros}-{parent}-01")),
        ] {
            let context = TraceContext::of(wrong);
            assert!(context.parent.is_none() && context.trace.len() == 32 && context.span.len() == 16, "{wrong:?}");
        }
    }
}
