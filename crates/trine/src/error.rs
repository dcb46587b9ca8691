use crate::{Memory, engine, kernels, model, text};

/// Why a model cannot be loaded, or cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, its tokenizer, or the device.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The instruction set.
    #[error(transparent)]
    Kernels(#[from] kernels::Error),
    /// The request.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The chat template.
    #[error(transparent)]
    Text(#[from] text::Error),
    /// More memory than the model may take.
    #[error(
        "the model takes {} bytes of memory (weights {}, KV cache {}, activations {}), more than the limit of {limit}",
        needed.total(), needed.weights, needed.kv_cache, needed.scratch
    )]
    MemoryLimit {
        /// What it may take.
        limit: u64,
        /// What it takes.
        needed: Memory,
    },
    /// A chat with a model that does not say how chats are written.
    #[error("the model has no chat template")]
    NoTemplate,
}
