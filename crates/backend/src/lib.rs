//! What a decoder asks of a device, and the devices that answer.
//!
//! A decoder is a list of some twenty coarse operations: products, norms, attention, rope. A [`Backend`] holds weights, activations and KV
//! caches, and runs these operations. It knows no architecture, and the model above it knows no device, so every architecture runs on every
//! device.
//!
//! Operations are functional: they take activations and return new ones, so that a forward pass reads like the paper. A device recycles the
//! memory of activations that are dropped. Operations are also values, [`Op`], which a wrapper can time, log or compare without naming each.
//!
//! # Overview
//!
//! - [`Backend`] is the trait of devices; [`Ops`] has its operations as methods.
//! - [`Batch`] says which tokens a pass runs, in which blocks of the KV cache. [`Backend::begin`] copies it to the device once.
//! - [`Cpu`] is the CPU, by the kernels of `trine-kernels`.
//! - [`Around`] calls a function for each operation of another backend, [`profile`] records times and bytes, [`Observe`] records how large the
//!   inputs of products are, and [`Compare`] runs two backends and finds the first operation whose results differ.
//!
//! # Example
//!
//! A linear layer, on the CPU and within a wrapper that counts operations:
//!
//! ```
//! use trine_backend::{Around, Backend, Cpu, CpuOptions, Error, OpOf, Ops, Role};
//! use trine_tensor::{View, format::F32};
//!
//! let mut count = 0;
//! let cpu = Cpu::new(CpuOptions { threads: 1, ..CpuOptions::default() })?;
//! let mut device = Around::new(cpu, |cpu: &mut Cpu, op: OpOf<Cpu>| {
//!     count += 1;
//!     cpu.run(op)
//! });
//!
//! // Two rows of three weights, and two tokens.
//! let w = View::new("w", &F32, vec![2, 3], F32.encode(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])).unwrap();
//! let w = device.upload(w, Role::Linear)?;
//! let x = device.to_device(&[1.0, 0.0, 0.0, 0.0, 1.0, 1.0], 3);
//! let y = device.linear(&w, &x);
//! let y = device.add(&y, &y);
//!
//! let mut out = Vec::new();
//! device.to_host(&y, &mut out)?;
//! assert_eq!(out, [2.0, 8.0, 10.0, 22.0]);
//! drop(device);
//! assert_eq!(count, 2);
//! # Ok::<(), Error>(())
//! ```

mod around;
mod batch;
mod compare;
pub mod cpu;
mod kv_shape;
mod observe;
mod op;
mod ops;
pub mod profile;
mod rope;

pub use around::Around;
pub use batch::Batch;
pub use compare::{Both, Compare, Drift, Found, Tolerance};
pub use cpu::{Cpu, CpuOptions, CpuPlan, PlanLog, PlannedTensor, PlannedValue, Residency, WeightBytes, When};
pub use kv_shape::{KvBlock, KvBlocks, KvShape};
pub use observe::{Observe, Observed, ObservedWeight, Observer};
pub use op::{Ids, Op};
pub use ops::Ops;
pub use rope::{Rope, Temperature};
pub use trine_kernels::cpus::{Affinity, Topology};
pub use trine_kernels::numa::Numa;
pub use trine_kernels::{
    Activation, AttentionOptions, CacheType, ExpertGroups, KV_FORMATS, KvLayout, RopeLayout, Routing, ScoringFunction,
    Span,
};
pub use trine_kernels::{Table, table, tables};

use trine_tensor::{Format, View};

/// What a weight is for. A device may treat it accordingly; training decides by it what to quantize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The embeddings of tokens; also the output head where the two are tied.
    Embedding,
    /// Gains of a norm, or any other factor for each column.
    Norm,
    /// Added to the output of a linear layer.
    Bias,
    Linear,
    /// A linear layer whose input is rounded to 8 bits with one absmax scale per token, as BitNet b1.58 defines it (arXiv:2402.17764).
    BitLinear,
    Head,
}

/// Tokens of a KV cache block.
pub const BLOCK_LEN: usize = 16;

/// A KV cache of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CacheId(pub u32);

/// What a device is, for people and programs that choose one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Such as `cpu`.
    pub name: &'static str,
    /// The instruction set, or whatever else the device calls its kind.
    pub isa: &'static str,
    /// Host threads that compute one token at a time, and larger batches.
    pub threads: [usize; 2],
    /// The CPU of each host thread, the caller's first; empty when the system moves them.
    pub cpus: Vec<usize>,
    /// NUMA nodes that memory is placed on; empty when that is left to the system.
    pub nodes: Vec<usize>,
}

/// Bytes that a device takes, without its KV caches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Weights, in whatever form and place they are used.
    pub weights: u64,
    /// Activations and what kernels need, kept for the next pass.
    pub activations: u64,
}

/// The precision of the inputs of linear layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationPrecision {
    /// 8-bit integers with scales, where the device has such a kernel for the format of the weights: faster.
    #[default]
    Quantized,
    /// bfloat16 for F16 and BF16 weights, which are rounded to it, too: faster where the device has instructions for such products, with
    /// the same bits elsewhere. As `Quantized` for weights of other formats.
    Bf16,
    /// Full precision for every format: the reference for the error of the others. [`Role::BitLinear`] layers, which are defined with
    /// rounded inputs, round them all the same.
    F32,
}

impl ActivationPrecision {
    /// The names that can be parsed.
    pub const NAMES: [&str; 3] = ["int8", "bf16", "f32"];
}

impl std::fmt::Display for ActivationPrecision {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            ActivationPrecision::Quantized => "int8",
            ActivationPrecision::Bf16 => "bf16",
            ActivationPrecision::F32 => "f32",
        })
    }
}

impl std::str::FromStr for ActivationPrecision {
    type Err = String;

    fn from_str(text: &str) -> Result<ActivationPrecision, String> {
        match text {
            "int8" => Ok(ActivationPrecision::Quantized),
            "bf16" => Ok(ActivationPrecision::Bf16),
            "f32" => Ok(ActivationPrecision::F32),
            _ => Err(format!("expected one of {}, found `{text}`", ActivationPrecision::NAMES.join(", "))),
        }
    }
}

/// What a device is about to be used for: what happens until the next stage belongs to this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A step of the engine, which begins with choosing a batch.
    Step,
    Layer(usize),
    /// The last norm and the output head.
    Head,
    /// Picking tokens, and their text.
    Sample,
    /// Nothing: the step is over.
    Idle,
}

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No threads.
    #[error("the system gives no more threads: {0}")]
    Threads(#[source] std::io::Error),
    /// A CPU that threads cannot be bound to.
    #[error("threads cannot be bound to CPU {cpu}: this process may use {}", list(allowed))]
    Affinity { cpu: usize, allowed: Vec<usize> },
    /// A system that binds no threads.
    #[error("this system does not let a program bind its threads to CPUs")]
    NoAffinity,
    /// The system refused a memory policy.
    #[error("the system refuses the NUMA policy: {0}")]
    Numa(#[source] std::io::Error),
    /// The weights cannot be locked in memory.
    #[error("{bytes} bytes of weights cannot be locked in memory: {source}{}", limit.map(|limit| format!(" (this process may lock {limit} bytes, RLIMIT_MEMLOCK)")).unwrap_or_default())]
    Lock {
        bytes: usize,
        /// What is allowed in all.
        limit: Option<u64>,
        source: std::io::Error,
    },
    /// No room for a copy of a weight.
    #[error("{bytes} bytes of weights do not fit into memory")]
    NoMemory { bytes: usize },
    /// A weight that cannot be read from its file.
    #[error("tensor `{tensor}`: {source}")]
    Read { tensor: String, source: Box<trine_tensor::Error> },
    /// A weight's bytes are invalid in its format.
    #[error("{0}")]
    Damaged(Box<trine_tensor::Error>),
    /// A matrix so wide that integer sums could overflow.
    #[error("tensor `{tensor}`: rows of {found} numbers, more than the {most} that this device multiplies exactly")]
    TooWide { tensor: String, found: usize, most: usize },
    /// A weight whose format or shape cannot play its role.
    #[error("tensor `{tensor}` of format {format}: cannot serve as {role:?}: {reason}")]
    Unfit { tensor: String, format: &'static str, role: Role, reason: &'static str },
    /// A format that a KV cache cannot have.
    #[error("a KV cache of format {found}: there are {}", names(KV_FORMATS))]
    CacheType { found: CacheType },
    /// Not enough memory for the KV cache.
    #[error("a KV cache of {bytes} bytes does not fit into memory: ask for a shorter context or fewer sequences")]
    NoRoom { bytes: u128 },
    /// What happened on a device that is not part of this crate.
    #[error(transparent)]
    Other(Box<dyn std::error::Error + Send + Sync>),
}

fn names(formats: &[&Format]) -> String {
    formats.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// A device that runs a decoder. The shape of all activations is `[tokens, columns]`.
///
/// No method has a default, so a wrapper cannot forget to forward one. [`Ops`] has the operations as methods.
pub trait Backend {
    /// A weight on this device.
    type Weight;
    /// Activations on this device.
    type Act;
    /// The experts of each token, on this device.
    type Routes;
    /// What a forward pass needs of its [`Batch`], on this device: token ids, positions, block tables and output rows.
    type Pass;

    /// What the device is.
    fn info(&self) -> DeviceInfo;

    /// Moves a weight to the device: the one place where a weight enters it.
    ///
    /// # Errors
    /// When the device cannot hold it or cannot use it in this role.
    fn upload(&mut self, view: View, role: Role) -> Result<Self::Weight, Error>;

    /// Copies activations, `[rows, columns]`, row by row, to the device.
    fn to_device(&mut self, values: &[f32], columns: usize) -> Self::Act;

    /// Copies activations to the host, row by row, and waits for whatever computes them.
    ///
    /// # Errors
    /// When the device failed.
    fn to_host(&mut self, x: &Self::Act, out: &mut Vec<f32>) -> Result<(), Error>;

    /// The columns of activations.
    fn columns(&self, x: &Self::Act) -> usize;

    /// Makes an empty KV cache. A device may have several, of different shapes.
    ///
    /// # Errors
    /// When there is no room for it, or a format of its type is not one of [`KV_FORMATS`].
    fn create_cache(&mut self, shape: KvShape) -> Result<CacheId, Error>;

    /// Frees a KV cache.
    ///
    /// # Panics
    /// When there is none of this id, as in the methods below.
    fn release_cache(&mut self, cache: CacheId);

    /// Gives back memory that nothing uses now, such as buffers of activations that are kept for the next pass. What is computed later is the
    /// same, and the first pass takes longer.
    fn trim(&mut self);

    /// Copies the keys and values of one block, in all layers, to another block of the same cache.
    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock);

    /// Copies the keys and values of one block, in all layers, to the host. The bytes mean something to this device alone.
    ///
    /// # Errors
    /// When the device failed.
    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Writes what [`Backend::read_block`] gave, to any block of a cache of the same shape.
    ///
    /// # Panics
    /// When `bytes` does not have the length of a block of this cache.
    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]);

    /// The memory that it takes between passes; `None` when it does not know.
    fn memory(&self) -> Option<DeviceMemory>;

    /// Chooses the precision of the inputs of linear layers.
    fn set_activation_precision(&mut self, precision: ActivationPrecision);

    /// Tells what follows, for a device that keeps account of it.
    fn enter(&mut self, stage: Stage);

    /// Begins a forward pass over a batch whose blocks are in `cache`: all that the device needs of the batch is copied once.
    fn begin(&mut self, cache: CacheId, batch: &Batch) -> Self::Pass;

    /// Ends a forward pass.
    ///
    /// # Errors
    /// When the device failed in it.
    fn finish(&mut self, pass: Self::Pass) -> Result<(), Error>;

    /// Runs one operation.
    fn run(&mut self, op: OpOf<Self>) -> Self::Act;

    /// Chooses the experts of each token, whose scores are `[tokens, experts]`. `bias` counts for the choice alone.
    fn route(&mut self, scores: &Self::Act, bias: Option<&Self::Weight>, routing: &Routing) -> Self::Routes;

    /// The experts of each token, `[tokens, experts used]`, on the host.
    ///
    /// # Errors
    /// When the device failed.
    fn chosen_experts(&mut self, routes: &Self::Routes, out: &mut Vec<u32>) -> Result<(), Error>;

    /// Residual, then the next norm: the sum, and its norm. Where a device has no kernel that does both, [`add_norm`] composes them.
    fn add_norm(&mut self, gain: &Self::Weight, a: &Self::Act, b: &Self::Act, eps: f32) -> (Self::Act, Self::Act);
}

/// An operation on the operands of the backend `B`.
pub type OpOf<'a, B> =
    Op<'a, <B as Backend>::Weight, <B as Backend>::Act, <B as Backend>::Routes, <B as Backend>::Pass>;

/// [`Backend::add_norm`] as two operations.
pub fn add_norm<B: Backend>(be: &mut B, gain: &B::Weight, a: &B::Act, b: &B::Act, eps: f32) -> (B::Act, B::Act) {
    let sum = be.add(a, b);
    let normed = be.rms_norm(gain, &sum, eps);
    (sum, normed)
}
