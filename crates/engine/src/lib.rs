//! Requests in, tokens out: scheduling, cache blocks, sampling.
//!
//! A forward pass reads every weight, whether it runs one sequence or sixteen, so a server or an evaluation runs as many as it can in one
//! batch. An [`Engine`] does that: each [`Engine::step`] admits waiting requests where the KV cache has room, reads a chunk of prompts,
//! generates one token for every sequence that is past its prompt, and reports [`Event`]s. Prompts that begin alike share blocks of the cache.
//!
//! The engine is synchronous and has no thread, clock or randomness of its own: the same requests give the same events, and a request's
//! tokens depend neither on its neighbours nor on what is in the cache. [`Handle`] runs one on a thread, for threads and async tasks.
//!
//! # Overview
//!
//! - [`Request`] holds a prompt, its [`Sampling`] and custom filters; [`Engine::submit`] gives it an id.
//! - [`Engine::step`] is called until [`Engine::is_idle`]; each event is a token or the end of a sequence.
//! - [`Handle::submit`] gives a [`Generation`], a stream of [`Update`]s. Dropping it cancels the request.
//! - [`sample::Filter`] is the trait of whatever changes which token is chosen; [`params`] lists the options that requests may have.
//!
//! # Example
//!
//! Two requests in one batch:
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::ops::ControlFlow;
//! use trine_engine::{Engine, EngineOptions, Error, EventKind, Request, Sampling};
//! use trine_model::{DeviceOptions, EMBEDDED, Language, ModelOptions, load, open_file};
//!
//! let file = open_file(EMBEDDED, &Default::default()).map_err(trine_model::Error::from)?;
//! let runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
//! let tokenizer = Language::of(&file)?.tokenizer.into();
//! let mut engine = Engine::new(runner, tokenizer, &EngineOptions::default())?;
//!
//! let mut texts = BTreeMap::new();
//! for prompt in ["Once upon a time", "The little dog"] {
//!     let sampling = Sampling { max_tokens: Some(8), ..Sampling::greedy() };
//!     texts.insert(engine.submit(Request::new(prompt, sampling))?, prompt.to_owned());
//! }
//! while !engine.is_idle() {
//!     engine.step(&mut |event| {
//!         if let EventKind::Token { text, .. } = event.kind {
//!             *texts.get_mut(&event.sequence).expect("it was submitted") += text;
//!         }
//!         ControlFlow::Continue(())
//!     });
//! }
//! assert!(texts.values().all(|text| text.len() > 20), "{texts:?}");
//! # Ok::<(), Error>(())
//! ```

mod block_pool;
mod blocks;
mod calibrate;
mod clock;
mod disk_cache;
mod engine;
mod error;
mod event;
mod fairness;
mod handle;
mod param;
mod preparer;
mod request;
mod restore;
pub mod sample;
mod sampling;
mod scheduler;
mod sequence;
mod step_cost;
mod stops;

pub use clock::Clock;
pub use disk_cache::DiskCacheOptions;
pub use engine::{Engine, EngineOptions, Load};
pub use error::Error;
pub use event::{Emit, Event, EventKind, FinishReason, PromptProgress, SeqId, Timing, Usage};
pub use handle::{Generation, Handle};
pub use param::{Field, Param};
pub use request::{
    Answer, Choice, PrefixCache, PrefixCacheStats, Prompt, PromptToken, Request, Scheduling, Token, Update,
    prompt_tokens,
};
pub use sampling::{Sampling, params, seed_of};
pub use trine_backend::BLOCK_LEN;
