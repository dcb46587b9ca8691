//! Requests in, tokens out: scheduling, cache blocks, sampling.
//!
//! An [`Engine`] runs many [`Request`]s at once. It is synchronous and has no thread, clock or randomness of its own: the same requests
//! give the same [`Event`]s, and a request's tokens depend neither on its neighbours nor on what is in the cache.

mod blocks;
mod engine;
mod error;
mod event;
mod handle;
mod options;
mod param;
mod request;
pub mod sample;
mod sampling;
mod scheduler;
mod sequence;
mod stops;

pub use engine::{Engine, EngineOptions, Join, Load};
pub use error::Error;
pub use event::{Emit, Event, EventKind, Finish, SeqId, Usage};
pub use handle::{Generation, Handle};
pub use options::Sampling;
pub use param::{Field, Param};
pub use request::{Answer, Prompt, Request, Token, Update, prompt_tokens};
pub use sampling::params;
pub use trine_backend::BLOCK_LEN;
