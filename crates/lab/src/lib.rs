//! Tools for models: they rewrite files, measure what that cost, and find out what is wrong.
//!
//! Quantizing a model is easy; knowing whether the result still works is not. These tools answer with numbers that have intervals, measured
//! through the same [`Runner`](trine_model::Runner) that serves the model. Each is a function that a command of `trine` calls. Long ones
//! report their progress, and stop when asked.
//!
//! - [`quantize`] writes a GGUF file in another format.
//! - [`receipt`] says what a file was made of, and how good it is; [`verify`] finds out whether that is true.
//! - [`imatrix`] measures how large the inputs of each column of a matrix are, for better quantizing.
//! - [`tasks`] measures how often a model answers questions correctly.
//! - [`diff`] compares two files: keys, tokenizer, and the distance of each tensor.
//! - [`perplexity`] measures how well a model predicts a text.
//! - [`mod@divergence`] measures how far the predictions of one model are from those of another.
//! - [`crossval`] compares token ids and probabilities with llama.cpp.
//! - [`doctor`] examines a file: weights, tokenizer, chat template, and a short text that the model must predict.
//! - [`mod@bench`] measures speed beside the limits of the machine and beside other programs, and the KL divergence between two files.
//! - [`w8a8`] measures what integers of 8 bits lose, by what shares a scale.
//! - [`append`] opens files that grow line by line, for the commands that answer requests and write texts.
//! - [`generate`] lets a model write many texts, as data to train on.
//! - [`synthetic`] writes models of given sizes with random weights.
//!
//! # Example
//!
//! A model is quantized, and both files are compared by the perplexity of a text:
//!
//! ```
//! use std::ops::ControlFlow;
//! use trine_backend::CacheType;
//! use trine_lab::perplexity::{PerplexityOptions, Text, Windows, perplexity};
//! use trine_lab::quantize::quantize;
//! use trine_model::{DeviceOptions, EMBEDDED, Language, ModelOptions, load, open_file};
//! use trine_tensor::{File, format::Q4_0};
//!
//! let folder = tempfile::tempdir()?;
//! let small = folder.path().join("q4_0.gguf");
//! let large = open_file(EMBEDDED, &Default::default())?;
//! // Its matrices are ternary, which Q4_0 holds as well.
//! let report = quantize(&large, &small, &Q4_0, &mut |_| ControlFlow::Continue(()))?;
//! assert!(report.rewritten > 0);
//!
//! let text = ["Once upon a time there was a little dog. He liked to play in the park with his friends.".to_owned()];
//! let measure = |file: &File| -> Result<f64, Box<dyn std::error::Error>> {
//!     let text = Text::new(&Language::of(file)?.tokenizer, &text, false, usize::MAX)?;
//!     let mut runner = load(file, &DeviceOptions::default(), ModelOptions::default(), &mut |_| ControlFlow::Continue(()))?;
//!     let windows = Windows::Sliding { context: 64, stride: 32 };
//!     let options = PerplexityOptions { windows, batch: 64, threads: 1, cache_type: CacheType::F32 };
//!     Ok(perplexity(&mut *runner, &text, &options, &mut |_| ControlFlow::Continue(()))?.perplexity.value)
//! };
//! let ratio = measure(&open_file(&small, &Default::default())?)? / measure(&large)?;
//! assert!((0.9..1.2).contains(&ratio), "{ratio}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod append;
pub mod bench;
pub mod crossval;
pub mod diff;
pub mod divergence;
pub mod doctor;
pub mod generate;
pub mod imatrix;
pub mod perplexity;
pub mod quantize;
pub mod receipt;
pub mod synthetic;
pub mod tasks;
pub mod tune;
pub mod verify;
pub mod w8a8;
