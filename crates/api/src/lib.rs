//! Requests of the APIs of OpenAI, Anthropic and Ollama, read for the engine, and its answers, written as clients expect them.
//!
//! A server and a batch file speak the same language: bodies as JSON. Here a body becomes an [`Ask`], or a [`Problem`] that names the field
//! which is wrong, and a [`Writer`] makes of what the engine reports one body, or a stream of events. There is no HTTP here: the crate
//! `server` has that, and [`mod@batch`] answers the lines of a file.
//!
//! Chats of all protocols are translated to OpenAI's words and read there; each has a [`Writer`] of its own.
//!
//! A field that is not known is refused, as OpenAI does, and one that is known and not supported says so.
//!
//! ```
//! use std::sync::Arc;
//! use trine_api::{Fields, PLAIN_TEMPLATE, Served, openai};
//! use trine_engine::Sampling;
//! use trine_model::{EMBEDDED, Language, open_file};
//! use trine_text::Template;
//!
//! let tokenizer = Arc::new(Language::of(&open_file(EMBEDDED, &Default::default())?)?.tokenizer);
//! let template = Template::new(PLAIN_TEMPLATE, "", "").map_err(|error| error.to_string());
//! let served = Arc::new(Served::new("stories", tokenizer, template, Sampling::default(), 512));
//! let body = serde_json::json!({"messages": [{"role": "user", "content": "Once upon a time"}], "max_tokens": 8});
//! let (ask, _) = openai::chat(Fields::new(body).unwrap(), &served, "1").unwrap();
//! assert_eq!(ask.sampling.max_tokens, Some(8));
//!
//! let body = serde_json::json!({"messages": [{"role": "user", "content": "Hello"}], "tempreature": 1});
//! let problem = openai::chat(Fields::new(body).unwrap(), &served, "1").err().unwrap();
//! assert_eq!(problem.param.as_deref(), Some("tempreature"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod anthropic;
mod ask;
pub mod batch;
mod chat;
mod constraint;
mod event;
mod fields;
mod form;
pub mod ollama;
pub mod openai;
mod problem;
pub mod responses;
mod sampling;
mod served;
pub mod tokens;

pub use ask::{Ask, prompt, prompts};
pub use event::{Event, Framing, Writer};
pub use fields::Fields;
pub use problem::{Problem, ProblemKind};
pub use served::{PLAIN_TEMPLATE, Served};
// What ends the compilation of a form of answers.
pub use trine_grammar::Stop;
