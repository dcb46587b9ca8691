//! Small-bit language models in one library: open a model file, run it, stream its text.
//!
//! ```
//! use trine::prelude::*;
//!
//! let mut llm = Llm::embedded()?; // or Llm::open("model.gguf")?
//! let sampling = Sampling { max_tokens: Some(64), ..Sampling::preset("balanced")? };
//! let answer = llm.generate("Once upon a time", &sampling)?;
//! println!("{} ({} tokens)", answer.text, answer.usage.completion_tokens);
//! # assert!(answer.usage.completion_tokens > 0);
//! # Ok::<(), trine::Error>(())
//! ```
//!
//! [`Llm::embedded`] is a small model that is part of the program, and [`EMBEDDED`] stands for its path. [`Llm::stream`] gives the text piece
//! by piece, [`Llm::chat`] goes through the model's chat template, [`Decoder::logits`] is the bare model, [`Embedder`] makes vectors of texts, and [`Options`] says how to load.
//! Behind them are the crates that are named here as modules; the [`engine`] answers many requests at once. With the feature `train` there is
//! also the module `train`, which makes models.

mod decoder;
mod embedder;
mod error;
mod llm;
mod load;
mod options;
mod placement;
mod size;
mod stream;

pub use decoder::Decoder;
pub use embedder::Embedder;
pub use error::{Error, ErrorKind};
pub use llm::Llm;
pub use load::Progress;
pub use options::Options;
pub use placement::{Placement, WeightStorage};
pub use size::{Memory, parameters};
pub use stream::Stream;
pub use trine_backend as backend;
pub use trine_engine as engine;
pub use trine_kernels as kernels;
pub use trine_model as model;
pub use trine_model::{EMBEDDED, open_file};
pub use trine_tensor as tensor;
pub use trine_text as text;
#[cfg(feature = "train")]
pub use trine_train as train;

/// All that most programs need.
pub mod prelude {
    pub use crate::engine::{Answer, Finish, Request, Sampling, Token, Usage};
    pub use crate::text::Message;
    pub use crate::{Decoder, EMBEDDED, Embedder, Error, Llm, Options, Progress, Stream};
}
