use crate::Memory;

/// Why a model cannot be loaded, or cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, its tokenizer, or the device.
    #[error(transparent)]
    Model(#[from] trine_model::Error),
    /// The request.
    #[error(transparent)]
    Engine(#[from] trine_engine::Error),
    /// The constraint of an answer.
    #[error(transparent)]
    Grammar(#[from] trine_grammar::Error),
    /// The chat template.
    #[error(transparent)]
    Text(#[from] trine_text::Error),
    /// More memory than the model may take.
    #[error(
        "the model takes {} of memory (weights {}, KV cache {}, activations {}, program {}), more than the limit of {}",
        size(needed.total()), size(needed.weights), size(needed.kv_cache), size(needed.activations + needed.sampling), size(needed.program), size(*limit)
    )]
    MemoryLimit { limit: u64, needed: Memory },
    /// More memory than the control group of the process allows, beyond which the system would end it.
    #[error(
        "the model takes {} of memory besides its mapped file (weights {}, KV cache {}, activations {}, program {}), more than the \
         {} that the control group of this process allows",
        size(needed.pinned()), size(needed.weights - needed.mapped), size(needed.kv_cache), size(needed.activations + needed.sampling), size(needed.program),
        size(*limit)
    )]
    ControlGroup { limit: u64, needed: Memory },
    /// A chat with a model that does not say how chats are written.
    #[error("the model has no chat template")]
    NoTemplate,
    /// A model has no chat template of this name.
    #[error("chat template {found:?}: expected {}", named(known, "chat templates"))]
    UnknownTemplate { found: String, known: Vec<String> },
    /// An embedding model has no prompt of this name.
    #[error("prompt {found:?}: expected {}", named(known, "prompts"))]
    UnknownPrompt { found: String, known: Vec<String> },
    /// The rest of an answer whose error a [`Stream`](crate::Stream) has given already.
    #[error("the answer has failed already")]
    AlreadyFailed,
}

/// A number of bytes, in MiB if there is one.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < MIB { format!("{bytes} bytes") } else { format!("{:.1} MiB", bytes as f64 / MIB as f64) }
}

/// What a model has of a kind, by name.
fn named(known: &[String], kind: &str) -> String {
    match known {
        [] => format!("none, as the model has no {kind}"),
        known => format!("one of the model's, {known:?}"),
    }
}

/// What a program can do about an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file is missing, or cannot be read or written: check its path.
    Io,
    /// The model is malformed, incomplete or unknown: get it again, or another one.
    Model,
    /// The machine has too little memory, or the model needs more than was allowed: free some, or choose a shorter context.
    Memory,
    /// The device is not available, or failed: choose another one, or other options.
    Device,
    /// The caller's mistake, such as an option out of range or something that this model does not do: change the request.
    Invalid,
    /// The prompt, or a text to embed, does not fit into the context: shorten it.
    PromptTooLong,
    /// The chat template is missing, does not compile, or refuses the messages: set another one.
    Template,
    /// The model computed something that is not a number: its weights are damaged.
    NotFinite,
    /// The work was cancelled, or its engine was shut down.
    Cancelled,
    /// Too many requests wait already: try again later.
    Busy,
    /// The request waited or ran longer than it was to.
    TimedOut,
    /// The engine's thread panicked, in a custom filter for example: make a new engine.
    Panicked,
}

impl Error {
    /// What a program can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Model(error) => of_model(error),
            Error::Engine(error) => of_engine(error),
            Error::Text(error) => of_text(error),
            Error::NoTemplate => ErrorKind::Template,
            Error::MemoryLimit { .. } | Error::ControlGroup { .. } => ErrorKind::Memory,
            Error::AlreadyFailed | Error::Grammar(_) | Error::UnknownPrompt { .. } | Error::UnknownTemplate { .. } => {
                ErrorKind::Invalid
            }
        }
    }
}

fn of_model(error: &trine_model::Error) -> ErrorKind {
    use trine_model::Error as E;
    match error {
        E::In { source, .. } => of_model(source),
        E::File(error) => of_file(error),
        E::Text(error) => of_text(error),
        E::Device(error) => of_backend(error),
        E::Cancelled | E::Stopped => ErrorKind::Cancelled,
        E::NotFinite { .. } => ErrorKind::NotFinite,
        E::Length { tokens, most } if tokens > most => ErrorKind::PromptTooLong,
        E::Length { .. }
        | E::NoLogits { .. }
        | E::BadEdit { .. }
        | E::UnknownAdapter { .. }
        | E::UnknownDevice { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Model,
    }
}

fn of_file(error: &trine_tensor::Error) -> ErrorKind {
    use trine_tensor::Error as E;
    match error {
        E::In { source, .. } => of_file(source),
        E::Io(_) | E::Write(_) | E::NotFound => ErrorKind::Io,
        _ => ErrorKind::Model,
    }
}

fn of_text(error: &trine_text::Error) -> ErrorKind {
    use trine_text::Error as E;
    match error {
        E::Template(_) => ErrorKind::Template,
        E::Training(_) => ErrorKind::Invalid,
        _ => ErrorKind::Model,
    }
}

fn of_backend(error: &trine_backend::Error) -> ErrorKind {
    use trine_backend::Error as E;
    match error {
        E::NoRoom { .. } | E::NoMemory { .. } | E::Lock { .. } => ErrorKind::Memory,
        E::Read { source, .. } => of_file(source),
        E::Damaged(_) | E::TooWide { .. } | E::Unfit { .. } => ErrorKind::Model,
        E::CacheType { .. } | E::Affinity { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Device,
    }
}

fn of_engine(error: &trine_engine::Error) -> ErrorKind {
    use trine_engine::Error as E;
    match error {
        E::Model(error) => of_model(error),
        E::Forward(error) => of_model(error),
        E::PromptTooLong { .. } => ErrorKind::PromptTooLong,
        E::NotFinite { .. } => ErrorKind::NotFinite,
        E::CacheTooSmall { .. } | E::CacheTooLarge { .. } => ErrorKind::Memory,
        E::QueueFull { .. } | E::QueueTokensFull { .. } => ErrorKind::Busy,
        E::QueueTimeout { .. } | E::Timeout { .. } => ErrorKind::TimedOut,
        E::ShutDown => ErrorKind::Cancelled,
        E::Panicked => ErrorKind::Panicked,
        _ => ErrorKind::Invalid,
    }
}
