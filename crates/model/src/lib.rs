//! Language models from files: what a file holds, and the one decoder that runs it.
//!
//! Models differ less than their implementations suggest. Here an architecture is data (an [`Arch`], a row of [`ARCHS`]), a model is its
//! numbers (a [`Spec`], read from GGUF keys or from `config.json`), and [`Model::forward`] is the only forward pass. It names no device,
//! number format or architecture, so that a new architecture is a row and a new device a [`Backend`](trine_backend::Backend).
//!
//! - [`Spec::of`] reads and checks what a model is; [`Sizes`] describe one that is yet to be made.
//! - [`Language::of`] gives its tokenizer and chat template.
//! - [`load`] brings it to a device: a [`Runner`], which everything above runs models through.
//! - [`Model::load`] uploads its weights: those of GGUF files as they are, those of Hugging Face folders renamed, cut or unpacked ([`QuantMethod`]).
//! - [`PoolingHead`] pools hidden states into a vector per text.
//! - [`open_file`] opens a model file; [`EMBEDDED`] names a small model that is part of the program.
//!
//! ```
//! use std::ops::ControlFlow;
//! use trine_backend::CacheType;
//! use trine_model::runner::{Output, Sequences, Want};
//! use trine_model::{DeviceOptions, EMBEDDED, Language, ModelOptions, load, open_file};
//! use trine_text::EncodeOptions;
//!
//! let file = open_file(EMBEDDED, &Default::default())?;
//! let tokenizer = Language::of(&file)?.tokenizer;
//! let mut progress = |_bytes| ControlFlow::Continue(());
//! let mut runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut progress)?;
//! assert_eq!(runner.spec().arch.name(), "bitnet");
//!
//! // One sequence in a KV cache of two blocks; logits of its last token alone.
//! let ids = tokenizer.encode("Once upon a", EncodeOptions::default());
//! let mut sequences = Sequences::new(&mut *runner, 2, CacheType::F32)?;
//! let (sequence, mut output) = (sequences.add(32), Output::default());
//! sequences.push(sequence, &ids, 1);
//! sequences.run(&mut *runner, Want::Logits, &mut output)?;
//! assert_eq!(output.values.len(), runner.spec().vocab_size);
//! sequences.release(&mut *runner);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod arch;
mod as_gguf;
mod attention;
mod config;
mod decoder;
mod device;
mod embedded;
mod error;
mod feed_forward;
mod file_tensors;
mod file_weights;
mod fingerprint;
mod generation;
mod gguf_model;
mod hf;
mod hf_model;
mod keys;
mod loader;
mod plan;
mod pooling;
mod quant;
mod quantizer;
pub mod runner;
mod sentence_transformers;
mod sizes;
mod slice;
mod spec;
mod templates;
mod unpack;
mod vocab;
mod weights;

pub use arch::{ARCHS, Arch, NormKind, NormPlacement, QkNorm};
pub use as_gguf::{as_gguf, interleave, is_in_halves};
pub use decoder::{Model, ModelOptions, Rewrite};
pub use device::{DEVICES, Device, DeviceName, DeviceOptions, load, load_side_by_side, plan, plan_log};
pub use embedded::{EMBEDDED, open_file};
pub use error::{Error, Result};
pub use file_tensors::{is_head, is_weight};
pub use fingerprint::answer_fingerprint;
pub use generation::GenerationConfig;
pub use gguf_model::GgufModel;
pub use hf::SETTINGS;
pub use hf_model::{HfModel, ModuleFile};
pub use keys::files::{FileKeys, file_keys};
pub use keys::generation::{GENERATION_CONFIG, GGUF_SAMPLING};
pub use keys::gguf::{ARCHITECTURE_KEYS, ArchitectureKeys};
pub use keys::ignored::{IGNORED_HF_KEYS, IgnoredKeys};
pub use keys::tokenizer::{GGUF_TOKENIZER, SPECIAL_TOKENS_MAP, TOKENIZER_CONFIG};
pub use plan::{MemoryPlan, Workload};
pub use pooling::{Pooling, PoolingHead, is_for_embeddings};
pub use quant::{BitNet, BitNetWeights, QuantMethod};
pub use quantizer::Quantizer;
pub use runner::{OnDevice, Runner, RunnerMemory};
pub use sentence_transformers::TextSettings;
pub use sizes::{Sizes, TensorShape};
pub use spec::{Experts, LayerKind, Mla, Spec};
pub use unpack::Unpacker;
pub use vocab::{Language, vocab_metadata};
