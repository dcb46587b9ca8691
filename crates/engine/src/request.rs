use crate::sample::{Filter, Logprob};
use crate::{Error, EventKind, FinishReason, PromptProgress, Sampling, Timing, Usage};
use std::time::Duration;
use trine_text::{EncodeOptions, Rendered, Tokenizer};

/// What to generate from: text, a chat, or tokens that are taken as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// Becomes the tokens of [`prompt_tokens`].
    Text(String),
    /// In a chat, only the template's text may become control tokens: [`Tokenizer::encode_chat`].
    Chat(Rendered),
    Tokens(Vec<u32>),
}

impl Prompt {
    /// The tokens of the prompt: of text and chats with what [`prompt_tokens`] puts in front.
    pub fn into_tokens(self, tokenizer: &Tokenizer) -> Vec<u32> {
        match self {
            Prompt::Text(text) => prompt_tokens(tokenizer, &text),
            Prompt::Chat(chat) => with_prefix(tokenizer, tokenizer.encode_chat(&chat)),
            Prompt::Tokens(tokens) => tokens,
        }
    }
}

impl Default for Prompt {
    fn default() -> Prompt {
        Prompt::Tokens(Vec::new())
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Prompt {
        Prompt::Text(text.to_owned())
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Prompt {
        Prompt::Text(text)
    }
}

impl From<Rendered> for Prompt {
    fn from(chat: Rendered) -> Prompt {
        Prompt::Chat(chat)
    }
}

impl From<Vec<u32>> for Prompt {
    fn from(tokens: Vec<u32>) -> Prompt {
        Prompt::Tokens(tokens)
    }
}

/// What to generate, and how.
#[derive(Default)]
pub struct Request {
    pub prompt: Prompt,
    pub sampling: Sampling,
    /// Custom filters. They run before those of `sampling`, in this order, also at temperature 0.
    pub filters: Vec<Box<dyn Filter>>,
    /// The adapter to run with; 0 is the model itself. Sequences with different adapters share no keys and values.
    pub adapter: u32,
    pub scheduling: Scheduling,
    pub prefix_cache: PrefixCache,
    /// Whether each step that reads some of the prompt says so: [`Update::Progress`].
    pub progress: bool,
}

/// With whom a request shares the keys and values of equal beginnings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PrefixCache {
    /// With the requests of the same domain. How long a prompt takes tells what others have asked before: users who must not learn that of each
    /// other need domains of their own.
    Domain(String),
    /// With none.
    Off,
}

impl Default for PrefixCache {
    /// The domain of the requests that name none.
    fn default() -> PrefixCache {
        PrefixCache::Domain(String::new())
    }
}

/// What the prefix cache has done since the engine was made, counted as vLLM counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrefixCacheStats {
    /// Tokens of prompts that were looked up.
    pub queries: u64,
    /// How many of these were there.
    pub hits: u64,
    /// Blocks whose content gave way.
    pub evictions: u64,
    /// Tokens whose keys and values came from the disk.
    pub loaded: u64,
}

/// When a request has its turn, and how long it may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// Whom the request is for, an API key for example. Clients that wait are served the same number of tokens, however many requests each has.
    pub client: String,
    /// Requests of lower values run first, as in vLLM, and while there are any, no others begin.
    pub priority: i32,
    /// How long the request may wait before it first runs; then it fails with [`Error::QueueTimeout`](crate::Error).
    pub queue_timeout: Option<Duration>,
    /// How long the whole request may take; then it fails with [`Error::Timeout`](crate::Error), and its text so far stands.
    pub timeout: Option<Duration>,
    /// A test of the engine itself: it takes no place in the queue, and neither the queue's limits nor counts of requests know it.
    pub probe: bool,
}

impl Request {
    pub fn new(prompt: impl Into<Prompt>, sampling: Sampling) -> Request {
        Request { prompt: prompt.into(), sampling, ..Request::default() }
    }

    /// A request that leaves keys and values of a prefix in the prefix cache, so that prompts that begin with it do not compute them: those
    /// of its full blocks of [`BLOCK_LEN`](crate::BLOCK_LEN) tokens. Its answer is a single token, which means nothing.
    pub fn warm(prefix: impl Into<Prompt>) -> Request {
        Request::new(prefix, Sampling { max_tokens: Some(1), ..Sampling::greedy() })
    }

    /// Answers that users wait for.
    pub(crate) fn users(&self) -> usize {
        let Sampling { n, best_of, .. } = self.sampling;
        // One that asks for absurdly many is refused.
        if self.scheduling.probe { 0 } else { best_of.unwrap_or(n).min(1 << 20) }
    }

    /// Whether it asks for no more than one answer.
    pub(crate) fn one_answer(&self) -> Result<(), Error> {
        let Sampling { n, best_of, .. } = self.sampling;
        let (field, value) = if n > 1 { ("n", n) } else { ("best_of", best_of.unwrap_or(1)) };
        match value {
            ..=1 => Ok(()),
            _ => {
                let expected =
                    "1 where one answer is expected: `submit_all` and `Llm::choices` give several".to_owned();
                Err(Error::Option { field, value: value.to_string(), expected })
            }
        }
    }
}

/// The tokens of a text to continue: in front those that the tokenizer puts before every text ([`Tokenizer::prefix`]), often BOS, unless the
/// text begins with the first of them; for an empty text at least BOS. Names of control tokens become these tokens, whoever wrote them. What
/// a tokenizer puts after texts, such as EOS, is left out: the text goes on.
///
/// A chat gets the same tokens in front, as in llama.cpp. Where its template writes no BOS though the tokenizer adds one,
/// `apply_chat_template` of transformers leaves it out. But names of control tokens in messages are plain text: pass a chat as
/// [`Prompt::Chat`].
pub fn prompt_tokens(tokenizer: &Tokenizer, prompt: &str) -> Vec<u32> {
    with_prefix(tokenizer, tokenizer.encode(prompt, EncodeOptions { parse_special: true, add_special: false }))
}

fn with_prefix(tokenizer: &Tokenizer, mut ids: Vec<u32>) -> Vec<u32> {
    let prefix = match tokenizer.prefix() {
        [] if ids.is_empty() => tokenizer.bos().into_iter().collect(),
        prefix => prefix.to_vec(),
    };
    if ids.first() != prefix.first() {
        ids.splice(0..0, prefix);
    }
    ids
}

/// A generated token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub id: u32,
    /// Text that became certain with it: often a word, sometimes none, or that of several tokens.
    pub text: String,
    /// The natural logarithm of its probability, when requested.
    pub logprob: Option<f64>,
    /// The most likely tokens in its place, as many as requested.
    pub top: Vec<Logprob>,
}

/// A token of a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptToken {
    pub id: u32,
    /// The natural logarithm of its probability after those before; `None` for the first.
    pub logprob: Option<f64>,
    /// The most likely tokens in its place, as many as requested.
    pub top: Vec<Logprob>,
}

/// What happened to a request: an [`EventKind`] that owns its text.
#[derive(Debug)]
pub enum Update {
    Progress(PromptProgress),
    Prompt(PromptToken),
    Token(Token),
    Finished { text: String, finish_reason: FinishReason, usage: Usage, timing: Timing },
}

impl From<EventKind<'_>> for Update {
    fn from(kind: EventKind) -> Update {
        match kind {
            EventKind::Progress(progress) => Update::Progress(progress),
            EventKind::Prompt { id, logprob, top } => Update::Prompt(PromptToken { id, logprob, top: top.to_vec() }),
            EventKind::Token { id, text, logprob, top } => {
                Update::Token(Token { id, text: text.to_owned(), logprob, top: top.to_vec() })
            }
            EventKind::Finished { text, finish_reason, usage, timing } => {
                Update::Finished { text: text.to_owned(), finish_reason, usage, timing }
            }
        }
    }
}

/// One of the answers to a request.
#[derive(Debug)]
pub struct Choice {
    pub index: usize,
    /// Its text, without end token and stop string.
    pub text: String,
    /// Its tokens, the one that ended it included.
    pub tokens: Vec<Token>,
    /// Tokens of the prompt, of the first choice when their log probabilities were requested.
    pub prompt: Vec<PromptToken>,
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timing: Timing,
}

impl Choice {
    /// An answer that has not begun.
    pub fn new(index: usize) -> Choice {
        Choice {
            index,
            text: String::new(),
            tokens: Vec::new(),
            prompt: Vec::new(),
            finish_reason: FinishReason::Cancelled,
            usage: Usage::default(),
            timing: Timing::default(),
        }
    }

    /// Adds what happened to it; whether it is finished.
    pub fn update(&mut self, update: Update) -> bool {
        match update {
            Update::Progress(_) => {}
            Update::Prompt(token) => self.prompt.push(token),
            Update::Token(token) => {
                self.text.push_str(&token.text);
                self.tokens.push(token);
            }
            Update::Finished { text, finish_reason, usage, timing } => {
                self.text.push_str(&text);
                (self.finish_reason, self.usage, self.timing) = (finish_reason, usage, timing);
                return true;
            }
        }
        false
    }

    /// The sum of the log probabilities of its tokens, if they were computed.
    pub fn cumulative_logprob(&self) -> Option<f64> {
        self.tokens.iter().map(|token| token.logprob).sum()
    }

    /// The `n` choices with the highest cumulative log probability, the highest first; of equals the lowest index.
    pub fn best(mut choices: Vec<Choice>, n: usize) -> Vec<Choice> {
        let rank = |choice: &Choice| choice.cumulative_logprob().unwrap_or(f64::NEG_INFINITY);
        choices.sort_by(|a, b| rank(b).total_cmp(&rank(a)).then(a.index.cmp(&b.index)));
        choices.truncate(n);
        choices
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its text, without end token and stop string.
    pub text: String,
    /// Its tokens, the one that ended it included.
    pub tokens: Vec<u32>,
    /// Why it ended: never [`FinishReason::Failed`].
    pub finish_reason: FinishReason,
    pub usage: Usage,
    pub timing: Timing,
}
