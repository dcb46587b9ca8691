//! How a server is, over the last minute and hour.

pub mod alert;
mod metrics;
mod screen;

pub use screen::draw;

use alert::{Alert, Baseline};
use metrics::{Sample, Span};
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Figures of the last minute, or of now. What is not known is `None`.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    pub running: Option<f64>,
    pub waiting: Option<f64>,
    /// Requests for embeddings.
    pub embeddings_running: Option<f64>,
    pub embeddings_waiting: Option<f64>,
    /// Tokens of answers per second.
    pub generated: Option<f64>,
    /// Tokens of prompts per second.
    pub read: Option<f64>,
    /// Requests per second.
    pub requests: Option<f64>,
    /// The share of answers that failed.
    pub errors: Option<f64>,
    /// Seconds to the first token: the median, and what 95 of 100 need at most.
    pub first_token: [Option<f64>; 2],
    /// Seconds between tokens: the median, and what 99 of 100 need at most.
    pub inter_token: [Option<f64>; 2],
    /// Seconds in the queue that 95 of 100 wait at most.
    pub queue: Option<f64>,
    pub kv_usage: Option<f64>,
    pub prefix_hits: Option<f64>,
    /// Bytes in RAM.
    pub memory: Option<f64>,
    /// CPUs in use.
    pub cpu: Option<f64>,
    pub open_files: Option<f64>,
}

/// What is shown.
#[derive(Debug, Default)]
pub struct View {
    pub figures: Figures,
    /// Tokens per second, by samples of the last minute.
    pub seconds: Vec<f64>,
    /// Tokens per second, by minutes of the last hour.
    pub minutes: Vec<f64>,
    /// Why there is no newer sample.
    pub problem: Option<String>,
}

/// Watches a server.
pub struct Watch {
    agent: ureq::Agent,
    url: String,
    key: Option<String>,
    samples: VecDeque<Sample>,
    /// Where the current minute began.
    minute: Option<Sample>,
    baselines: [(&'static str, Baseline); 2],
    view: View,
}

const TOKENS: &str = "trine_generation_tokens_total";

impl Watch {
    pub fn new(url: &str, key: Option<String>) -> Watch {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5)));
        let baselines = ["first_token_p95", "inter_token_p99"].map(|name| (name, Baseline::default()));
        let (agent, url) = (config.build().into(), url.trim_end_matches('/').to_owned());
        Watch { agent, url, key, samples: VecDeque::new(), minute: None, baselines, view: View::default() }
    }

    pub fn view(&self) -> &View {
        &self.view
    }

    /// Asks the server; what has become unusual.
    pub fn ask(&mut self) -> Vec<(&'static str, Alert)> {
        match self.fetch() {
            Ok(sample) => {
                self.view.problem = None;
                self.add(sample)
            }
            Err(problem) => {
                self.view.problem = Some(problem);
                Vec::new()
            }
        }
    }

    fn fetch(&self) -> Result<Sample, String> {
        let mut request = self.agent.get(format!("{}/metrics", self.url));
        if let Some(key) = &self.key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        let mut response = request.call().map_err(|error| match (error, &self.key) {
            (ureq::Error::StatusCode(401), None) => {
                "the server asks for a key: --key or TRINE_API_KEY gives it".to_owned()
            }
            (ureq::Error::StatusCode(401), Some(_)) => {
                "the server does not know the key of --key or TRINE_API_KEY".to_owned()
            }
            (error, _) => error.to_string(),
        })?;
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok(Sample::parse(&text, Instant::now()))
    }

    fn add(&mut self, sample: Sample) -> Vec<(&'static str, Alert)> {
        if let Some(last) = self.samples.back() {
            self.view.seconds.push(Span { from: last, to: &sample }.rate(TOKENS).unwrap_or(0.0));
        }
        self.samples.push_back(sample.clone());
        while self.samples.front().is_some_and(|first| sample.at - first.at > Duration::from_secs(60)) {
            self.samples.pop_front();
        }
        let excess = self.view.seconds.len().saturating_sub(self.samples.len());
        self.view.seconds.drain(..excess);
        let span = Span { from: &self.samples[0], to: &sample };
        self.view.figures = figures(span);
        let begun = self.minute.get_or_insert_with(|| sample.clone());
        if sample.at - begun.at < Duration::from_secs(60) {
            return Vec::new();
        }
        let span = Span { from: begun, to: &sample };
        self.view.minutes.push(span.rate(TOKENS).unwrap_or(0.0));
        let excess = self.view.minutes.len().saturating_sub(60);
        self.view.minutes.drain(..excess);
        let values = [figures(span).first_token[1], figures(span).inter_token[1]];
        let both = self.baselines.iter_mut().zip(values);
        let alerts = both.filter_map(|((name, baseline), value)| Some((*name, baseline.push(value?)?))).collect();
        self.minute = Some(sample);
        alerts
    }
}

fn figures(span: Span) -> Figures {
    let now = |name: &str| span.to.value(name);
    let errors = {
        let all = span.growth("trine_request_duration_seconds_count");
        let failed = span.growth("trine_requests_failed_total");
        all.filter(|all| *all > 0.0).zip(failed).map(|(all, failed)| failed / all)
    };
    Figures {
        running: now("trine_num_requests_running"),
        waiting: now("trine_num_requests_waiting"),
        embeddings_running: now("trine_embedding_requests_running"),
        embeddings_waiting: now("trine_embedding_requests_waiting"),
        generated: span.rate(TOKENS),
        read: span.rate("trine_prompt_tokens_total"),
        requests: span.rate("trine_e2e_request_latency_seconds_count"),
        errors,
        first_token: [0.5, 0.95].map(|quantile| span.quantile("trine_time_to_first_token_seconds", quantile)),
        inter_token: [0.5, 0.99].map(|quantile| span.quantile("trine_inter_token_latency_seconds", quantile)),
        queue: span.quantile("trine_request_queue_time_seconds", 0.95),
        kv_usage: now("trine_kv_cache_usage_perc"),
        prefix_hits: span.share("trine_prefix_cache_hits_total", "trine_prefix_cache_queries_total"),
        memory: now("process_resident_memory_bytes"),
        cpu: span.rate("process_cpu_seconds_total"),
        open_files: now("process_open_fds"),
    }
}
