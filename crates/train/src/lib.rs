//! From text to a ternary model: the tape and its gradients, quantisation-aware training, optimisers, data, checkpoints.
//!
//! The decoder of `trine-model` is not forked and does not know that it is trained: a tape is a backend that remembers what it was asked, and goes back.
//! A trained model reaches the engine as a file.

pub mod config;
pub mod data;
mod error;
mod event;

pub use config::Config;
pub use error::{Error, Result};
pub use event::{Event, Step, Validation};
