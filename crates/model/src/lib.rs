//! How models differ, and the one decoder that runs them all.
//!
//! An architecture is data ([`Arch`]), a model is numbers ([`Spec`]); [`Model::forward`] is the only forward pass in the project and
//! names no device, number format or architecture.

pub mod arch;
mod attention;
mod decoder;
mod device;
mod embedded;
mod embedder;
mod error;
mod feed_forward;
mod hub;
mod keys;
mod loader;
mod packed;
mod rope;
pub mod runner;
mod sizes;
mod spec;
mod vocab;
mod weights;

pub use arch::{ARCHS, Arch, NormKind, NormPlacement, QkNorm};
pub use decoder::{Model, ModelOptions};
pub use device::{DEVICES, Device, DeviceName, DeviceOptions, load, load_side_by_side};
pub use embedded::{EMBEDDED, open_file};
pub use embedder::{Embedder, Pooling, is_for_embeddings};
pub use error::{Error, Result};
pub use packed::Unpack;
pub use runner::{OnDevice, Runner, RunnerMemory};
pub use sizes::{Sizes, Tensor};
pub use spec::{Experts, LayerKind, Mla, Packing, Spec};
pub use vocab::{Language, vocab_metadata};
pub use weights::is_weight;
