//! Which tokens to run: for each sequence a run of new tokens after those that its cache holds.

use trine_kernels::Span;

/// Tokens of several sequences for one forward pass. Clearing and filling it again allocates nothing.
#[derive(Debug, Default)]
pub struct Batch {
    tokens: Vec<u32>,
    spans: Vec<Span>,
    blocks: Vec<u32>,
    /// The span of each token.
    owners: Vec<u32>,
    outputs: Vec<u32>,
}

impl Clone for Batch {
    fn clone(&self) -> Batch {
        let mut batch = Batch::default();
        batch.clone_from(self);
        batch
    }

    /// Takes over the room of `other`, too: once that is as large as it gets, nothing more is allocated.
    fn clone_from(&mut self, other: &Batch) {
        self.blocks.clear();
        self.blocks.reserve(other.blocks.capacity());
        self.tokens.clone_from(&other.tokens);
        self.spans.clone_from(&other.spans);
        self.blocks.clone_from(&other.blocks);
        self.owners.clone_from(&other.owners);
        self.outputs.clone_from(&other.outputs);
    }
}

impl Batch {
    /// No tokens.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// No tokens, but room for those of sequences with so many blocks together.
    pub fn with_capacity(blocks: usize) -> Batch {
        Batch { blocks: Vec::with_capacity(blocks), ..Batch::default() }
    }

    /// Removes all sequences, and keeps the memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.spans.clear();
        self.blocks.clear();
        self.owners.clear();
        self.outputs.clear();
    }

    /// Adds new `tokens` of a sequence that has `cached` before them, in the cache blocks `blocks`, which hold both. Outputs are
    /// computed for the last `outputs` tokens. The span it returns may be given an adapter.
    pub fn push(&mut self, tokens: &[u32], cached: usize, blocks: &[u32], outputs: usize) -> &mut Span {
        let start = self.tokens.len();
        let end = start + tokens.len();
        self.outputs.extend((end - outputs.min(tokens.len())..end).map(|row| row as u32));
        self.owners.extend(std::iter::repeat_n(self.spans.len() as u32, tokens.len()));
        self.tokens.extend_from_slice(tokens);
        let blocks = self.table(blocks);
        let window_blocks = blocks.clone();
        self.spans.push(Span { row: start, tokens: tokens.len(), cached, blocks, window_blocks, adapter: 0 });
        self.spans.last_mut().expect("just pushed")
    }

    /// As [`Batch::push`], for a sequence whose blocks are others in layers with a window. Those before the window are never read.
    pub fn push_windowed(
        &mut self,
        tokens: &[u32],
        cached: usize,
        [blocks, window_blocks]: [&[u32]; 2],
        outputs: usize,
    ) -> &mut Span {
        let window_blocks = self.table(window_blocks);
        let span = self.push(tokens, cached, blocks, outputs);
        span.window_blocks = window_blocks;
        span
    }

    fn table(&mut self, blocks: &[u32]) -> std::ops::Range<usize> {
        let first = self.blocks.len();
        self.blocks.extend_from_slice(blocks);
        first..self.blocks.len()
    }

    /// All tokens, one per row.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Rows whose outputs are wanted, in order.
    pub fn outputs(&self) -> &[u32] {
        &self.outputs
    }

    /// Position in its sequence of the token in `row`.
    pub fn position(&self, row: usize) -> usize {
        let span = &self.spans[self.owners[row] as usize];
        span.cached + row - span.row
    }

    /// The rows of each sequence, in order.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Cache blocks of all sequences; a span says which are its own.
    pub fn blocks(&self) -> &[u32] {
        &self.blocks
    }
}
