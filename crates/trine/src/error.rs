use crate::{engine, kernels, model, text};

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
    /// A chat with a model that does not say how chats are written.
    #[error("the model has no chat template")]
    NoTemplate,
}
