//! Tensors at rest: names, shapes, what each format's bytes mean, and the files they live in.
//!
//! [`File::open`] maps a GGUF or safetensors file and checks it once; [`File::view`] gives a tensor as a [`View`],
//! a range of the mapping; [`Format`] says what its bytes mean. There is no arithmetic here beyond encode and decode,
//! and nothing copies weights when a file is opened.
//!
//! ```no_run
//! let file = trine_tensor::File::open("model.gguf")?;
//! let width = file.metadata().u32("llama.embedding_length")?;
//! let first_row = {
//!     let view = file.view("token_embd.weight")?;
//!     let mut row = vec![0.0; view.cols()];
//!     view.decode_row(0, &mut row);
//!     row
//! };
//! # Ok::<(), trine_tensor::Error>(())
//! ```

mod error;
mod file;
pub mod format;
pub mod gguf;
mod mapping;
pub mod memory;
mod metadata;
mod replacement;
pub mod safetensors;
mod view;
mod writer;

pub use bytes::Bytes;
pub use error::{Error, Result};
pub use file::{File, Kind, OpenOptions, read_small};
pub use format::{FORMATS, Format};
pub use metadata::{Array, Metadata, Strings, Value};
pub use replacement::Replacement;
pub use view::{Entry, View};
pub use writer::Writer;
