//! From text to a ternary model: the tape and its gradients, quantisation-aware training, optimisers, data, checkpoints.
//!
//! The decoder of `trine-model` is not forked and does not know that it is trained: a [`Tape`] is a backend that remembers what it was asked, and goes
//! back. A [`Trainer`] does so step by step, as a [`Config`] says. A trained model reaches the engine as a file.

pub mod adjoint;
mod checkpoint;
pub mod config;
pub mod data;
mod error;
mod event;
pub mod export;
pub mod init;
mod plan;
mod resume;
mod scaler;
mod schedule;
mod setup;
mod tape;
mod teacher;
mod trainer;

pub use checkpoint::checkpoints;
pub use config::Config;
pub use error::{Error, Result};
pub use event::{Event, Progress, Step, Validation};
pub use plan::{Plan, PlanMemory};
pub use tape::{Param, Tape, Var};
pub use trainer::{Finished, Trainer};
