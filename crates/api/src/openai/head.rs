use crate::Served;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use trine_engine::{Timing, Usage};

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// An id like no other: `prefix` and 24 letters and digits.
pub fn new_id(prefix: &str) -> String {
    let random: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
    format!("{prefix}{random}")
}

/// What all bodies and chunks of an answer begin with.
pub struct Head {
    pub id: String,
    object: &'static str,
    created: u64,
    model: String,
    fingerprint: Option<String>,
}

impl Head {
    pub fn new(served: &Served, id: String, object: &'static str) -> Head {
        Head { id, object, created: now(), model: served.name.clone(), fingerprint: served.fingerprint.clone() }
    }

    /// A body or chunk with these choices.
    pub fn with(&self, choices: Vec<Value>) -> Value {
        let Head { id, object, created, model, fingerprint } = self;
        let mut body = json!({"id": id, "object": object, "created": created, "model": model, "choices": choices});
        if let Some(fingerprint) = fingerprint {
            body["system_fingerprint"] = fingerprint.as_str().into();
        }
        body
    }
}

/// What all answers to a request took together so far.
#[derive(Clone, Debug)]
pub struct Total {
    /// Answers to each prompt, which counts once.
    answers: usize,
    /// Of each answer.
    usage: Vec<Usage>,
    pub reasoning_tokens: usize,
}

impl Total {
    /// That of so many answers to each of these prompts, of which their lengths are known.
    pub fn new(prompts: &[usize], answers: usize) -> Total {
        let mut total = Total { answers, usage: vec![Usage::default(); prompts.len() * answers], reasoning_tokens: 0 };
        for (i, &prompt_tokens) in prompts.iter().enumerate() {
            total.usage[i * answers].prompt_tokens = prompt_tokens;
        }
        total
    }

    /// Notes how many tokens of an answer's prompt were in the cache, which counts once for all answers to it.
    pub fn cached(&mut self, index: usize, tokens: usize) {
        if index.is_multiple_of(self.answers) {
            self.usage[index].cached_tokens = tokens;
        }
    }

    /// Counts a token of an answer.
    pub fn token(&mut self, index: usize) {
        self.usage[index].completion_tokens += 1;
    }

    /// Notes what an answer took that has ended.
    pub fn end(&mut self, index: usize, usage: Usage) {
        let Usage { completion_tokens, .. } = usage;
        let is_first = index.is_multiple_of(self.answers);
        self.usage[index] = if is_first { usage } else { Usage { completion_tokens, ..Usage::default() } };
    }

    pub fn to_json(&self) -> Value {
        let sum = |tokens: fn(&Usage) -> usize| self.usage.iter().map(tokens).sum::<usize>();
        let prompt_tokens = sum(|usage| usage.prompt_tokens);
        let completion_tokens = sum(|usage| usage.completion_tokens);
        json!({
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": sum(|usage| usage.cached_tokens)},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning_tokens},
        })
    }
}

/// What an answer took so far, as llama-server's `timings`.
pub struct Timings {
    begin: Instant,
    first: Option<Instant>,
    prompt_tokens: usize,
    /// How many of these were in the cache, once that is known.
    cached: Option<usize>,
    tokens: usize,
    /// What the engine says at the end.
    end: Option<Value>,
}

impl Timings {
    pub fn new(prompt_tokens: usize) -> Timings {
        Timings { begin: Instant::now(), first: None, prompt_tokens, cached: None, tokens: 0, end: None }
    }

    /// Notes what the whole answer took, which does not depend on when its parts were written.
    pub fn end(&mut self, usage: Usage, timing: Timing) {
        self.end = Some(timings_of(usage, timing));
    }

    /// Notes how many tokens of the prompt were in the cache.
    pub fn cached(&mut self, tokens: usize) {
        self.cached = Some(tokens);
    }

    /// Counts a token that is there now.
    pub fn token(&mut self) {
        self.first.get_or_insert_with(Instant::now);
        self.tokens += 1;
    }

    pub fn to_json(&self) -> Value {
        if let Some(end) = &self.end {
            return end.clone();
        }
        let first = self.first.unwrap_or_else(Instant::now);
        let times = [first.duration_since(self.begin), first.elapsed()].map(|time| time.as_secs_f64());
        let read = self.prompt_tokens - self.cached.unwrap_or_default().min(self.prompt_tokens);
        timings(read, self.cached, times[0], self.tokens, times[1])
    }
}

/// What a whole answer took, as llama-server's `timings`.
pub fn timings_of(usage: Usage, timing: Timing) -> Value {
    let started = timing.started.unwrap_or(timing.submitted);
    let first = timing.first_token.unwrap_or(timing.finished);
    let (prompt, answer) = (first.saturating_sub(started), timing.finished.saturating_sub(first));
    let read = usage.prompt_tokens - usage.cached_tokens.min(usage.prompt_tokens);
    timings(read, Some(usage.cached_tokens), prompt.as_secs_f64(), usage.completion_tokens, answer.as_secs_f64())
}

fn timings(prompt: usize, cached: Option<usize>, prompt_s: f64, tokens: usize, answer_s: f64) -> Value {
    // Of the first token, only the prompt knows how long it took.
    let later = tokens.saturating_sub(1);
    let rate = |n: usize, seconds: f64| (n > 0 && seconds > 0.0).then(|| n as f64 / seconds);
    let each = |n: usize, seconds: f64| (n > 0).then(|| 1e3 * seconds / n as f64);
    json!({
        "cache_n": cached,
        "prompt_n": prompt,
        "prompt_ms": 1e3 * prompt_s,
        "prompt_per_token_ms": each(prompt, prompt_s),
        "prompt_per_second": rate(prompt, prompt_s),
        "predicted_n": tokens,
        "predicted_ms": 1e3 * answer_s,
        "predicted_per_token_ms": each(later, answer_s),
        "predicted_per_second": rate(later, answer_s),
    })
}

/// How a stream is written, as `stream_options` and llama-server's and vLLM's fields say.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamOptions {
    pub include_usage: bool,
    pub continuous_usage: bool,
    pub timings: bool,
    /// Whether chunks tell how far the prompt is read.
    pub progress: bool,
}

impl StreamOptions {
    /// Whether the engine has to tell how far the prompt is read, and with that what was in the cache.
    pub fn asks_progress(self) -> bool {
        self.progress || self.continuous_usage || self.timings
    }
}

impl StreamOptions {
    /// Takes `stream_options`, `timings_per_token` and `return_progress`.
    ///
    /// # Errors
    /// When one is wrong, or one that is about chunks is given without a stream.
    pub fn take(fields: &mut crate::Fields, stream: bool) -> Result<StreamOptions, crate::Problem> {
        let name = "stream_options";
        let timings = fields.boolean("timings_per_token")?.unwrap_or_default();
        let progress = fields.boolean("return_progress")?.unwrap_or_default();
        if progress && !stream {
            return Err(crate::Problem::field("return_progress", "expected stream: true"));
        }
        // OpenRouter's: a whole answer has its usage in any case.
        let mut usage = crate::Fields::from(fields.object("usage")?.unwrap_or_default());
        let include_usage = usage.boolean("include").map_err(|problem| problem.within("usage"))?.unwrap_or_default();
        usage.finish().map_err(|problem| problem.within("usage"))?;
        let Some(inner) = fields.object(name)? else {
            return Ok(StreamOptions { include_usage, timings, progress, ..StreamOptions::default() });
        };
        if !stream {
            return Err(crate::Problem::field(name, "expected stream: true"));
        }
        let mut inner = crate::Fields::from(inner);
        let mut flag = |key: &str| {
            let flag = inner.boolean(key).map_err(|problem| problem.within(name));
            flag.map(Option::unwrap_or_default)
        };
        let options = StreamOptions {
            include_usage: flag("include_usage")? || include_usage,
            continuous_usage: flag("continuous_usage_stats")?,
            timings,
            progress,
        };
        finish_stream_options(inner)?;
        Ok(options)
    }
}

/// Takes what all of `stream_options` have, and refuses what is left.
///
/// # Errors
/// With what is wrong or not known.
pub fn finish_stream_options(mut inner: crate::Fields) -> Result<(), crate::Problem> {
    // Padding that hides lengths is no part of an answer, and none is added.
    let taken = inner.boolean("include_obfuscation");
    taken.and_then(|_| inner.finish()).map_err(|problem| problem.within("stream_options"))
}

/// The models that answers are from.
pub type Shared = Arc<Served>;
