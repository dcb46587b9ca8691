//! Requests as spans of OpenTelemetry, sent to a collector: OTLP over HTTP, as JSON.

use serde_json::{Value, json};
use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use trine_engine::{FinishReason, Timing, Usage};

/// Spans that wait for the collector; more are dropped.
const WAITING: usize = 4096;

/// Spans of a message to the collector at most, and how long the first of them waits for others.
const BATCH: (usize, Duration) = (512, Duration::from_secs(2));

/// How long the end waits for a collector.
const LAST: Duration = Duration::from_secs(2);

/// The trace of a request, as W3C's `traceparent` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// The span that asked, in 16 digits.
    pub parent: Option<String>,
    /// The span of the request, in 16 digits.
    pub span: String,
    /// Whether spans of the trace are kept; who asked decides.
    pub sampled: bool,
    /// What tracers of a trace that goes on noted in `tracestate`.
    pub state: String,
}

impl TraceContext {
    /// That of the headers; without a `traceparent` that makes sense, a new one.
    pub fn of(traceparent: Option<&str>, tracestate: &str) -> TraceContext {
        let span = format!("{:016x}", fastrand::u64(1..));
        let parts: Vec<&str> = traceparent.unwrap_or_default().trim().split('-').collect();
        let hexadecimal = |text: &str, length: usize| {
            let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            text.len() == length && digits && text.bytes().any(|byte| byte != b'0')
        };
        match parts[..] {
            // Later versions may have more parts.
            [version, trace, parent, flags, ..]
                if version != "ff" && hexadecimal(trace, 32) && hexadecimal(parent, 16) && flags.len() == 2 =>
            {
                let sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
                let (trace, state) = (trace.to_owned(), tracestate.to_owned());
                TraceContext { trace, parent: Some(parent.to_owned()), span, sampled, state }
            }
            _ => {
                let trace = format!("{:032x}", fastrand::u128(1..));
                TraceContext { trace, parent: None, span, sampled: true, state: String::new() }
            }
        }
    }
}

/// What a model did for a request.
#[derive(Debug, Default)]
pub struct Work {
    /// As the conventions for generative AI name it: `chat`, `text_completion` or `embeddings`.
    pub operation: &'static str,
    pub model: String,
    /// Once it is known.
    usage: Option<Usage>,
    finish_reasons: Vec<&'static str>,
    /// When the first answer had its turn and its first token, after the request came.
    queue: Option<Duration>,
    first_token: Option<Duration>,
}

/// Where handlers note what was done for a request: among its extensions.
#[derive(Clone, Debug, Default)]
pub struct Note(Arc<Mutex<Option<Work>>>);

impl Note {
    /// That of a request.
    pub fn of(request: &axum::extract::Request) -> Note {
        request.extensions().get().cloned().unwrap_or_default()
    }

    /// Begins the work on a request.
    pub fn begin(&self, operation: &'static str, model: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Work { operation, model: model.to_owned(), ..Work::default() });
    }

    /// Adds an answer, whose prompt counts if it is the first.
    pub fn answer(&self, first: bool, reason: &FinishReason, usage: Usage, timing: Timing) {
        let mut work = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(work) = &mut *work else { return };
        work.finish_reasons.push(reason.name());
        let total = work.usage.get_or_insert_default();
        total.completion_tokens += usage.completion_tokens;
        if first {
            (total.prompt_tokens, total.cached_tokens) = (usage.prompt_tokens, usage.cached_tokens);
            let after = |time: Option<Duration>| time.map(|time| time.saturating_sub(timing.submitted));
            (work.queue, work.first_token) = (after(timing.started), after(timing.first_token));
        }
    }

    /// Adds the tokens of texts that were embedded.
    pub fn embedded(&self, tokens: usize) {
        if let Some(work) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            work.usage = Some(Usage { prompt_tokens: tokens, ..Usage::default() });
        }
    }

    fn take(&self) -> Option<Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// An attribute, with its value as OTLP writes it.
fn attribute(key: &str, value: Value) -> Value {
    json!({"key": key, "value": value})
}

fn text(key: &str, value: &str) -> Value {
    attribute(key, json!({"stringValue": value}))
}

fn texts(key: &str, values: &[&str]) -> Value {
    let values: Vec<Value> = values.iter().map(|value| json!({"stringValue": value})).collect();
    attribute(key, json!({"arrayValue": {"values": values}}))
}

fn number(key: &str, value: usize) -> Value {
    // Numbers of 64 bits are texts in JSON.
    attribute(key, json!({"intValue": value.to_string()}))
}

impl Work {
    /// The attributes of <https://opentelemetry.io/docs/specs/semconv/gen-ai/>, and vLLM's of latencies.
    fn attributes(&self) -> Vec<Value> {
        let mut attributes = vec![
            text("gen_ai.operation.name", self.operation),
            text("gen_ai.provider.name", "trine"),
            text("gen_ai.request.model", &self.model),
            text("gen_ai.response.model", &self.model),
        ];
        if let Some(usage) = self.usage {
            attributes.extend([
                number("gen_ai.usage.input_tokens", usage.prompt_tokens),
                number("gen_ai.usage.output_tokens", usage.completion_tokens),
                number("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens),
                texts("gen_ai.response.finish_reasons", &self.finish_reasons),
            ]);
        }
        for (key, time) in
            [("gen_ai.latency.time_in_queue", self.queue), ("gen_ai.latency.time_to_first_token", self.first_token)]
        {
            attributes.extend(time.map(|time| attribute(key, json!({"doubleValue": time.as_secs_f64()}))));
        }
        attributes
    }
}

/// A request that is over.
#[derive(Clone, Debug)]
pub struct Span {
    pub context: TraceContext,
    pub method: String,
    /// The pattern of its path; none if there is no such path.
    pub route: Option<String>,
    pub path: String,
    pub scheme: &'static str,
    pub status: u16,
    pub request_id: String,
    pub begun: SystemTime,
    pub ended: SystemTime,
    pub note: Note,
}

impl Span {
    fn to_json(&self) -> Value {
        let nanoseconds =
            |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos()).to_string();
        let mut attributes = vec![
            text("http.request.method", &self.method),
            text("url.path", &self.path),
            text("url.scheme", self.scheme),
            number("http.response.status_code", self.status.into()),
            texts("http.response.header.x-request-id", &[&self.request_id]),
        ];
        let route = self.route.as_deref();
        attributes.extend(route.map(|route| text("http.route", route)));
        attributes.extend(self.note.take().iter().flat_map(Work::attributes));
        // A request that fails by the server's fault.
        let failed = self.status >= 500;
        attributes.extend(failed.then(|| text("error.type", &self.status.to_string())));
        json!({
            "traceId": self.context.trace,
            "spanId": self.context.span,
            "traceState": self.context.state,
            "parentSpanId": self.context.parent.as_deref().unwrap_or_default(),
            "name": route.map_or_else(|| self.method.clone(), |route| format!("{} {route}", self.method)),
            // That of a server.
            "kind": 2,
            "startTimeUnixNano": nanoseconds(self.begun),
            "endTimeUnixNano": nanoseconds(self.ended),
            "attributes": attributes,
            // 2 is an error.
            "status": if failed { json!({"code": 2}) } else { json!({}) },
        })
    }
}

/// Sends spans to a collector, on a thread of its own.
pub struct Exporter {
    /// The thread's spans, and what is gone when it has ended.
    thread: Mutex<Option<(SyncSender<Span>, Receiver<()>)>>,
    outage: Arc<Outage>,
}

/// When the collector takes no spans, for what reason, or takes them again.
pub type TellOutage = dyn Fn(Result<(), String>) + Send + Sync;

/// Spans that the collector did not take.
struct Outage {
    lasts: AtomicBool,
    dropped: AtomicU64,
    tell: Box<TellOutage>,
}

impl Outage {
    fn drop_spans(&self, count: usize, why: impl Display) {
        self.dropped.fetch_add(count as u64, Relaxed);
        if !self.lasts.swap(true, Relaxed) {
            (self.tell)(Err(why.to_string()));
        }
    }

    fn end(&self) {
        if self.lasts.swap(false, Relaxed) {
            (self.tell)(Ok(()));
        }
    }
}

impl Exporter {
    /// `endpoint` is the address of a collector, such as `http://127.0.0.1:4318`. `tell` hears when an outage begins, and when it is over.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(endpoint: &str, tell: Box<TellOutage>) -> std::io::Result<Exporter> {
        let (sender, spans) = sync_channel(WAITING);
        let (alive, ended) = channel();
        let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
        let outage = Arc::new(Outage { lasts: AtomicBool::new(false), dropped: AtomicU64::new(0), tell });
        let of = outage.clone();
        let run = move || export(&url, &spans, &of, alive);
        std::thread::Builder::new().name("otlp".to_owned()).spawn(run)?;
        Ok(Exporter { thread: Mutex::new(Some((sender, ended))), outage })
    }

    /// Takes a span, unless too many wait.
    pub fn send(&self, span: Span) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.as_ref().is_some_and(|(sender, _)| sender.try_send(span).is_err()) {
            self.outage.drop_spans(1, format!("{WAITING} wait for the collector"));
        }
    }

    /// Spans that the collector did not take.
    pub fn dropped(&self) -> u64 {
        self.outage.dropped.load(Relaxed)
    }

    /// Sends what waits, and takes no more. A collector that does not answer keeps nobody waiting for long.
    pub fn end(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((sender, ended)) = thread {
            drop(sender);
            if ended.recv_timeout(LAST) == Err(RecvTimeoutError::Timeout) {
                self.outage.drop_spans(0, format!("no answer within {} s", LAST.as_secs()));
            }
        }
    }
}

/// Sends spans until there are no more to come. `_alive` is gone then.
fn export(url: &str, spans: &Receiver<Span>, outage: &Outage, _alive: Sender<()>) {
    let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(10)));
    // One who sends spans elsewhere does not take them.
    let agent: ureq::Agent = config.max_redirects(0).http_status_as_error(false).build().into();
    let mut dropped = 0;
    while let Ok(first) = spans.recv() {
        let mut batch = vec![first.to_json()];
        let due = Instant::now() + BATCH.1;
        while batch.len() < BATCH.0 {
            match spans.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(span) => batch.push(span.to_json()),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        let count = batch.len();
        let service = [text("service.name", "trine"), text("service.version", env!("CARGO_PKG_VERSION"))];
        let scope = json!({"scope": {"name": "trine"}, "spans": batch});
        let body = json!({"resourceSpans": [{"resource": {"attributes": service}, "scopeSpans": [scope]}]});
        match agent.post(url).content_type("application/json").send(body.to_string()) {
            Ok(answer) if !answer.status().is_success() => {
                outage.drop_spans(count, format!("{url}: status {}", answer.status()));
            }
            Err(error) => outage.drop_spans(count, format!("{url}: {error}")),
            // Nor were there too many meanwhile.
            Ok(_) if outage.dropped.load(Relaxed) == dropped => outage.end(),
            Ok(_) => {}
        }
        dropped = outage.dropped.load(Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_goes_on_where_its_header_makes_sense() {
        let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let context = TraceContext::of(Some(&format!("00-{trace}-{parent}-01")), "a=1");
        assert_eq!((context.trace.as_str(), context.parent.as_deref()), (trace, Some(parent)));
        assert_eq!(context.state, "a=1");
        assert!(context.sampled);
        assert!(!TraceContext::of(Some(&format!("00-{trace}-{parent}-02")), "").sampled);
        let zeros = "0".repeat(32);
        for wrong in [
            None,
            Some(""),
            Some("00-4bf9-00f067aa0ba902b7-01"),
            Some("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            Some("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"),
            Some(&format!("00-{zeros}-{parent}-01")),
            Some(&format!("00-{trace}-{parent}-1")),
        ] {
            let context = TraceContext::of(wrong, "a=1");
            assert!(context.parent.is_none() && context.sampled && context.state.is_empty(), "{wrong:?}");
            assert!(context.trace.len() == 32 && context.span.len() == 16, "{wrong:?}");
        }
    }
}
