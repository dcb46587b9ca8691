//! A model on a device as one object: what everything above this crate runs models through.

mod on_device;
mod output;
mod score;
mod sequences;

pub use on_device::OnDevice;
pub use output::{Edit, Logit, Output, Want, argmax};
pub use score::{ScoreInput, ScoreOptions, Scored, Take, score};
pub use sequences::Sequences;

use crate::{Error, Result, Sizes, Spec};
use trine_backend::{
    ActivationPrecision, BLOCK_LEN, Batch, CacheId, CacheType, DeviceInfo, DeviceMemory, KvBlock, KvBlocks, KvShape,
    Stage,
};

impl Spec {
    /// The shape of a KV cache of `blocks` blocks for this model.
    pub fn kv_shape(&self, blocks: impl Into<KvBlocks>, cache_type: CacheType) -> KvShape {
        let Sizes { n_layers, n_kv_heads, head_dim, .. } = self.sizes;
        let windowed = self.layer_kinds.iter().map(|kind| kind.window.is_some()).collect();
        KvShape { n_layers, windowed, n_kv_heads, head_dim, blocks: blocks.into(), block_len: BLOCK_LEN, cache_type }
    }
}

/// A model on a device, with its KV caches.
///
/// The trait is object-safe: engines, evaluations and servers hold a `Box<dyn Runner>` and know neither device nor model type. It costs one
/// virtual call per forward pass. [`OnDevice`] implements it for every [`Backend`](trine_backend::Backend); a draft model is a second runner,
/// and a group of devices can be a runner that hands its batch to each of them.
///
/// ```
/// use trine_backend::CacheType;
/// use trine_model::runner::{Output, Sequences, Want};
/// use trine_model::{DeviceOptions, EMBEDDED, ModelOptions, load, open_file};
///
/// let file = open_file(EMBEDDED, &Default::default())?;
/// let mut go_on = |_| std::ops::ControlFlow::Continue(());
/// let mut runner = load(&file, &DeviceOptions::default(), ModelOptions::default(), &mut go_on)?;
/// let mut sequences = Sequences::new(&mut *runner, 1, CacheType::F32)?;
/// let sequence = sequences.add(3);
/// sequences.push(sequence, &[1, 5, 9], 1);
/// let mut output = Output::default();
/// sequences.run(&mut *runner, Want::Top { k: 2, edits: &[] }, &mut output)?;
/// assert_eq!(output.top(0).len(), 2);
/// sequences.release(&mut *runner);
/// # Ok::<(), trine_model::Error>(())
/// ```
pub trait Runner: Send {
    /// What the model is.
    fn spec(&self) -> &Spec;

    /// What it runs on.
    fn device(&self) -> &DeviceInfo;

    /// Lowers `spec().context_length` to this length, unless it is lower already. Models with LongRoPE, such as Phi 3.5, take the rope
    /// frequencies that are meant for this length: one list for all sequences, as llama.cpp does; transformers changes lists within a
    /// sequence that outgrows the original context and keeps the keys it has cached. Whoever runs batches keeps to the limit:
    /// [`Runner::forward`] does not check it.
    fn limit_context(&mut self, context_length: usize);

    /// Whether sequences may name this adapter in their [`Span`](trine_backend::Span); 0 is the model itself.
    fn has_adapter(&self, adapter: u32) -> bool;

    /// Chooses the precision of the inputs of linear layers.
    fn set_activation_precision(&mut self, precision: ActivationPrecision);

    /// The shape of a cache of so many blocks.
    fn kv_shape(&self, blocks: KvBlocks, cache_type: CacheType) -> KvShape;

    /// Makes an empty KV cache of so many blocks of [`BLOCK_LEN`] tokens. A runner may have several at once. Where layers with a window have
    /// fewer than others, [`Batch::push_windowed`] says which are a sequence's.
    ///
    /// # Errors
    /// When the device has no room for it, or cannot keep keys and values in this format.
    fn create_cache(&mut self, blocks: KvBlocks, cache_type: CacheType) -> Result<CacheId>;

    /// Frees a KV cache.
    ///
    /// # Panics
    /// When there is none of this id, as in the methods below.
    fn release_cache(&mut self, cache: CacheId);

    /// Gives back memory that nothing uses now, as [`Backend::trim`](trine_backend::Backend::trim).
    fn trim(&mut self);

    /// Copies a block of a cache to another block of it.
    fn copy_block(&mut self, cache: CacheId, from: KvBlock, to: KvBlock);

    /// Copies a block of a cache to the host: to swap it out, or to send it elsewhere.
    ///
    /// # Errors
    /// When the device failed.
    fn read_block(&mut self, cache: CacheId, block: KvBlock, out: &mut Vec<u8>) -> Result<()>;

    /// Writes what [`Runner::read_block`] gave, to any block of a cache of the same shape.
    fn write_block(&mut self, cache: CacheId, block: KvBlock, bytes: &[u8]);

    /// Runs a batch whose sequences are in `cache`, and puts what is wanted of its output rows into `output`, which is cleared first.
    ///
    /// # Errors
    /// When the device failed, a logit of [`Want::Top`] is not finite, or a sequence names an adapter that this runner does not have;
    /// [`Error::NoLogits`], and [`Error::BadEdit`] when an [`Edit`] is not as its fields require.
    ///
    /// # Panics
    /// When a token is not below `spec().vocab_size`, or a block is not in the cache.
    fn forward(&mut self, cache: CacheId, batch: &Batch, want: Want, output: &mut Output) -> Result<()>;

    /// Tells a profiler which stage begins.
    fn enter(&mut self, stage: Stage);

    /// The memory it takes.
    fn memory(&self) -> RunnerMemory;
}

/// The memory that a [`Runner`] takes, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunnerMemory {
    /// `None` when the device does not know.
    pub device: Option<DeviceMemory>,
    pub kv_caches: u64,
}

/// Runs one token, to find out at once that a model computes nonsense; token 0, if it has no embedding for this one. `want` is [`Want::Hidden`] for models without a head, and
/// [`Want::Logits`] for others.
///
/// # Errors
/// When an output is not finite, there is no room for a cache of one block, or the pass fails.
pub fn probe(runner: &mut dyn Runner, token: u32, want: Want) -> Result<()> {
    let (mut sequences, mut output) = (Sequences::new(runner, 1, CacheType::F32)?, Output::default());
    let sequence = sequences.add(1);
    let token = if (token as usize) < runner.spec().vocab_size { token } else { 0 };
    sequences.push(sequence, &[token], 1);
    let result = sequences.run(runner, want, &mut output);
    sequences.release(runner);
    result?;
    match output.values.iter().position(|x| !x.is_finite()) {
        Some(token) => Err(Error::NotFinite { found: output.values[token], token, arch: runner.spec().arch.name() }),
        None => Ok(()),
    }
}
