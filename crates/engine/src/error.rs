use std::time::Duration;

/// What can go wrong with a request or with making an engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model that continues no text.
    #[error("a model of architecture `{arch}` is an encoder: it gives embeddings of texts and does not continue them")]
    Encoder { arch: &'static str },
    /// A sampling option out of its range, or not of its type.
    #[error("{field} = {value}: expected {expected}")]
    Option { field: &'static str, value: String, expected: String },
    /// No preset of this name.
    #[error("no preset is called `{found}`; there are {known}")]
    UnknownPreset { found: String, known: String },
    /// A prompt without tokens.
    #[error("the prompt is empty: expected at least one token")]
    EmptyPrompt,
    /// A prompt that leaves no room for an answer. It is never cut.
    #[error("the prompt of {prompt} tokens{} not fit into the context of {context} tokens", answer(.most < .context))]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt: usize,
        /// Maximum tokens of a prompt: [`Sampling::max_prompt`](crate::Sampling::max_prompt).
        most: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// More requests wait than the engine is to hold.
    #[error("{queued} requests wait already, and with {asked} more there would be more than {most}: try again later")]
    QueueFull { queued: usize, asked: usize, most: usize },
    /// The prompts of the requests that wait are longer than the engine is to hold.
    #[error(
        "{queued} tokens of prompts wait already, and with {prompt} more there would be more than {most}: try again later"
    )]
    QueueTokensFull {
        queued: usize,
        /// Tokens of the new prompt.
        prompt: usize,
        most: usize,
    },
    /// A request waited longer than its `queue_timeout`.
    #[error("the request waited for {waited:.1?}, longer than its queue timeout of {timeout:.1?}")]
    QueueTimeout { waited: Duration, timeout: Duration },
    /// A request took longer than its `timeout`.
    #[error("the request took {took:.1?}, longer than its timeout of {timeout:.1?}")]
    Timeout { took: Duration, timeout: Duration },
    /// A token that the model does not have.
    #[error("{place}: token {id} is not one of the model's {vocab}")]
    BeyondVocabulary {
        place: String,
        id: u32,
        /// Tokens of the model.
        vocab: usize,
    },
    /// A context of zero tokens, or longer than the model's.
    #[error("a context of {asked} tokens: expected 1 to {most}, the model's")]
    Context { asked: usize, most: usize },
    /// An engine option that must be positive is zero.
    #[error("{field} = 0: expected at least 1")]
    Zero { field: &'static str },
    /// A KV cache that cannot hold one sequence of full length.
    #[error(
        "a KV cache of {bytes} bytes cannot hold one context: {needed} bytes are needed; give more or shorten the context"
    )]
    CacheTooSmall {
        bytes: usize,
        /// What one context needs.
        needed: usize,
    },
    /// A KV cache of more blocks than can be numbered.
    #[error("a KV cache of {blocks} blocks of {} tokens: expected at most {}", crate::BLOCK_LEN, u32::MAX)]
    CacheTooLarge { blocks: usize },
    /// A folder that cannot keep keys and values.
    #[error("the cache folder {}: {problem}", folder.display())]
    DiskCache { folder: std::path::PathBuf, problem: String },
    /// The model computed something that is no number: nothing can be picked.
    #[error(
        "the logit of token {id} at position {position} is {value}: the weights are broken or their scale overflows"
    )]
    NotFinite {
        id: u32,
        /// Tokens before the one that was to be picked.
        position: usize,
        value: f32,
    },
    /// A filter left no token to sample.
    #[error("no token is allowed at position {position}: the filters of the request left none")]
    NoCandidates { position: usize },
    /// A filter set a logit to NaN or infinity.
    #[error(
        "filter `{filter}` set the logit of token {id} at position {position} to {logit}: expected a finite number, or -inf to forbid \
         the token"
    )]
    FilterLogit { filter: String, id: u32, position: usize, logit: f64 },
    /// A custom filter failed.
    #[error("{0}")]
    Filter(String),
    /// The model could not be run.
    #[error(transparent)]
    Forward(std::sync::Arc<trine_model::Error>),
    /// The model, or its device, refused.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The engine of a [`Handle`](crate::Handle) has been shut down.
    #[error("the engine has been shut down")]
    ShutDown,
    /// A call of a [`Handle`](crate::Handle) on the engine's own thread, from a filter for example, would wait for itself.
    #[error("the engine's own thread cannot wait for the engine: call the handle from another thread")]
    OwnThread,
    /// The thread of a [`Handle`](crate::Handle) panicked, in a custom filter for example. The engine is gone.
    #[error("the engine's thread panicked")]
    Panicked,
}

/// What beside a prompt does not fit.
fn answer(is_needed: bool) -> &'static str {
    if is_needed { " and at least one more do" } else { " does" }
}
