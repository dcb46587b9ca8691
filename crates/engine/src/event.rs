use crate::Error;
use crate::sample::Logprob;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A sequence of an engine. Later requests have higher ids, and no two of a process the same, so that an engine knows none of another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqId(u64);

impl SeqId {
    /// An id that no sequence has.
    pub(crate) fn next() -> SeqId {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        SeqId(COUNT.fetch_add(1, Relaxed))
    }
}

/// What happened to a sequence.
#[derive(Debug)]
pub struct Event<'a> {
    pub sequence: SeqId,
    /// Which answer to its request it is.
    pub index: usize,
    pub kind: EventKind<'a>,
}

/// How far the prompt is read and its tokens if asked for, tokens, then the end.
#[derive(Debug)]
pub enum EventKind<'a> {
    /// A step read some of the prompt, with [`Request::progress`](crate::Request::progress).
    Progress(PromptProgress),
    /// A token of the prompt, with [`Sampling::prompt_logprobs`](crate::Sampling::prompt_logprobs): all in order, before the first of the answer.
    Prompt {
        id: u32,
        /// Its log probability after those before; `None` for the first.
        logprob: Option<f64>,
        /// The most likely tokens in its place, as many as asked for.
        top: &'a [Logprob],
    },
    /// A token was sampled, also the one that ends the answer.
    Token {
        id: u32,
        /// Text that became certain with it. It may come later than the tokens: characters may need several, and what may become a stop string
        /// is held back.
        text: &'a str,
        /// The token's log probability, when asked for.
        logprob: Option<f64>,
        /// The most likely tokens, as many as asked for.
        top: &'a [Logprob],
    },
    Finished {
        /// Text that was held back, of an answer that failed or was cancelled. Otherwise the last token had it.
        text: &'a str,
        finish_reason: FinishReason,
        usage: Usage,
        timing: Timing,
    },
}

/// Where events go. [`ControlFlow::Break`] cancels the sequence.
pub type Emit<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// Why an answer ends.
#[derive(Debug)]
pub enum FinishReason {
    /// The model's own end: a token that ends generation.
    EndToken,
    /// One of `stop_token_ids`.
    StopToken,
    /// A stop string.
    StopString,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// Nobody wants it any more.
    Cancelled,
    Failed(Error),
}

impl FinishReason {
    /// Its name in OpenAI's API, `stop` or `length`, for answers that are complete or cut off; else `cancelled` or `error`.
    pub fn name(&self) -> &'static str {
        match self {
            FinishReason::EndToken | FinishReason::StopToken | FinishReason::StopString => "stop",
            FinishReason::MaxTokens | FinishReason::ContextFull => "length",
            FinishReason::Cancelled => "cancelled",
            FinishReason::Failed(_) => "error",
        }
    }
}

/// How much of a prompt is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PromptProgress {
    /// Tokens whose keys and values are there, those that were in the cache already included.
    pub processed_tokens: usize,
    /// Tokens that were in the cache already.
    pub cached_tokens: usize,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Since the request first had its turn.
    pub time: Duration,
}

/// What an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// How many of these were in the cache already.
    pub cached_tokens: usize,
    /// Tokens picked, the end token included.
    pub completion_tokens: usize,
}

/// When a request came and went, on the engine's [`Clock`](crate::Clock). All zero where the engine was gone before it could tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    pub submitted: Duration,
    /// When it first had its turn; `None` if it never had.
    pub started: Option<Duration>,
    /// When its first token was there.
    pub first_token: Option<Duration>,
    pub finished: Duration,
}
