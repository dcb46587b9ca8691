use super::{Output, Runner, Want};
use crate::Result;
use trine_backend::{BLOCK_LEN, Batch, CacheId, CacheType};

/// Sequences that run through a model by hand, in a KV cache of their own: for evaluations and programs that need logits. Requests that
/// generate text go to an engine.
///
/// The cache stays on the device until [`Sequences::release`]: dropping the sequences does not free it.
#[derive(Debug)]
#[must_use = "the cache stays on the device until `release`"]
pub struct Sequences {
    cache: CacheId,
    blocks: u32,
    sequences: Vec<Place>,
    /// The first block that no sequence has.
    next: u32,
    batch: Batch,
}

/// Where a sequence is in the cache.
#[derive(Clone, Copy, Debug)]
struct Place {
    first: u32,
    /// Tokens that it has room for.
    room: usize,
    /// Tokens that have run.
    len: usize,
    /// Tokens that follow them in the batch.
    queued: usize,
}

impl Sequences {
    /// No sequences yet, and a cache of so many blocks of [`BLOCK_LEN`] tokens.
    ///
    /// # Errors
    /// When there is no room for the cache.
    pub fn new(runner: &mut dyn Runner, blocks: usize, cache_type: CacheType) -> Result<Sequences> {
        let cache = runner.create_cache(blocks.into(), cache_type)?;
        Ok(Sequences { cache, blocks: blocks as u32, sequences: Vec::new(), next: 0, batch: Batch::new() })
    }

    /// The blocks that a sequence of so many tokens takes.
    pub fn blocks_of(tokens: usize) -> usize {
        tokens.div_ceil(BLOCK_LEN)
    }

    /// A new, empty sequence of at most so many tokens; its index.
    ///
    /// # Panics
    /// When the cache has too few blocks left.
    pub fn add(&mut self, tokens: usize) -> usize {
        let end = self.next as usize + Sequences::blocks_of(tokens);
        assert!(end <= self.blocks as usize, "{end} blocks of a cache of {}", self.blocks);
        self.sequences.push(Place { first: self.next, room: tokens, len: 0, queued: 0 });
        self.next = end as u32;
        self.sequences.len() - 1
    }

    /// Queues tokens that follow a sequence. Outputs are wanted for the last `outputs` of them.
    ///
    /// # Panics
    /// When they are more than the sequence has room for.
    pub fn push(&mut self, sequence: usize, ids: &[u32], outputs: usize) {
        let Place { first, room, .. } = self.sequences[sequence];
        let len = self.len(sequence);
        assert!(len + ids.len() <= room, "{} tokens in a sequence of at most {room}", len + ids.len());
        let blocks: Vec<u32> = (first..first + Sequences::blocks_of(len + ids.len()) as u32).collect();
        self.batch.push(ids, len, &blocks, outputs);
        self.sequences[sequence].queued += ids.len();
    }

    /// Tokens that are queued, and how many of them have outputs.
    pub fn queued(&self) -> [usize; 2] {
        [self.batch.tokens().len(), self.batch.outputs().len()]
    }

    /// Runs what is queued; the outputs are in the order of the calls of [`Sequences::push`].
    ///
    /// # Errors
    /// As [`Runner::forward`]. The queued tokens are then no part of their sequences.
    pub fn run(&mut self, runner: &mut dyn Runner, want: Want, output: &mut Output) -> Result<()> {
        let result = runner.forward(self.cache, &self.batch, want, output);
        self.batch.clear();
        for place in &mut self.sequences {
            let queued = std::mem::take(&mut place.queued);
            place.len += if result.is_ok() { queued } else { 0 };
        }
        result
    }

    /// Tokens of a sequence, those queued included.
    pub fn len(&self, sequence: usize) -> usize {
        let Place { len, queued, .. } = self.sequences[sequence];
        len + queued
    }

    /// Forgets the tokens of a sequence from position `len` on.
    ///
    /// # Panics
    /// When tokens are queued.
    pub fn truncate(&mut self, sequence: usize, len: usize) {
        assert!(self.batch.tokens().is_empty(), "queued tokens are run first");
        let old = &mut self.sequences[sequence].len;
        *old = len.min(*old);
    }

    /// Takes over the tokens of the only sequence of another cache of the same format, with their keys and values.
    ///
    /// # Errors
    /// When the device failed.
    pub fn copy_from(&mut self, runner: &mut dyn Runner, other: &Sequences) -> Result<()> {
        let (Place { first, len, .. }, mut bytes) = (other.sequences[0], Vec::new());
        assert!(
            len <= self.sequences[0].room && other.batch.tokens().is_empty(),
            "room for {len} tokens, none of them queued"
        );
        for i in 0..Sequences::blocks_of(len) as u32 {
            runner.read_block(other.cache, (first + i).into(), &mut bytes)?;
            runner.write_block(self.cache, (self.sequences[0].first + i).into(), &bytes);
        }
        self.sequences[0].len = len;
        Ok(())
    }

    /// Gives a sequence `len` tokens, whose keys and values are those of all tokens of sequence `from`, over and over: enough to measure how
    /// long it takes to attend to them.
    ///
    /// # Panics
    /// When it has no room for them, tokens are queued, or `from` has none, or fewer than `len` in blocks that are not full.
    pub fn fill(&mut self, runner: &mut dyn Runner, sequence: usize, len: usize, from: usize) {
        let (known, place) = (self.sequences[from], self.sequences[sequence]);
        assert!(len <= place.room && self.batch.tokens().is_empty(), "room for {len} tokens, none of them queued");
        assert!(
            known.len >= len.max(1) || (known.len > 0 && known.len.is_multiple_of(BLOCK_LEN)),
            "full blocks to copy, found {} tokens",
            known.len
        );
        let blocks = Sequences::blocks_of(known.len) as u32;
        for i in 0..Sequences::blocks_of(len) as u32 {
            let (copied, to) = (known.first + i % blocks, place.first + i);
            if copied != to {
                runner.copy_block(self.cache, copied.into(), to.into());
            }
        }
        self.sequences[sequence].len = len;
    }

    /// Forgets all sequences. The cache stays.
    pub fn clear(&mut self) {
        self.sequences.clear();
        self.batch.clear();
        self.next = 0;
    }

    /// Frees the cache.
    pub fn release(self, runner: &mut dyn Runner) {
        runner.release_cache(self.cache);
    }
}
