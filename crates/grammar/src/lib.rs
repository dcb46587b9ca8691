//! Output that keeps to a grammar: JSON Schema, regular expressions, Lark, GBNF, and lists of choices.
//!
//! A [`Constraint`] says what an answer must look like. A [`Vocabulary`] is made of a model's tokenizer, once; a [`Grammar`] is a constraint
//! compiled for a vocabulary, and gives each request a [`Filter`](trine_engine::sample::Filter) that forbids the tokens with which the
//! answer could no longer become what the constraint asks for. Tokens that end an answer are allowed where it is complete, and nowhere else.
//! An answer that `max_tokens` or the context cuts off may be incomplete: its [`FinishReason`](trine_engine::FinishReason) tells.
//!
//! The tokens that remain keep the probabilities that the model gives them, renormalized. The masks are computed beside the forward pass
//! where the engine has threads for it ([`Engine::prepare_beside`](trine_engine::Engine::prepare_beside)). A request whose mask cannot be
//! computed ends with an error.
//!
//! A [`Chat`] is a constraint for answers with thinking and calls of tools, in the format of a model's family.
//!
//! Constraints may come from anybody: [`Limits`] bound what compiling and each mask may take, and what is not supported is an error.
//!
//! ```
//! use trine_engine::{Request, Sampling};
//! use trine_grammar::{Constraint, Grammar, Vocabulary};
//! use trine_model::{EMBEDDED, Language, open_file};
//!
//! let file = open_file(EMBEDDED, &Default::default())?;
//! let vocabulary = Vocabulary::new(&Language::of(&file)?.tokenizer)?;
//! let grammar = Grammar::new(&vocabulary, &Constraint::Regex("[a-z]+( [a-z]+)*\\.".to_owned()))?;
//! let request = Request { filters: vec![grammar.filter()], ..Request::new("Once upon a time", Sampling::greedy()) };
//! # assert_eq!(request.filters.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod chat;
mod constraint;
mod error;
mod filter;
mod gbnf;
mod grammar;
mod grammars;
mod lark;
mod limits;
mod regex;
mod schema;
mod stop;
mod vocabulary;

pub use chat::{Chat, Thinking, ToolChoice};
pub use constraint::Constraint;
pub use error::Error;
pub use grammar::Grammar;
pub use grammars::Grammars;
pub use limits::Limits;
pub use stop::Stop;
pub use vocabulary::Vocabulary;
