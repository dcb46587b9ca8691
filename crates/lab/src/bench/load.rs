//! Many requests at once: what a server's users would see.

use super::{Error, RequestRecord, Spread};
use fastrand::Rng;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, RangeInclusive};
use std::str::FromStr;
use std::time::Instant;
use trine_engine::{Engine, EventKind, FinishReason, Request, Sampling, SeqId};

/// Requests of random tokens: `clients=8,prompt=16-64,output=32,requests=32`.
///
/// In a closed loop each client sends its next request when the last is answered. With a `rate`, requests arrive at random that many times per
/// second (a Poisson process), whatever has been answered. With `late`, a prompt of that many tokens comes once while all the others generate.
/// The same seed gives the same requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Workload {
    /// Clients of the closed loop.
    pub clients: usize,
    /// Tokens of a prompt, each number as likely.
    pub prompt: RangeInclusive<usize>,
    /// Tokens of an answer.
    pub output: RangeInclusive<usize>,
    /// Tokens that all prompts begin with, beside their own.
    pub prefix: usize,
    pub requests: usize,
    /// Requests per second.
    pub rate: Option<f64>,
    /// Tokens of the prompt that comes late; 0 if none does.
    pub late: usize,
    pub seed: u64,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload { clients: 8, prompt: 64..=64, output: 32..=32, prefix: 0, requests: 32, rate: None, late: 0, seed: 0 }
    }
}

impl Workload {
    /// Tokens of the longest prompt and answer together.
    pub fn context(&self) -> usize {
        (self.prefix + self.prompt.end() + self.output.end()).max(self.late + 1)
    }

    /// Requests that are in the engine at once, in a closed loop.
    pub fn parallel(&self) -> usize {
        self.clients + usize::from(self.late > 0)
    }
}

/// The largest number of clients, of requests, and of tokens of a part.
const MOST: usize = 1 << 20;
const NUMBER: &str = "a number from 1 to 1048576";
const TOKENS: &str = "1 to 1048576 tokens, such as 64 or 16-64";

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Workload, String> {
        let mut workload = Workload::default();
        let mut names = HashSet::new();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, found `{part}`"))?;
            if !names.insert(name) {
                return Err(format!("{name}: expected one value, found two"));
            }
            let wrong = |expected: &str| format!("{name}: expected {expected}, found `{value}`");
            let count = || value.parse().ok().filter(|n| (1..=MOST).contains(n));
            let range = || {
                let (low, high) = value.split_once('-').unwrap_or((value, value));
                let [low, high] = [low, high].map(|n| n.parse().ok().filter(|n| (1..=MOST).contains(n)));
                Some(low?..=high?).filter(|range| !range.is_empty())
            };
            match name {
                "clients" => workload.clients = count().ok_or_else(|| wrong(NUMBER))?,
                "requests" => workload.requests = count().ok_or_else(|| wrong(NUMBER))?,
                "prompt" => workload.prompt = range().ok_or_else(|| wrong(TOKENS))?,
                "output" => workload.output = range().ok_or_else(|| wrong(TOKENS))?,
                "prefix" => {
                    let tokens = value.parse().ok().filter(|n| *n <= MOST);
                    workload.prefix = tokens.ok_or_else(|| wrong("a number of tokens from 0 to 1048576"))?;
                }
                "late" => workload.late = count().ok_or_else(|| wrong(NUMBER))?,
                "rate" => {
                    let rate = value.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
                    workload.rate = Some(rate.ok_or_else(|| wrong("requests per second, such as 0.5"))?);
                }
                "seed" => {
                    workload.seed = value.parse().map_err(|_| wrong("a number from 0 to 18446744073709551615"))?
                }
                _ => {
                    let known = "clients, prompt, output, prefix, requests, rate, late, seed";
                    return Err(format!("expected one of {known}, found `{name}`"));
                }
            }
        }
        Ok(workload)
    }
}

/// What the users saw, in the fields of `vllm bench serve`, with the longest time between two tokens beside them. What there is none of is `None`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadReport {
    /// Seconds from the first request to the last answer.
    pub duration: f64,
    pub completed: usize,
    pub failed: usize,
    pub total_input_tokens: usize,
    pub total_output_tokens: usize,
    /// Of the input tokens, those that were in the prefix cache.
    pub total_cached_tokens: usize,
    pub max_concurrent_requests: usize,
    /// Requests per second.
    pub request_throughput: f64,
    /// Tokens per second.
    pub output_throughput: f64,
    pub total_token_throughput: f64,
    #[serde(flatten)]
    pub ttft: Ttft,
    #[serde(flatten)]
    pub tpot: Tpot,
    #[serde(flatten)]
    pub itl: Itl,
    #[serde(flatten)]
    pub e2el: E2el,
    pub max_itl_ms: Option<f64>,
    /// From the late prompt to its token.
    pub late_ttft_ms: Option<f64>,
    /// The longest time between two tokens of others in which the late prompt was read.
    pub late_max_itl_ms: Option<f64>,
    /// Each request, in the order in which they ended.
    #[serde(skip)]
    pub requests: Vec<RequestRecord>,
    /// The most that the engine gave a step, in place of its target.
    pub step_target_ms: Option<f64>,
}

/// Declares the statistics of one time, named as vLLM names them.
macro_rules! milliseconds {
    ($(#[$doc:meta])* $name:ident, $mean:ident, $median:ident, $std:ident, $p95:ident, $p99:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
        pub struct $name {
            pub $mean: Option<f64>,
            pub $median: Option<f64>,
            pub $std: Option<f64>,
            pub $p95: Option<f64>,
            pub $p99: Option<f64>,
        }

        impl $name {
            fn of(seconds: &[f64]) -> $name {
                let Some(Spread { mean, sd, p50, p95, p99, .. }) = Spread::of(seconds) else { return $name::default() };
                let [mean, median, std, p95, p99] = [mean, p50, sd, p95, p99].map(|x| Some(1e3 * x));
                $name { $mean: mean, $median: median, $std: std, $p95: p95, $p99: p99 }
            }
        }
    };
}

milliseconds!(
    /// From a request to its first token.
    Ttft, mean_ttft_ms, median_ttft_ms, std_ttft_ms, p95_ttft_ms, p99_ttft_ms
);
milliseconds!(
    /// The mean time between two tokens of an answer.
    Tpot, mean_tpot_ms, median_tpot_ms, std_tpot_ms, p95_tpot_ms, p99_tpot_ms
);
milliseconds!(
    /// From one token to the next.
    Itl, mean_itl_ms, median_itl_ms, std_itl_ms, p95_itl_ms, p99_itl_ms
);
milliseconds!(
    /// From a request to the end of its answer.
    E2el, mean_e2el_ms, median_e2el_ms, std_e2el_ms, p95_e2el_ms, p99_e2el_ms
);

/// A request on its way, by the seconds since the beginning.
struct Sent {
    at: f64,
    first: Option<f64>,
    last: f64,
    tokens: usize,
    is_late: bool,
}

/// When a request is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// When the one before is answered.
    None,
    /// With as many others as there are clients, when all of those before are answered.
    Static,
    /// When a client has its answer, or at random times.
    #[default]
    Continuous,
}

/// Sends the requests of a workload and waits for all answers. `progress` gets how many of how many are answered, and may break off.
///
/// # Errors
/// When the engine refuses a request, and when `progress` breaks off.
pub fn load(
    engine: &mut Engine,
    workload: &Workload,
    batching: Batching,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<LoadReport, Error> {
    let mut random = Rng::with_seed(workload.seed);
    let vocab = engine.spec().vocab_size;
    let tokens = |random: &mut Rng, n| -> Vec<u32> { (0..n).map(|_| random.usize(..vocab) as u32).collect() };
    let prefix = tokens(&mut random, workload.prefix);
    // Everything is drawn before the clock starts. Times between arrivals are exponentially distributed.
    let mut arrival = 0.0;
    let mut requests: Vec<(f64, Request)> = (0..workload.requests)
        .map(|_| {
            let own = random.usize(workload.prompt.clone());
            let prompt = [prefix.clone(), tokens(&mut random, own)].concat();
            let most = Some(random.usize(workload.output.clone()));
            arrival += workload.rate.map_or(0.0, |rate| -(1.0 - random.f64()).ln() / rate);
            (arrival, Request::new(prompt, Sampling { max_tokens: most, ignore_eos: true, ..Sampling::greedy() }))
        })
        .collect();
    requests.reverse();
    let greedy = Sampling { max_tokens: Some(1), ignore_eos: true, ..Sampling::greedy() };
    let mut late = (workload.late > 0).then(|| Request::new(tokens(&mut random, workload.late), greedy));

    let begin = Instant::now();
    let now = || begin.elapsed().as_secs_f64();
    let mut sent: HashMap<SeqId, Sent> = HashMap::new();
    let [mut ttft, mut tpot, mut itl, mut e2el] = [const { Vec::<f64>::new() }; 4];
    let (mut completed, mut failed, mut most, mut end) = (0, 0, 0, 0.0);
    let (mut step_target, mut late_span, mut late_stall) = (None, None, None::<f64>);
    let (mut input, mut output, mut cached, mut records) = (0, 0, 0, Vec::new());
    while !(requests.is_empty() && sent.is_empty()) {
        if progress(completed + failed, workload.requests).is_break() {
            return Err(Error::Cancelled);
        }
        let open = batching != Batching::Static || sent.is_empty();
        while let Some((arrival, _)) = requests.last() {
            let running = sent.values().filter(|request| !request.is_late).count();
            let ready = match (batching, workload.rate) {
                (Batching::None, _) => running == 0,
                (Batching::Continuous, Some(_)) => *arrival <= now(),
                _ => open && running < workload.clients,
            };
            if !ready {
                break;
            }
            let (arrival, request) = requests.pop().expect("it was looked at");
            let at = if workload.rate.is_some() { arrival } else { now() };
            sent.insert(engine.submit(request)?, Sent { at, first: None, last: at, tokens: 0, is_late: false });
        }
        let all_generate = !sent.is_empty() && sent.values().all(|request| request.first.is_some());
        if let Some(request) = late.take_if(|_| all_generate) {
            let at = now();
            sent.insert(engine.submit(request)?, Sent { at, first: None, last: at, tokens: 0, is_late: true });
            late_span = Some((at, f64::INFINITY));
        }
        most = most.max(sent.len());
        if sent.is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(1));
            continue;
        }
        engine.step(&mut |event| {
            let now = now();
            let Some(request) = sent.get_mut(&event.sequence) else { return ControlFlow::Break(()) };
            match event.kind {
                EventKind::Progress(_) | EventKind::Prompt { .. } => {}
                EventKind::Token { .. } if request.is_late => late_span = Some((request.at, now)),
                EventKind::Token { .. } => {
                    match request.first {
                        None => ttft.push(now - request.at),
                        Some(_) => {
                            itl.push(now - request.last);
                            if late_span.is_some_and(|(from, to)| now > from && request.last < to) {
                                late_stall = Some(late_stall.unwrap_or(0.0).max(now - request.last));
                            }
                        }
                    }
                    request.first.get_or_insert(now);
                    request.last = now;
                    request.tokens += 1;
                }
                EventKind::Finished { finish_reason, usage, timing, .. } => {
                    records.push(RequestRecord { usage, timing, finish_reason: finish_reason.name() });
                    if matches!(finish_reason, FinishReason::Failed(_)) {
                        failed += 1;
                        sent.remove(&event.sequence);
                        return ControlFlow::Continue(());
                    }
                    if request.is_late {
                        sent.remove(&event.sequence);
                        return ControlFlow::Continue(());
                    }
                    completed += 1;
                    end = now;
                    e2el.push(now - request.at);
                    if let (Some(first), 2..) = (request.first, request.tokens) {
                        tpot.push((request.last - first) / (request.tokens - 1) as f64);
                    }
                    input += usage.prompt_tokens;
                    output += usage.completion_tokens;
                    cached += usage.cached_tokens;
                    sent.remove(&event.sequence);
                }
            }
            ControlFlow::Continue(())
        });
        step_target = step_target.max(engine.load().step_target);
    }
    let max_itl_ms = itl.iter().copied().max_by(f64::total_cmp).map(|seconds| 1e3 * seconds);
    Ok(LoadReport {
        duration: end,
        completed,
        failed,
        total_input_tokens: input,
        total_output_tokens: output,
        total_cached_tokens: cached,
        max_concurrent_requests: most,
        request_throughput: completed as f64 / end,
        output_throughput: output as f64 / end,
        total_token_throughput: (input + output) as f64 / end,
        ttft: Ttft::of(&ttft),
        tpot: Tpot::of(&tpot),
        itl: Itl::of(&itl),
        e2el: E2el::of(&e2el),
        max_itl_ms,
        late_ttft_ms: late_span.filter(|(_, to)| to.is_finite()).map(|(from, to)| 1e3 * (to - from)),
        late_max_itl_ms: late_stall.map(|seconds| 1e3 * seconds),
        requests: records,
        step_target_ms: step_target.map(|target| 1e3 * target.as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_are_read_and_what_they_do_not_say_is_refused() {
        let workload: Workload =
            "clients=3,prompt=16-64,output=32,requests=9,rate=0.5,seed=7,prefix=100,late=500".parse().unwrap();
        let expected = Workload {
            clients: 3,
            prompt: 16..=64,
            output: 32..=32,
            prefix: 100,
            requests: 9,
            rate: Some(0.5),
            late: 500,
            seed: 7,
        };
        assert_eq!(workload, expected);
        assert_eq!((workload.context(), workload.parallel()), (501, 4));
        for (text, error) in [
            ("", "expected NAME=VALUE, found ``"),
            ("clients", "expected NAME=VALUE, found `clients`"),
            ("clients=0", "clients: expected a number from 1 to 1048576, found `0`"),
            ("prompt=64-16", "prompt: expected 1 to 1048576 tokens, such as 64 or 16-64, found `64-16`"),
            ("output=9999999999", "output: expected 1 to 1048576 tokens, such as 64 or 16-64, found `9999999999`"),
            ("clients=2,clients=3", "clients: expected one value, found two"),
            ("rate=inf", "rate: expected requests per second, such as 0.5, found `inf`"),
            ("users=3", "expected one of clients, prompt, output, prefix, requests, rate, late, seed, found `users`"),
        ] {
            assert_eq!(text.parse::<Workload>().unwrap_err(), error);
        }
    }
}
