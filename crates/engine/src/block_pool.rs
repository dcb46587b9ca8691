//! Blocks of the KV cache: how many sequences use each, and which hold what.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a full block holds: the SHA-256 of all tokens up to its end, of the adapter and of the domain, so that a wrong block is not found.
/// It is the same in every engine.
pub(crate) type Identity = [u8; 32];

/// Blocks of layers that keep the same tokens. Unreferenced ones keep their content until they are needed, least recently used first.
pub(crate) struct BlockPool {
    blocks: Vec<Block>,
    /// The block that holds each of these.
    cached: HashMap<Identity, u32>,
    unreferenced: usize,
    /// Blocks that a sequence has had.
    touched: usize,
}

struct Block {
    references: u32,
    touched: bool,
    /// Under which this block is in `cached`.
    content: Option<Identity>,
    /// Neighbours in the ring of unreferenced blocks, whose head is a block beyond the last.
    next: u32,
    previous: u32,
}

impl BlockPool {
    /// This many blocks, all empty.
    pub fn new(blocks: usize) -> BlockPool {
        let ring = |i: usize| (i % (blocks + 1)) as u32;
        let block =
            |i| Block { references: 0, touched: false, content: None, next: ring(i + 1), previous: ring(i + blocks) };
        BlockPool {
            blocks: (0..=blocks).map(block).collect(),
            // Twice the room, so that the map never grows when entries come and go.
            cached: HashMap::with_capacity(2 * blocks),
            unreferenced: blocks,
            touched: 0,
        }
    }

    /// Blocks in all.
    pub fn len(&self) -> usize {
        self.blocks.len() - 1
    }

    /// Blocks that no sequence uses.
    pub fn unreferenced(&self) -> usize {
        self.unreferenced
    }

    /// Blocks that a sequence has had since the last [`BlockPool::renew`].
    pub fn touched(&self) -> usize {
        self.touched
    }

    /// The memory of all blocks is new.
    pub fn renew(&mut self) {
        self.touched = 0;
        self.blocks.iter_mut().for_each(|block| block.touched = false);
    }

    /// Forgets what blocks hold.
    pub fn clear(&mut self) {
        self.cached.clear();
        self.blocks.iter_mut().for_each(|block| block.content = None);
    }

    /// The block that holds this.
    pub fn find(&self, content: &Identity) -> Option<u32> {
        self.cached.get(content).copied()
    }

    /// Blocks whose content may be found.
    pub fn cached(&self) -> usize {
        self.cached.len()
    }

    /// Lets others find what a block holds; false when another block, which holds the same, stays the one that is found.
    pub fn publish(&mut self, block: u32, content: Identity) -> bool {
        let Entry::Vacant(entry) = self.cached.entry(content) else { return false };
        entry.insert(block);
        self.blocks[block as usize].content = Some(content);
        true
    }

    /// A sequence begins to use the unreferenced block that was used longest ago; whether its content is forgotten for that.
    ///
    /// # Panics
    /// When there is none.
    pub fn take(&mut self) -> (u32, bool) {
        assert!(self.unreferenced > 0, "an unreferenced block");
        let oldest = self.blocks[self.len()].next;
        let content = self.blocks[oldest as usize].content.take();
        if let Some(content) = &content {
            self.cached.remove(content);
        }
        self.acquire(oldest);
        (oldest, content.is_some())
    }

    /// A sequence begins to use a block.
    pub fn acquire(&mut self, block: u32) {
        let Block { references, touched, next, previous, .. } = &mut self.blocks[block as usize];
        self.touched += usize::from(!std::mem::replace(touched, true));
        *references += 1;
        if *references == 1 {
            let (next, previous) = (*next, *previous);
            self.blocks[next as usize].previous = previous;
            self.blocks[previous as usize].next = next;
            self.unreferenced -= 1;
        }
    }

    /// A sequence stops using a block. One without content is reused before those that may be found.
    pub fn unreference(&mut self, block: u32) {
        self.put_back(block, self.blocks[block as usize].content.is_none());
    }

    /// A sequence stops using a block, which is the next to be reused.
    pub fn recycle(&mut self, block: u32) {
        self.put_back(block, true);
    }

    fn put_back(&mut self, block: u32, first: bool) {
        let head = self.len() as u32;
        let it = &mut self.blocks[block as usize];
        it.references -= 1;
        if it.references == 0 {
            let (previous, next) = match first {
                false => (self.blocks[head as usize].previous, head),
                true => (head, self.blocks[head as usize].next),
            };
            (self.blocks[block as usize].previous, self.blocks[block as usize].next) = (previous, next);
            self.blocks[previous as usize].next = block;
            self.blocks[next as usize].previous = block;
            self.unreferenced += 1;
        }
    }
}
