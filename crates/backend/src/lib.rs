//! What a decoder asks of a device, and the devices that answer.
//!
//! A [`Backend`] knows no architecture; the model above it knows no device. The signatures are functional, so that a forward pass reads
//! like the paper; a device recycles the memory of activations that are dropped.

mod batch;
mod cpu;
pub mod profile;
mod rope;

pub use batch::Batch;
pub use cpu::{Act, Cpu, CpuOptions, Weight};
pub use rope::{Rope, Temperature};
pub use trine_kernels::cpus::{Affinity, Topology};
pub use trine_kernels::numa::Numa;
pub use trine_kernels::{
    Activation, AttentionOptions, ExpertGroups, KV_FORMATS, KvLayout, RopeLayout, Routing, ScoringFunction, Span,
};

use std::ops::Range;
use trine_tensor::{Format, View};

/// What a weight is for. A device may treat it accordingly; training decides by it what to quantise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Rows that tokens pick, and the output head where the two are one.
    Embedding,
    /// Gains of a norm, or any other factor for each column.
    Norm,
    /// Added to the output of a linear layer.
    Bias,
    /// A linear layer.
    Linear,
    /// A linear layer whose input is rounded to 8 bits with one absmax scale per token, as BitNet b1.58 defines it (arXiv:2402.17764).
    BitLinear,
    /// The output head.
    Head,
}

/// The shape of a KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvShape {
    /// Layers with a cache.
    pub n_layers: usize,
    /// Heads of keys and values.
    pub n_kv_heads: usize,
    /// Numbers of a head.
    pub head_dim: usize,
    /// Blocks, for all sequences together.
    pub blocks: usize,
    /// Tokens of a block, a multiple of 16.
    pub block_len: usize,
    /// What keys and values are kept as, one of [`KV_FORMATS`].
    pub format: &'static Format,
}

impl KvShape {
    /// Where keys and values of one layer are.
    pub fn layout(&self) -> KvLayout {
        let KvShape { n_kv_heads, head_dim, blocks, block_len, format, .. } = *self;
        KvLayout { format, n_kv_heads, head_dim, blocks, block_len }
    }

    /// Bytes of keys and values together; `None` when they cannot be counted.
    pub fn bytes(&self) -> Option<usize> {
        self.layout().bytes()?.checked_mul(self.n_layers)
    }
}

/// What linear layers multiply weights with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationPrecision {
    /// Bytes where the device has products of the weights' format with bytes: the fast way.
    #[default]
    Quantized,
    /// Numbers as they are, for every format: what the distance of the fast way is measured to. Layers that the model defines with rounded
    /// inputs, [`Role::BitLinear`], round them all the same.
    F32,
}

/// What a device is about to be used for: what happens until the next stage belongs to this one.
#[derive(Clone, Copy, Debug)]
pub enum Stage<'a> {
    /// A step of the engine, which begins with choosing a batch.
    Step,
    /// A forward pass.
    Forward(&'a Batch),
    /// A layer of the pass.
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
pub enum Error {
    /// No threads.
    #[error("the system gives no more threads: {0}")]
    Threads(#[source] std::io::Error),
    /// A CPU that threads cannot be bound to.
    #[error("threads cannot be bound to CPU {cpu}: this process may use {}", list(allowed))]
    Affinity {
        /// What was asked for.
        cpu: usize,
        /// What would work.
        allowed: Vec<usize>,
    },
    /// A system that binds no threads.
    #[error("this system does not let a program bind its threads to CPUs")]
    NoAffinity,
    /// A memory policy.
    #[error("the system refuses the NUMA policy: {0}")]
    Numa(#[source] std::io::Error),
    /// Weights that cannot be locked.
    #[error("{bytes} bytes of weights cannot be locked in memory: {source}{}", limit.map(|limit| format!(" (this process may lock {limit} bytes, RLIMIT_MEMLOCK)")).unwrap_or_default())]
    Lock {
        /// Of one tensor.
        bytes: usize,
        /// What is allowed in all.
        limit: Option<u64>,
        /// What the system says.
        source: std::io::Error,
    },
    /// No room for a copy of a weight.
    #[error("{bytes} bytes of weights do not fit into memory")]
    NoMemory {
        /// Of one tensor.
        bytes: usize,
    },
    /// A weight that cannot be read from its file.
    #[error("tensor `{tensor}`: {source}")]
    Read {
        /// Its name.
        tensor: String,
        /// What the file says.
        source: Box<trine_tensor::Error>,
    },
    /// A weight whose bytes are none.
    #[error("{0}")]
    Damaged(Box<trine_tensor::Error>),
    /// A matrix so wide that integer sums could overflow.
    #[error("tensor `{tensor}`: rows of {found} numbers, more than the {most} that this device multiplies exactly")]
    TooWide {
        /// Its name.
        tensor: String,
        /// Its columns.
        found: usize,
        /// What works.
        most: usize,
    },
    /// A weight whose format or shape cannot play its role.
    #[error("tensor `{tensor}` of format {format}: cannot serve as {role:?}: {reason}")]
    Unfit {
        /// Its name.
        tensor: String,
        /// Its format.
        format: &'static str,
        /// What it was to be.
        role: Role,
        /// Why not.
        reason: &'static str,
    },
    /// A format that a KV cache cannot have.
    #[error("a KV cache of format {found}: there are {}", names(KV_FORMATS))]
    CacheType {
        /// What was asked for.
        found: &'static str,
    },
    /// Not enough memory for the KV cache.
    #[error("a KV cache of {bytes} bytes does not fit into memory: ask for a shorter context or fewer sequences")]
    NoRoom {
        /// What was asked for.
        bytes: u128,
    },
}

fn names(formats: &[&Format]) -> String {
    formats.iter().map(|format| format.name).collect::<Vec<_>>().join(", ")
}

fn list(cpus: &[usize]) -> String {
    cpus.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// A device that runs a decoder. `[tokens, width]` is the shape of all activations.
pub trait Backend {
    /// A weight on this device.
    type Weight;
    /// Activations on this device.
    type Act;
    /// The experts of each token, on this device.
    type Routes;

    /// The one place where a weight enters a device.
    ///
    /// # Errors
    /// When the device cannot hold it or cannot use it in this role.
    fn upload(&mut self, view: View, role: Role) -> Result<Self::Weight, Error>;

    /// Makes a KV cache of this shape, empty, in place of the one before.
    ///
    /// # Errors
    /// When there is no room for it.
    fn reserve_kv(&mut self, shape: KvShape) -> Result<(), Error>;

    /// Says what linear layers take from now on.
    fn set_activation_precision(&mut self, activations: ActivationPrecision);

    /// Tells what follows, for a device that keeps account of it.
    fn enter(&mut self, _stage: Stage) {}

    /// Copies activations to the host, row by row.
    fn to_host(&mut self, x: &Self::Act, out: &mut Vec<f32>);

    /// Rows of `table`, one for each token.
    fn embed(&mut self, table: &Self::Weight, tokens: &[u32]) -> Self::Act;
    /// `x · wᵀ`, `[tokens, rows of w]`.
    fn linear(&mut self, w: &Self::Weight, x: &Self::Act) -> Self::Act;
    /// `x` plus the same row for every token.
    fn bias(&mut self, b: &Self::Weight, x: &Self::Act) -> Self::Act;
    /// Root-mean-square norm over each run of as many numbers as `gain` has: the whole row, or each head.
    fn rms_norm(&mut self, gain: &Self::Weight, x: &Self::Act, eps: f32) -> Self::Act;
    /// Layer norm over each run of `width` numbers; `gain` and `bias` have a multiple of those, and repeat.
    fn layer_norm(
        &mut self,
        gain: &Self::Weight,
        bias: Option<&Self::Weight>,
        x: &Self::Act,
        width: usize,
        eps: f32,
    ) -> Self::Act;
    /// `a + b`.
    fn add(&mut self, a: &Self::Act, b: &Self::Act) -> Self::Act;
    /// `factor * x`.
    fn scale(&mut self, x: &Self::Act, factor: f32) -> Self::Act;
    /// `cap * tanh(x / cap)`.
    fn softcap(&mut self, x: &Self::Act, cap: f32) -> Self::Act;
    /// `kind(gate) * up`, or `kind(gate)` where nothing is gated.
    fn gated_activation(&mut self, kind: Activation, gate: &Self::Act, up: Option<&Self::Act>) -> Self::Act;
    /// Of each `width` numbers those in `range`.
    fn slice_columns(&mut self, x: &Self::Act, width: usize, range: Range<usize>) -> Self::Act;
    /// Behind each `width` numbers of `a` as many of `b`, in turn; where `b` has one run of `width_b` in a row, that one behind each.
    fn concat(&mut self, a: &Self::Act, width: usize, b: &Self::Act, width_b: usize) -> Self::Act;
    /// Each of `heads` parts of a row of `x` by its own part of the rows of `w`, `[tokens, rows of w]`.
    fn linear_per_head(&mut self, w: &Self::Weight, x: &Self::Act, heads: usize) -> Self::Act;
    /// The experts of each token, whose scores are `[tokens, experts]`; `bias` counts for the choice alone.
    fn route(&mut self, scores: &Self::Act, bias: Option<&Self::Weight>, routing: &Routing) -> Self::Routes;
    /// Each token by its experts' parts of the rows of `w`, `[tokens * used, rows of w / experts]`. `x` has a row for each token, or one
    /// for each of its experts.
    fn experts(&mut self, w: &Self::Weight, x: &Self::Act, routes: &Self::Routes, experts: usize) -> Self::Act;
    /// `x`, `[tokens * used, width]`, plus each expert's part of `b`.
    fn experts_bias(&mut self, b: &Self::Weight, x: &Self::Act, routes: &Self::Routes) -> Self::Act;
    /// What the experts of each token say, `[tokens * used, width]`, added up with their weights: `[tokens, width]`.
    fn combine_experts(&mut self, x: &Self::Act, routes: &Self::Routes) -> Self::Act;
    /// Cosines and sines for the positions of a batch, for [`Backend::rope`] in every layer.
    fn rope_cache(&mut self, rope: &Rope, batch: &Batch) -> Self::Act;
    /// Turns every head of `x` by its token's angles.
    fn rope(&mut self, rope: &Rope, angles: &Self::Act, x: Self::Act) -> Self::Act;
    /// Stores `k` and `v` in the cache of `layer` at the batch's positions, then attends: `softmax(q kᵀ scale) v`
    /// as `attend` says, each query head with the KV head of its group. `sinks` are a score of each query head without a value.
    #[expect(clippy::too_many_arguments, reason = "as many as the operation has")]
    fn attention(
        &mut self,
        layer: usize,
        q: &Self::Act,
        k: &Self::Act,
        v: &Self::Act,
        attend: &AttentionOptions,
        sinks: Option<&Self::Weight>,
        batch: &Batch,
    ) -> Self::Act;
    /// Only these rows.
    fn gather_rows(&mut self, x: &Self::Act, rows: &[u32]) -> Self::Act;

    /// Residual, then the next norm. A fusion is a default method: a device overrides it where that measures faster, and gives the same.
    fn add_norm(&mut self, gain: &Self::Weight, a: &Self::Act, b: &Self::Act, eps: f32) -> (Self::Act, Self::Act) {
        let sum = self.add(a, b);
        let normed = self.rms_norm(gain, &sum, eps);
        (sum, normed)
    }
}
