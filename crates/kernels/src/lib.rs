//! CPU kernels for language models with quantized weights: matrix products, attention, norms, their gradients,
//! and the threads that run them.
//!
//! Decoding a token reads every weight once, so its speed is that of memory: kernels multiply weights in the format
//! of their file, without expanding them, and prefetch ahead. At the same time the result must not depend on the
//! machine, or tests, caches and batches would change a model's answers. Here all instruction sets, any number of
//! threads and any batch give the same bits: float sums have one canonical order, integer sums are exact, and no
//! function comes from a mathematical library that differs between systems.
//!
//! # Overview
//!
//! - [`tables`] lists the instruction sets that this CPU has, best first; [`table`] finds one by name.
//! - [`CpuExecutor`] runs operations with one of them on a [`Pool`] of threads. Its methods take slices, shapes and an output slice.
//! - [`Matrix`] is a view of encoded weights; [`QuantizedActivations`] are the other operand of a product, in the [`ActivationLayout`]
//!   that the weight's format needs.
//! - [`KvLayout`] describes one layer's KV cache, and [`Attention`] and [`AttentionOptions`] what is computed over it.
//! - [`cpus`] and [`numa`] find out where threads can run and place memory; [`limits`] measures the bandwidth and the arithmetic of this
//!   machine.
//!
//! # Example
//!
//! The product of a quantized matrix and one token:
//!
//! ```
//! use trine_kernels::{CpuExecutor, Input, Matrix, QuantizedActivations, tables};
//! use trine_tensor::format::Q8_0;
//!
//! // Two rows of 32 columns, as a file stores them.
//! let bytes = Q8_0.encode(&[[1.0; 32], [-2.0; 32]].concat());
//! let w = Matrix::new(&Q8_0, 2, 32, &bytes);
//!
//! // The best instruction set of this CPU, on two threads.
//! let table = tables().next().expect("the scalar table is always there");
//! let mut executor = CpuExecutor::new(table, 2)?;
//!
//! let mut x = QuantizedActivations::default();
//! let layout = executor.activation_layout(w.format);
//! executor.quantize(&[0.5; 32], 32, layout, &mut x);
//! let mut out = [0.0; 2];
//! executor.product(w, Input::Quantized(&x), &mut out);
//! assert!((out[0] - 16.0).abs() < 0.1 && (out[1] + 32.0).abs() < 0.1);
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # Layers
//!
//! Each layer uses only those above it in this list:
//!
//! 1. plain types: views of matrices and caches, layouts of activations, options;
//! 2. `simd`: vector operations, a trait for each element type, implemented for each instruction set;
//! 3. kernels: functions over slices, generic over `Simd`, that neither allocate nor know threads;
//! 4. `table`: the registry that compiles every kernel once per instruction set;
//! 5. `executor`: planning, scratch memory and threads.

mod activations;
mod adjoint;
mod attention;
mod cache_line;
mod cache_type;
pub mod cpus;
mod dot;
mod elementwise;
mod error;
mod executor;
mod experts;
mod gemm;
mod kv;
pub mod limits;
mod math;
mod matrix;
pub mod numa;
mod quantize;
mod rope;
#[macro_use]
mod table;
mod simd;

pub use activations::{ActivationLayout, Input, QuantizedActivations};
pub use adjoint::adamw::AdamW;
pub use attention::backward::AttentionBackward;
pub use attention::forward::Attention;
pub use attention::options::AttentionOptions;
pub use cache_line::{CacheLine, CacheLines};
pub use cache_type::{CacheType, KV_FORMATS};
pub use dot::interleave::interleave;
pub use elementwise::Activation;
pub use error::Error;
pub use executor::CpuExecutor;
pub use executor::adjoint::rms_norm_back_bytes;
pub use executor::attention::attention_bytes;
pub use executor::attention_backward::attention_back_bytes;
pub use executor::gemm::gemm_bytes;
pub use executor::pool::Pool;
pub use executor::timeline::{Timeline, WorkSpan};
pub use experts::{ExpertGroups, Routes, Routing, ScoringFunction};
pub use gemm::{Factors, Strided};
pub use kv::{KvLayout, Span};
pub use matrix::{Matrix, PANEL};
pub use rope::RopeLayout;
pub use simd::require_cpu_features;
pub use table::{Operand, Table, multiplies_bf16, operand_of, table, tables};
