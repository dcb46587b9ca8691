//! Trains small language models, ternary ones above all: from text files to a GGUF file that the engine runs.
//!
//! # Why
//! Ternary weights cannot be had by rounding a trained float model; the model must be trained with rounded weights (quantization-aware training,
//! arXiv:2402.17764). Usually that happens in another program than inference, whose operations and roundings differ. Here, the decoder that is
//! trained is the one that generates: a [`Tape`] is a [`Backend`](trine_backend::Backend) that records what `Model::forward` computes on a device, and
//! multiplies by the same ternary kernels. The logits of training and of the exported file have the same bits.
//!
//! # Overview
//! - [`Trainer`] runs a [`Config`], the contents of a `config.toml`: steps, validation, checkpoints, and the model at the end. The command
//!   `trine train` is built on it.
//! - [`data`] reads documents, tokenizes them and packs them into sequences.
//! - [`Tape`] computes gradients by the backward passes in [`adjoint`]. Its weights are float32 masters, or frozen in any format.
//! - [`optimizer`] updates the weights: AdamW, Muon.
//! - [`init`] writes models with random weights, [`export`] trained ones.
//!
//! Losses, gradients and weights have the same bits for any number of threads, and after a resume.
//!
//! # Example
//! ```
//! use serde_json::json;
//! use std::ops::ControlFlow;
//! use trine_text::BpeOptions;
//! use trine_train::{Config, Error, TrainEvent, Trainer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let folder = tempfile::tempdir()?;
//! let text = "The miller counted pear trees. Then he counted them again. ".repeat(50);
//! let tokenizer = BpeOptions { vocab_size: 280, ..BpeOptions::default() }.train([Ok::<_, Error>(text.clone())].into_iter())?;
//! std::fs::write(folder.path().join("text.txt"), text)?;
//! std::fs::write(folder.path().join("tokenizer.json"), tokenizer.tokenizer)?;
//! std::fs::write(folder.path().join("tokenizer_config.json"), tokenizer.config)?;
//!
//! let config: Config = serde_json::from_value(json!({
//!     "model": {
//!         "tokenizer": folder.path().join("tokenizer.json"),
//!         "n_layers": 1, "hidden_size": 128, "n_heads": 4, "intermediate_size": 128,
//!     },
//!     "data": { "files": [folder.path().join("text.txt")] },
//!     "train": { "steps": 10, "batch": 2, "sequence": 32 },
//!     "optimizer": { "name": "muon" },
//!     "output": { "folder": folder.path().join("run") },
//! }))?;
//! let mut losses = Vec::new();
//! let mut trainer = Trainer::new(&config, false, &mut |_| ControlFlow::Continue(()))?;
//! let finished = trainer.run(&mut |event| {
//!     if let TrainEvent::Step(step) = event {
//!         losses.push(step.loss);
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! assert!(losses[9] < losses[0]);
//! assert_eq!(finished.model, folder.path().join("run/model.gguf"));
//! # Ok(())
//! # }
//! ```

pub mod adjoint;
mod checkpoint;
pub mod config;
pub mod data;
mod error;
mod event;
pub mod export;
pub mod init;
pub mod optimizer;
mod plan;
mod scaler;
mod schedule;
mod setup;
mod tape;
mod teacher;
mod trainer;

pub use checkpoint::checkpoints;
pub use config::Config;
pub use error::{Error, Result};
pub use event::{SetupProgress, StepMetrics, TrainEvent, Validation};
pub use plan::{Plan, PlanMemory};
pub use tape::{MasterWeight, Parameter, Tape, TapeWeight, Var, unsupported_operation};
pub use trainer::{Finished, Trainer};
