//! Language models from files: what a file holds, and the one decoder that runs it.
//!
//! Models differ less than their implementations suggest. Here an architecture is data (an [`Arch`], a row of [`ARCHS`]), a model is its
//! numbers (a [`Spec`], read from GGUF keys or from `config.json`), and [`Model::forward`] is the only forward pass. It names no device,
//! number format or architecture, so that a new architecture is a row and a new device a [`Backend`](trine_backend::Backend).
//!
//! - [`Spec::of`] reads and checks what a model is; [`Sizes`] describe one that is yet to be made.
//! - [`Language::of`] gives its tokenizer and chat template.
//! - [`Model::load`] uploads its weights: those of GGUF files as they are, those of Hugging Face folders renamed, cut or unpacked ([`QuantMethod`]).
//! - [`Embedder`] pools hidden states into a vector per text.
//! - [`open_file`] opens a model file; [`EMBEDDED`] names a small model that is part of the program.
//!
//! ```
//! use std::ops::ControlFlow;
//! use trine_backend::{Backend, Batch, Cpu, CpuOptions};
//! use trine_model::{EMBEDDED, Language, Model, open_file};
//! use trine_text::Encode;
//!
//! let file = open_file(EMBEDDED, &Default::default())?;
//! let tokenizer = Language::of(&file)?.tokenizer;
//! let mut cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
//! let model = Model::load(&mut cpu, &file, &mut |_bytes| ControlFlow::Continue(()))?;
//! assert_eq!(model.spec().arch.gguf[0], "bitnet");
//!
//! // One sequence, whose keys and values fill block 0 of the cache; logits of its last token alone.
//! let ids = tokenizer.encode("Once upon a", Encode::default());
//! cpu.reserve_kv(model.kv_shape(1, 16))?;
//! let mut batch = Batch::new();
//! batch.push(&ids, 0, &[0], 1);
//! let logits = model.forward(&mut cpu, &batch);
//! let mut values = Vec::new();
//! cpu.to_host(&logits, &mut values);
//! assert_eq!(values.len(), model.spec().vocab_size);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arch;
mod attention;
mod config;
mod decoder;
mod embedded;
mod embedder;
mod error;
mod feed_forward;
mod file_tensors;
mod file_weights;
mod hf;
mod keys;
mod loader;
mod quant;
mod sizes;
mod slice;
mod spec;
mod unpack;
mod vocab;
mod weights;

pub use arch::{ARCHS, Arch, NormKind, NormPlacement, QkNorm};
pub use decoder::Model;
pub use embedded::{EMBEDDED, open_file};
pub use embedder::{Embedder, Pooling, is_for_embeddings};
pub use error::{Error, Result};
pub use file_tensors::is_weight;
pub use quant::QuantMethod;
pub use sizes::{Sizes, TensorShape};
pub use spec::{Experts, LayerKind, Mla, Spec};
pub use unpack::Unpacker;
pub use vocab::{Language, vocab_metadata};
