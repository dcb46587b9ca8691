//! Answers with their timings.

use crate::{measure, progress, units};
use anyhow::Result;
use indicatif::ProgressBar;
use serde_json::{Value as Json, json};
use std::io::Write;
use std::time::{Duration, Instant};
use trine::Stream;
use trine_engine::sample::Logprob;
use trine_engine::{Answer, FinishReason, PromptToken, Timing, Token, Usage};
use trine_lab::bench::RequestRecord;
use trine_tensor::memory;
use trine_text::Tokenizer;

pub struct TimedAnswer {
    /// Tokens of the prompt, with `--prompt-logprobs`.
    pub prompt: Vec<PromptToken>,
    pub text: String,
    /// The tokens without the one that ended it.
    pub tokens: Vec<Token>,
    pub finish: FinishReason,
    pub usage: Usage,
    /// By the engine's clock.
    timing: Timing,
    /// Time to the first token.
    pub prompt_time: Duration,
    /// Time from the first token to the last.
    pub generation_time: Duration,
    /// Page faults without a disk until the first token.
    minor_faults: Option<u64>,
}

impl TimedAnswer {
    /// Collects an answer token by token, and passes each piece of text to `show`. With a `pace`, the prompt is read at that.
    pub fn of(mut stream: Stream, pace: Option<Pace>, mut show: impl FnMut(&str) -> Result<()>) -> Result<TimedAnswer> {
        let (start, faults) = (Instant::now(), measure::minor_faults());
        let mut faults_at_first = None;
        if let Some(pace) = pace {
            pace.read(&mut stream);
        }
        let (mut text, mut tokens, mut first) = (String::new(), Vec::new(), None);
        while let Some(token) = stream.next() {
            let token = match token {
                Ok(token) => token,
                Err(error) => {
                    show(stream.rest())?;
                    return Err(error.into());
                }
            };
            if first.is_none() {
                first = Some(Instant::now());
                faults_at_first = measure::minor_faults();
            }
            show(&token.text)?;
            text.push_str(&token.text);
            tokens.push(token);
        }
        let end = Instant::now();
        let first = first.unwrap_or(end);
        let prompt = stream.prompt_logprobs().to_vec();
        let Answer { text: rest, finish_reason: finish, usage, timing, .. } = stream.answer()?;
        show(&rest)?;
        text.push_str(&rest);
        if matches!(finish, FinishReason::EndToken | FinishReason::StopToken) {
            tokens.pop();
        }
        Ok(TimedAnswer {
            prompt,
            text,
            tokens,
            finish,
            usage,
            timing,
            prompt_time: first - start,
            generation_time: end - first,
            minor_faults: faults_at_first.zip(faults).map(|(after, before)| after - before),
        })
    }

    /// What a profile says about it.
    pub fn record(&self) -> RequestRecord {
        RequestRecord { usage: self.usage, timing: self.timing, finish_reason: self.finish.name() }
    }

    /// Computed prompt tokens per second; `None` if prefill was cancelled.
    pub fn prompt_rate(&self) -> Option<f64> {
        if self.prefill_cancelled() {
            return None;
        }
        rate(self.usage.prompt_tokens - self.usage.cached_tokens, self.prompt_time)
    }

    fn prefill_cancelled(&self) -> bool {
        matches!(self.finish, FinishReason::Cancelled) && self.usage.completion_tokens == 0
    }

    /// Tokens after the first, per second.
    pub fn generation_rate(&self) -> Option<f64> {
        rate(self.usage.completion_tokens.saturating_sub(1), self.generation_time)
    }

    /// Why it ended.
    pub fn ending(&self) -> &'static str {
        ending(&self.finish)
    }

    /// The statistics on one line.
    pub fn summary(&self) -> String {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = self.usage;
        let per_second =
            |rate: Option<f64>| rate.map_or(String::new(), |rate| format!(" at {} tokens/s", units::measured(rate)));
        let cached = if cached_tokens > 0 { format!(" ({cached_tokens} cached)") } else { String::new() };
        let cached = if self.prefill_cancelled() { " (cancelled)".to_owned() } else { cached };
        format!(
            "prompt {}{cached}{}, answer {}{} ({}), peak memory {}",
            units::plural(prompt_tokens as u64, "token"),
            per_second(self.prompt_rate()),
            units::plural(completion_tokens as u64, "token"),
            per_second(self.generation_rate()),
            self.ending(),
            memory::peak_resident().map_or("unknown".to_owned(), units::bytes)
        )
    }

    /// The answer as JSON, with the field names of OpenAI's API where they exist.
    pub fn json(&self, tokenizer: &Tokenizer, load_time: Duration) -> Json {
        let Usage { prompt_tokens, cached_tokens, completion_tokens } = self.usage;
        json!({
            "text": self.text,
            "ids": self.tokens.iter().map(|token| token.id).collect::<Vec<_>>(),
            "logprobs": logprobs(tokenizer, &self.tokens),
            "prompt_logprobs": prompt_logprobs(tokenizer, &self.prompt),
            "finish_reason": self.finish.name(),
            "ended_by": self.ending(),
            "usage": {
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
                "cached_tokens": cached_tokens,
            },
            "timings": {
                "load_seconds": load_time.as_secs_f64(),
                "minor_faults": self.minor_faults,
                "prompt_seconds": self.prompt_time.as_secs_f64(),
                "prompt_tokens_per_second": self.prompt_rate(),
                "generation_seconds": self.generation_time.as_secs_f64(),
                "generation_tokens_per_second": self.generation_rate(),
                "peak_memory_bytes": memory::peak_resident(),
            },
        })
    }
}

/// Why an answer ended.
pub fn ending(finish: &FinishReason) -> &'static str {
    match finish {
        FinishReason::EndToken => "end token",
        FinishReason::StopToken => "stop token",
        FinishReason::StopString => "stop string",
        FinishReason::MaxTokens => "stopped at --max-tokens",
        FinishReason::ContextFull => "context full",
        FinishReason::Cancelled | FinishReason::Failed(_) => "stopped",
    }
}

/// The log probabilities of an answer's tokens as JSON; null when they were not requested.
pub fn logprobs(tokenizer: &Tokenizer, tokens: &[Token]) -> Json {
    let known = tokens.iter().filter(|token| token.logprob.is_some());
    list(known.map(|token| entry(tokenizer, token.id, token.logprob, &token.top)).collect())
}

/// Those of a prompt's.
pub fn prompt_logprobs(tokenizer: &Tokenizer, tokens: &[PromptToken]) -> Json {
    list(tokens.iter().map(|token| entry(tokenizer, token.id, token.logprob, &token.top)).collect())
}

fn entry(tokenizer: &Tokenizer, id: u32, logprob: Option<f64>, top: &[Logprob]) -> Json {
    let spelled = |id: u32| String::from_utf8_lossy(tokenizer.piece(id).unwrap_or_default()).into_owned();
    let entry = |id: u32, logprob: Option<f64>| json!({ "id": id, "token": spelled(id), "logprob": logprob });
    let mut object = entry(id, logprob);
    object["top_logprobs"] = top.iter().map(|top| entry(top.id, Some(top.logprob))).collect();
    object
}

fn list(items: Vec<Json>) -> Json {
    if items.is_empty() { Json::Null } else { items.into() }
}

/// How a prompt is read for somebody who waits: in chunks short enough that Ctrl-C is answered at once, and with a progress bar if it
/// takes long.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Maximum tokens of a chunk.
    pub most: usize,
    pub bar: bool,
}

impl Pace {
    /// The first chunk, and the smallest: below it most machines spend the time of a chunk on reading the weights.
    const TOKENS: usize = 16;
    /// The time that a chunk may take.
    const CHUNK: Duration = Duration::from_millis(60);
    /// The time after which progress is shown.
    const PATIENCE: Duration = Duration::from_millis(400);

    fn read(self, stream: &mut Stream) {
        let (start, mut bar) = (Instant::now(), ProgressBar::hidden());
        let mut chunk = Self::TOKENS.min(self.most);
        loop {
            let before = Instant::now();
            let Some((done, total)) = stream.read_prompt(chunk) else { break };
            let ratio = Self::CHUNK.as_secs_f64() / before.elapsed().as_secs_f64().max(1e-6);
            chunk = ((chunk as f64 * ratio.min(2.0)) as usize).max(Self::TOKENS).min(self.most);
            if self.bar && bar.is_hidden() && start.elapsed() >= Self::PATIENCE {
                bar = progress::bar("reading the prompt {bar:30} {human_pos}/{human_len} tokens {eta}", total as u64);
            }
            bar.set_position(done as u64);
        }
        bar.finish_and_clear();
    }
}

/// Prints a piece of an answer without buffering.
pub fn print(piece: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(piece.as_bytes())?;
    Ok(out.flush()?)
}

fn rate(tokens: usize, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}
