//! Model files: GGUF and safetensors, and the weight formats in them.
//!
//! A model file comes from a stranger and may have gigabytes. This crate opens it without copying a weight, and checks it so thoroughly that
//! nothing after it needs to: every tensor is inside the file, has whole blocks, and overlaps no other. A malformed file is an [`Error`] that
//! names the place, what was expected and what was found; it never panics, and never allocates more than the file's size justifies.
//!
//! - [`File`] maps a GGUF or safetensors file, or all shards of one, and finds tensors by name. [`Metadata`] has the keys of GGUF.
//! - [`View`] is a tensor: name, shape, [`Format`], and a range of the file's bytes.
//! - [`FORMATS`] are all weight formats, from F32 to ternary ones, with scalar code for encoding and decoding. It is the definition that fast
//!   kernels are tested against; there is no other arithmetic in this crate.
//! - [`receipt`] is how a GGUF file proves what it is: what it was made of, and the hashes of all that it has.
//! - [`gguf`] and [`safetensors`] write files. A [`Writer`] replaces a file only when it is complete.
//!
//! ```
//! use trine_tensor::{File, Metadata, TensorInfo, View, format, gguf};
//!
//! # let folder = std::env::temp_dir().join(format!("trine-tensor-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let path = folder.join("model.gguf");
//! // A matrix of 2 rows and 32 columns, as 8-bit integers with a scale per 32 weights.
//! let info = TensorInfo { name: "token_embd.weight".to_owned(), format: &format::Q8_0, shape: vec![2, 32] };
//! let weights: Vec<f32> = (0..64).map(|i| i as f32 / 64.0).collect();
//! let view = View::new(info.name.clone(), info.format, info.shape.clone(), info.encode(&weights)?)?;
//! let mut metadata = Metadata::new();
//! metadata.insert("llama.embedding_length", 32u32);
//! gguf::write(&path, &metadata, &[view])?;
//!
//! let file = File::open(&path)?;
//! assert_eq!(file.metadata().u32("llama.embedding_length")?, Some(32));
//! let view = file.view("token_embd.weight")?;
//! let mut row = vec![0.0; view.cols()];
//! view.decode_row(1, &mut row);
//! assert!((row[31] - 63.0 / 64.0).abs() < 0.01);
//! # drop((file, view));
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), trine_tensor::Error>(())
//! ```

mod error;
mod file;
mod fingerprint;
mod folder;
pub mod format;
pub mod gguf;
pub mod llama2c;
mod mapping;
pub mod memory;
mod metadata;
mod new_folder;
pub mod receipt;
mod replacement;
pub mod safetensors;
mod sharded;
mod small;
mod view;
mod writer;

pub use bytes::Bytes;
pub use error::{Error, Result};
pub use file::{File, FileFormat, OpenOptions};
pub use folder::module_folder;
pub use format::{FORMATS, Format, IntegerScheme, Quantized};
pub use metadata::{Array, Metadata, Strings, Value};
pub use new_folder::NewFolder;
pub use receipt::Receipt;
pub use replacement::Replacement;
pub use sharded::ShardedWriter;
pub use small::{read_optional, read_small};
pub use view::{TensorInfo, View};
pub use writer::Writer;
