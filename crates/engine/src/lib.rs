//! Requests in, tokens out: scheduling, cache blocks, sampling.
//!
//! An [`Engine`] runs many [`Request`]s at once. It is synchronous and has no thread, clock or randomness of its own: the same requests
//! give the same [`Event`]s, and a request's tokens depend neither on its neighbours nor on what is in the cache.

mod blocks;
mod engine;
mod error;
mod event;
mod param;
pub mod sample;
mod sampling;
mod scheduler;
mod sequence;
mod stops;

pub use blocks::BLOCK_LEN;
pub use engine::{Answer, Engine, EngineOptions, Load, Request};
pub use error::Error;
pub use event::{Emit, Event, EventKind, Finish, SeqId, Usage};
pub use param::{Field, Param, params};
pub use sampling::Sampling;
