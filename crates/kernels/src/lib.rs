//! Tensors in motion on a CPU: matrix products, norms, attention, and the threads that run them.
//!
//! Every kernel is written once, over a private trait of vector operations, and compiled once for each instruction set: a row in the
//! table of [`tables`]. All rows give the same bits, as do any number of threads and any batch: float sums have one canonical order,
//! integer sums are exact, and nothing is left to a mathematical library that another machine may have in another version.
//!
//! Kernels see slices: no files, no model, no allocation.

mod activation;
mod adjoint;
mod attention;
pub mod cpus;
mod dot;
mod elementwise;
mod experts;
mod gemm;
mod kv;
pub mod limits;
mod machine;
pub mod numa;
mod pool;
mod rope;
#[macro_use]
mod table;
mod simd;

pub use adjoint::AdamW;
pub use attention::{Attend, Attention, AttentionBack};
pub use elementwise::Activation;
pub use experts::{Groups, Routes, Routing, Score, route};
pub use gemm::{Factors, Strided};
pub use kv::{KV_FORMATS, KvLayout, Line, Lines, Span};
pub use machine::{Form, Input, Machine, Matrix, PANEL, Quantized, interleave};
pub use pool::Pool;
pub use rope::Pairs;
pub use table::{Operand, Table, operand_of, table, tables};

/// What can go wrong when kernels are chosen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such instruction set.
    #[error("unknown instruction set `{name}`: there are {known}")]
    UnknownIsa {
        /// What was asked for.
        name: String,
        /// All names.
        known: String,
    },
    /// The CPU lacks it.
    #[error("this CPU cannot run `{name}`: it can run {present}")]
    MissingIsa {
        /// What was asked for.
        name: String,
        /// What would work.
        present: String,
    },
}

/// Features that this program was compiled to need and this CPU lacks; it must not go on when there are any.
pub fn missing_features() -> Vec<&'static str> {
    #[cfg(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux")))]
    return simd::missing_features();
    #[cfg(not(any(target_arch = "x86_64", all(target_arch = "aarch64", target_os = "linux"))))]
    Vec::new()
}
