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
    /// The chat template.
    #[error(transparent)]
    Text(#[from] trine_text::Error),
    /// More memory than the model may take.
    #[error(
        "the model takes {} bytes of memory (weights {}, KV cache {}, activations {}, program {}), more than the limit of {limit}",
        needed.total(), needed.weights, needed.kv_cache, needed.scratch, needed.program
    )]
    MemoryLimit { limit: u64, needed: Memory },
    /// More memory than the control group of the process allows, beyond which the system would end it.
    #[error(
        "the model takes {} bytes of memory besides its mapped file (weights {}, KV cache {}, activations {}, program {}), more than the \
         {limit} that the control group of this process allows",
        needed.pinned(), needed.weights - needed.mapped, needed.kv_cache, needed.scratch, needed.program
    )]
    ControlGroup { limit: u64, needed: Memory },
    /// A chat with a model that does not say how chats are written.
    #[error("the model has no chat template")]
    NoTemplate,
    /// An embedding model has no prompt of this name.
    #[error("prompt {found:?}: expected one of the model's, {known:?}")]
    UnknownPrompt { found: String, known: Vec<String> },
    /// The rest of an answer whose error a [`Stream`](crate::Stream) has given already.
    #[error("the answer has failed already")]
    AlreadyFailed,
}

/// What went wrong, for programs that act on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file does not exist or cannot be read.
    Io,
    /// The file is malformed, or not a model that we know.
    Model,
    /// The machine has too little memory, or the model takes more than was allowed.
    Memory,
    /// The device cannot be had, or failed.
    Device,
    /// An option or a request makes no sense for this model: a caller's mistake.
    Invalid,
    /// The prompt, or a text to embed, does not fit into the context.
    PromptTooLong,
    /// The chat template is missing, does not compile, or refuses the messages.
    Template,
    /// The model computed something that is not a number.
    NotFinite,
    Cancelled,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Model(error) => of_model(error),
            Error::Engine(error) => of_engine(error),
            Error::Text(_) | Error::NoTemplate => ErrorKind::Template,
            Error::MemoryLimit { .. } | Error::ControlGroup { .. } => ErrorKind::Memory,
            Error::AlreadyFailed | Error::UnknownPrompt { .. } => ErrorKind::Invalid,
        }
    }
}

fn of_model(error: &trine_model::Error) -> ErrorKind {
    use trine_model::Error as E;
    match error {
        E::In { source, .. } => of_model(source),
        E::Cancelled => ErrorKind::Cancelled,
        E::NotFinite { .. } => ErrorKind::NotFinite,
        E::Length { tokens, most } if tokens > most => ErrorKind::PromptTooLong,
        E::UnknownDevice { .. } | E::UnknownAdapter { .. } | E::Length { .. } => ErrorKind::Invalid,
        E::Device(error) => of_backend(error),
        E::File(error) => of_file(error),
        _ => ErrorKind::Model,
    }
}

fn of_file(error: &trine_tensor::Error) -> ErrorKind {
    match error {
        trine_tensor::Error::In { source, .. } => of_file(source),
        trine_tensor::Error::Io(_) | trine_tensor::Error::NotFound | trine_tensor::Error::Write(_) => ErrorKind::Io,
        _ => ErrorKind::Model,
    }
}

fn of_backend(error: &trine_backend::Error) -> ErrorKind {
    use trine_backend::Error as E;
    match error {
        E::NoRoom { .. } | E::NoMemory { .. } | E::Lock { .. } => ErrorKind::Memory,
        E::Damaged(_) | E::TooWide { .. } | E::Unfit { .. } => ErrorKind::Model,
        E::Read { .. } => ErrorKind::Io,
        E::CacheType { .. } => ErrorKind::Invalid,
        _ => ErrorKind::Device,
    }
}

fn of_engine(error: &trine_engine::Error) -> ErrorKind {
    use trine_engine::Error as E;
    match error {
        E::PromptTooLong { .. } => ErrorKind::PromptTooLong,
        E::NotFinite { .. } => ErrorKind::NotFinite,
        E::CacheTooSmall { .. } | E::CacheTooLarge { .. } => ErrorKind::Memory,
        E::Model(error) => of_model(error),
        E::Forward(error) => of_model(error),
        E::ShutDown => ErrorKind::Cancelled,
        E::Panicked => ErrorKind::Device,
        _ => ErrorKind::Invalid,
    }
}
