//! `/metrics`.

use crate::recent::{Rate, Recent, Requests};
use crate::{App, Exporter, vllm};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;
use trine_engine::{FinishReason, Load, Timing, Usage};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    route: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    finished_reason: &'static str,
}

type Real = Gauge<f64, AtomicU64>;
type RealCounter = Counter<f64, AtomicU64>;

/// What is counted as requests come and go. What the engine and the system know is asked when somebody looks.
pub struct Metrics {
    registry: Registry,
    requests: Family<Route, Counter>,
    failed: Counter,
    pub active: Gauge,
    duration: Histogram,
    finished: Family<Reason, Counter>,
    prompt_tokens: Counter,
    generation_tokens: Counter,
    first_token: Histogram,
    inter_token: Histogram,
    per_token: Histogram,
    prompt_length: Histogram,
    answer_length: Histogram,
    end_to_end: Histogram,
    queue: Histogram,
    prefill: Histogram,
    decode: Histogram,
    pub grammar: Histogram,
    running: Gauge,
    waiting: Gauge,
    embeddings_running: Gauge,
    embeddings_waiting: Gauge,
    embedding_passes: Counter,
    embedding_texts: Counter,
    kv_usage: Real,
    kv_blocks: Gauge,
    kv_used: Gauge,
    kv_cached: Gauge,
    preemptions: Counter,
    steps: Counter,
    busy: RealCounter,
    pub cancelled: Counter,
    pub self_tests: Counter,
    pub self_test_failures: Counter,
    dropped_spans: Counter,
    prefix_queries: Counter,
    prefix_hits: Counter,
    prefix_evictions: Counter,
    prefix_loaded: Counter,
    tokens_per_second: Real,
    step_target: Real,
    step_tokens: Counter,
    memory: Gauge,
    proportional: Gauge,
    available: Gauge,
    cpu: RealCounter,
    fds: Gauge,
    start: Real,
    past: Mutex<Requests>,
    /// Tokens of answers.
    made: Mutex<Rate>,
}

/// Seconds that fit answers of a CPU as well as those of a GPU.
fn seconds(from: f64) -> Histogram {
    Histogram::new((0..24).map(move |i| from * 2f64.powf(f64::from(i) / 1.5)).map(round))
}

/// Powers of two up to the longest contexts.
fn tokens() -> Histogram {
    Histogram::new((0..21).map(|i| f64::from(1 << i)))
}

/// What a lock guards: a thread that panicked leaves no count half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The number with two digits, which people can read.
fn round(value: f64) -> f64 {
    format!("{value:.1e}").parse().expect("it was a number")
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::default();
        // A macro, because each kind of metric has a type of its own.
        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        Metrics {
            requests: register!("trine_requests", "Requests by route and status", Family::default()),
            failed: register!("trine_requests_failed", "Requests that the server failed", Counter::default()),
            active: register!("trine_active_requests", "Requests that are being answered", Gauge::default()),
            duration: register!("trine_request_duration_seconds", "Duration of requests of any route", seconds(0.001)),
            finished: register!("trine_request_success", "Answers by the reason of their end", Family::default()),
            prompt_tokens: register!("trine_prompt_tokens", "Tokens of prompts", Counter::default()),
            generation_tokens: register!("trine_generation_tokens", "Tokens of answers", Counter::default()),
            first_token: register!(
                "trine_time_to_first_token_seconds",
                "From a request to its first token",
                seconds(0.01)
            ),
            inter_token: register!(
                "trine_inter_token_latency_seconds",
                "Between two tokens of an answer",
                seconds(0.001)
            ),
            per_token: register!(
                "trine_request_time_per_output_token_seconds",
                "Mean time of an answer's tokens after the first",
                seconds(0.001)
            ),
            prompt_length: register!("trine_request_prompt_tokens", "Tokens of a prompt", tokens()),
            answer_length: register!("trine_request_generation_tokens", "Tokens of an answer", tokens()),
            end_to_end: register!("trine_e2e_request_latency_seconds", "From a request to its end", seconds(0.05)),
            queue: register!("trine_request_queue_time_seconds", "Waiting for the first turn", seconds(0.001)),
            prefill: register!(
                "trine_request_prefill_time_seconds",
                "From the first turn to the first token",
                seconds(0.01)
            ),
            decode: register!("trine_request_decode_time_seconds", "From the first token to the last", seconds(0.05)),
            grammar: register!("trine_grammar_compilation_time_seconds", "Compiling constraints", seconds(0.0001)),
            running: register!("trine_num_requests_running", "Sequences that run", Gauge::default()),
            waiting: register!("trine_num_requests_waiting", "Sequences that wait", Gauge::default()),
            embeddings_running: register!(
                "trine_embedding_requests_running",
                "Requests for embeddings that have texts in the pass under way",
                Gauge::default()
            ),
            embeddings_waiting: register!(
                "trine_embedding_requests_waiting",
                "Requests for embeddings that wait",
                Gauge::default()
            ),
            embedding_passes: register!("trine_embedding_passes", "Forward passes for embeddings", Counter::default()),
            embedding_texts: register!(
                "trine_embedding_texts",
                "Texts that these computed: so many a pass is the batch size",
                Counter::default()
            ),
            kv_usage: register!(
                "trine_kv_cache_usage_perc",
                "Share of the KV cache in use, 1 for all",
                Real::default()
            ),
            kv_blocks: register!("trine_kv_blocks", "Blocks of the KV cache", Gauge::default()),
            kv_used: register!("trine_kv_blocks_used", "Blocks of the KV cache in use", Gauge::default()),
            kv_cached: register!("trine_kv_blocks_cached", "Blocks that a prompt may find", Gauge::default()),
            preemptions: register!("trine_num_preemptions", "Sequences that gave up their blocks", Counter::default()),
            steps: register!("trine_engine_steps", "Forward passes", Counter::default()),
            step_tokens: register!(
                "trine_engine_step_tokens",
                "Tokens that forward passes computed: so many a step is the batch size",
                Counter::default()
            ),
            step_target: register!(
                "trine_engine_step_target_seconds",
                "How long a step may take: --itl-target, or more while generating alone takes most of it; 0 is no limit",
                Real::default()
            ),
            tokens_per_second: register!(
                "trine_tokens_per_second",
                "Tokens of answers in a second, on average of the last ten",
                Real::default()
            ),
            busy: register!(
                "trine_engine_busy_seconds",
                "Time in forward passes; the rest of the time the engine is idle",
                RealCounter::default()
            ),
            cancelled: register!(
                "trine_requests_cancelled",
                "Answers that nobody waited for to the end",
                Counter::default()
            ),
            self_tests: register!("trine_self_tests", "Self-tests that had an answer or failed", Counter::default()),
            self_test_failures: register!(
                "trine_self_test_failures",
                "Self-tests that failed, or whose tokens were others than at first",
                Counter::default()
            ),
            dropped_spans: register!(
                "trine_otlp_dropped_spans",
                "Spans that the collector did not take",
                Counter::default()
            ),
            prefix_queries: register!(
                "trine_prefix_cache_queries",
                "Tokens of prompts looked up in the prefix cache",
                Counter::default()
            ),
            prefix_hits: register!("trine_prefix_cache_hits", "How many of these were there", Counter::default()),
            prefix_evictions: register!(
                "trine_prefix_cache_evictions",
                "Blocks whose content gave way",
                Counter::default()
            ),
            prefix_loaded: register!(
                "trine_prefix_cache_loaded",
                "Tokens whose keys and values came from disk",
                Counter::default()
            ),
            memory: register!("process_resident_memory_bytes", "Resident memory", Gauge::default()),
            proportional: register!(
                "process_proportional_memory_bytes",
                "Resident memory, of which each page counts by the share of this process",
                Gauge::default()
            ),
            available: register!(
                "trine_system_memory_available_bytes",
                "Memory of the machine that processes may still take",
                Gauge::default()
            ),
            cpu: register!("process_cpu_seconds", "CPU time of all threads", RealCounter::default()),
            fds: register!("process_open_fds", "Open files", Gauge::default()),
            start: register!(
                "process_start_time_seconds",
                "Seconds since 1970 at which the server began",
                Real::default()
            ),
            registry,
            past: Mutex::default(),
            made: Mutex::default(),
        }
    }
}

impl Metrics {
    /// Counts a request of a route, by its pattern.
    pub fn request(&self, route: &str, status: u16, took: Duration) {
        self.requests.get_or_create(&Route { route: route.to_owned(), status }).inc();
        self.duration.observe(took.as_secs_f64());
        self.failed.inc_by(u64::from(status >= 500));
        // Probes would hide what users see.
        if route.starts_with("/v1/") || route.starts_with("/api/") {
            lock(&self.past).add(took, status >= 500);
        }
    }

    pub fn recent(&self) -> Recent {
        lock(&self.past).summary()
    }

    /// Counts an answer that has ended.
    pub fn answer(&self, reason: &FinishReason, usage: Usage, timing: Timing) {
        self.finished.get_or_create(&Reason { finished_reason: reason.name() }).inc();
        self.prompt_length.observe(usage.prompt_tokens as f64);
        self.answer_length.observe(usage.completion_tokens as f64);
        let Timing { submitted, started, first_token, finished } = timing;
        let since = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        self.end_to_end.observe(since(submitted, finished));
        let Some(started) = started else { return };
        self.queue.observe(since(submitted, started));
        let Some(first) = first_token else { return };
        self.first_token.observe(since(submitted, first));
        self.prefill.observe(since(started, first));
        self.decode.observe(since(first, finished));
        if usage.completion_tokens > 1 {
            self.per_token.observe(since(first, finished) / (usage.completion_tokens - 1) as f64);
        }
    }

    /// Counts the time between two tokens.
    pub fn between(&self, tokens: Duration) {
        self.inter_token.observe(tokens.as_secs_f64());
    }

    /// Counts the tokens of a prompt that is read.
    pub fn read(&self, tokens: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
    }

    /// Counts tokens of an answer when they are made.
    pub fn made(&self, tokens: usize) {
        self.generation_tokens.inc_by(tokens as u64);
        lock(&self.made).add(tokens as u64);
    }

    /// All metrics in the text format of OpenMetrics.
    pub fn text(&self, app: &App, load: Option<Load>) -> String {
        let gauge = |gauge: &Gauge, value: usize| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        if let Some(load) = load {
            gauge(&self.running, load.running);
            gauge(&self.waiting, load.waiting);
            gauge(&self.kv_blocks, load.blocks);
            gauge(&self.kv_used, load.used_blocks);
            gauge(&self.kv_cached, load.cached_blocks);
            self.busy.inc_by((load.busy.as_secs_f64() - self.busy.get()).max(0.0));
            self.step_target.set(load.step_target.unwrap_or_default().as_secs_f64());
            self.kv_usage.set(load.used_blocks as f64 / load.blocks.max(1) as f64);
            let cache = load.prefix_cache;
            for (counter, value) in [
                (&self.prefix_queries, cache.queries),
                (&self.prefix_hits, cache.hits),
                (&self.prefix_evictions, cache.evictions),
                (&self.prefix_loaded, cache.loaded),
                (&self.preemptions, load.preemptions),
                (&self.steps, load.steps),
                (&self.step_tokens, load.step_tokens),
            ] {
                counter.inc_by(value.saturating_sub(counter.get()));
            }
        }
        if let Some(embeddings) = &app.embeddings {
            let load = embeddings.batcher.load();
            gauge(&self.embeddings_running, load.running);
            gauge(&self.embeddings_waiting, load.waiting);
            for (counter, value) in [(&self.embedding_passes, load.passes), (&self.embedding_texts, load.texts)] {
                counter.inc_by(value.saturating_sub(counter.get()));
            }
        }
        let dropped = app.exporter.as_ref().map_or(0, Exporter::dropped);
        self.dropped_spans.inc_by(dropped.saturating_sub(self.dropped_spans.get()));
        let process = crate::process::Process::read();
        gauge(&self.memory, process.resident.unwrap_or_default() as usize);
        self.tokens_per_second.set(lock(&self.made).per_second());
        gauge(&self.proportional, crate::process::proportional().unwrap_or_default() as usize);
        gauge(&self.available, crate::process::available().unwrap_or_default() as usize);
        gauge(&self.fds, process.open_files.unwrap_or_default());
        self.cpu.inc_by((process.cpu.unwrap_or_default().as_secs_f64() - self.cpu.get()).max(0.0));
        self.start.set(app.created as f64);
        let mut text = String::new();
        // A String takes all that is written.
        let _ = encode(&mut text, &self.registry);
        if app.options.vllm_metrics {
            let end = text.trim_end().trim_end_matches("# EOF").len();
            text.truncate(end);
            let own = vllm::renamed(&text, app.names().next().unwrap_or_default());
            text.push_str(&own);
            text.push_str("# EOF\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_histograms_have_two_digits() {
        let mut registry = Registry::default();
        [1e-4, 1e-3, 1e-2, 5e-2].into_iter().for_each(|from| registry.register("a", "b", seconds(from)));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let bounds: Vec<&str> = text.split("le=\"").skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect();
        let digits = |bound: &str| bound.replace('.', "").trim_matches('0').len();
        assert!(
            bounds.len() == 4 * 25 && bounds.iter().all(|bound| *bound == "+Inf" || digits(bound) <= 2),
            "{bounds:?}"
        );
    }
}
