//! The KV cache as blocks: who uses which, and which hold what, so that a known beginning is not computed again.

use crate::{BLOCK_LEN, PrefixCache, PrefixCacheStats};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What a full block holds: the SHA-256 of all tokens up to its end, of the adapter and of the domain, so that a wrong block is not found.
/// It is the same in every engine.
pub(crate) type Identity = [u8; 32];

/// What the first block of a sequence follows.
fn root(adapter: u32, domain: &str) -> Identity {
    let domain = Sha256::digest(domain.as_bytes());
    Sha256::new().chain_update(adapter.to_le_bytes()).chain_update(domain).finalize().into()
}

/// What a block of these tokens holds after another.
fn following(before: &Identity, tokens: &[u32; BLOCK_LEN]) -> Identity {
    let tokens = tokens.map(u32::to_le_bytes);
    Sha256::new().chain_update(before).chain_update(tokens.as_flattened()).finalize().into()
}

/// All blocks of the cache. Unreferenced ones keep their content until they are needed, least recently used first.
pub(crate) struct Blocks {
    blocks: Vec<Block>,
    /// The block that holds each of these.
    cached: HashMap<Identity, u32>,
    pub stats: PrefixCacheStats,
    /// Blocks that were filled since these were taken, what they hold, and how many come before; `None` if nobody takes them.
    pub published: Option<Vec<(u32, Identity, usize)>>,
    unreferenced: usize,
}

struct Block {
    references: u32,
    /// Under which this block is in `cached`.
    content: Option<Identity>,
    /// Neighbours in the ring of unreferenced blocks, whose head is a block beyond the last.
    next: u32,
    previous: u32,
}

/// The blocks of one sequence.
pub(crate) struct BlockTable {
    /// The adapter that the sequence runs with.
    pub adapter: u32,
    pub blocks: Vec<u32>,
    /// What its first block follows; `None` when others neither find its blocks nor give it theirs.
    root: Option<Identity>,
    /// How many at the front are full and cached.
    full: usize,
    /// What the full blocks hold, as far as somebody asked: a sequence that waits asks at each step.
    identities: Vec<Identity>,
}

impl BlockTable {
    /// No blocks yet, but room for so many, which are shared as `cache` says.
    pub fn new(adapter: u32, blocks: usize, cache: &PrefixCache) -> BlockTable {
        let root = match cache {
            PrefixCache::Off => None,
            PrefixCache::Domain(domain) => Some(root(adapter, domain)),
        };
        let identities = Vec::with_capacity(if root.is_some() { blocks } else { 0 });
        BlockTable { adapter, blocks: Vec::with_capacity(blocks), root, full: 0, identities }
    }

    /// An empty table whose blocks are shared with those of another.
    pub fn like(other: &BlockTable) -> BlockTable {
        let BlockTable { adapter, root, ref identities, .. } = *other;
        BlockTable { adapter, blocks: Vec::new(), root, full: 0, identities: identities.clone() }
    }

    /// What its block `i` holds when it is full, of all tokens in blocks; `None` when others do not find it. The tokens of a block that
    /// was asked for do not change.
    fn identity(&mut self, blocks: &[[u32; BLOCK_LEN]], i: usize) -> Option<Identity> {
        let root = self.root?;
        for block in blocks.iter().take(i + 1).skip(self.identities.len()) {
            let before = self.identities.last().unwrap_or(&root);
            self.identities.push(following(before, block));
        }
        self.identities.get(i).copied()
    }
}

impl Blocks {
    /// This many blocks, all empty.
    pub fn new(blocks: usize) -> Blocks {
        let ring = |i: usize| (i % (blocks + 1)) as u32;
        let block = |i| Block { references: 0, content: None, next: ring(i + 1), previous: ring(i + blocks) };
        Blocks {
            blocks: (0..=blocks).map(block).collect(),
            // Twice the room, so that the map never grows when entries come and go.
            cached: HashMap::with_capacity(2 * blocks),
            stats: PrefixCacheStats::default(),
            published: None,
            unreferenced: blocks,
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

    /// Forgets what blocks hold.
    pub fn clear(&mut self) {
        self.cached.clear();
        self.blocks.iter_mut().for_each(|block| block.content = None);
    }

    /// Fills an empty table with cached blocks that hold the beginning of `tokens`; returns the number of tokens they hold.
    pub fn match_prefix(&mut self, table: &mut BlockTable, tokens: &[u32]) -> usize {
        debug_assert!(table.blocks.is_empty());
        let full = tokens.as_chunks().0;
        while table.full < full.len()
            && let Some(content) = table.identity(full, table.full)
            && let Some(&block) = self.cached.get(&content)
        {
            self.acquire(block);
            table.blocks.push(block);
            table.full += 1;
        }
        table.full * BLOCK_LEN
    }

    /// How many blocks of the beginning of `tokens` are cached, and what the full blocks after them hold.
    pub fn missing(&self, table: &mut BlockTable, tokens: &[u32]) -> (usize, Vec<Identity>) {
        let full = tokens.as_chunks().0;
        let contents: Vec<Identity> = (0..full.len()).map_while(|i| table.identity(full, i)).collect();
        let cached = contents.iter().take_while(|content| self.cached.contains_key(*content)).count();
        (cached, contents[cached..].to_vec())
    }

    /// Gives a table blocks for `tokens` tokens; false, and nothing is changed, when too few are unreferenced.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize) -> bool {
        let more = tokens.div_ceil(BLOCK_LEN).saturating_sub(table.blocks.len());
        if more > self.unreferenced {
            return false;
        }
        for _ in 0..more {
            let oldest = self.blocks[self.len()].next;
            if let Some(content) = self.blocks[oldest as usize].content.take() {
                self.cached.remove(&content);
                self.stats.evictions += 1;
            }
            self.acquire(oldest);
            table.blocks.push(oldest);
        }
        true
    }

    /// Lets others find the blocks that the computed `tokens` of a sequence fill.
    pub fn publish(&mut self, table: &mut BlockTable, tokens: &[u32]) {
        let full = tokens.as_chunks().0;
        while table.full < full.len()
            && let Some(content) = table.identity(full, table.full)
        {
            let block = table.blocks[table.full];
            // Another sequence may have computed the same meanwhile: its block stays the cached one.
            if let Entry::Vacant(entry) = self.cached.entry(content) {
                entry.insert(block);
                self.blocks[block as usize].content = Some(content);
                if let Some(published) = &mut self.published {
                    published.push((block, content, table.full));
                }
            }
            table.full += 1;
        }
    }

    /// Takes all blocks from a table. The last goes first, so that it is the first to be reused: a beginning serves more requests.
    pub fn release(&mut self, table: &mut BlockTable) {
        for block in table.blocks.drain(..).rev() {
            self.unreference(block);
        }
        table.full = 0;
    }

    /// A sequence begins to use a block.
    fn acquire(&mut self, block: u32) {
        let Block { references, next, previous, .. } = &mut self.blocks[block as usize];
        *references += 1;
        if *references == 1 {
            let (next, previous) = (*next, *previous);
            self.blocks[next as usize].previous = previous;
            self.blocks[previous as usize].next = next;
            self.unreferenced -= 1;
        }
    }

    /// A sequence stops using a block. One without content is reused before those that may be found.
    fn unreference(&mut self, block: u32) {
        let head = self.len() as u32;
        let it = &mut self.blocks[block as usize];
        it.references -= 1;
        if it.references == 0 {
            let (previous, next) = match it.content.is_some() {
                true => (self.blocks[head as usize].previous, head),
                false => (head, self.blocks[head as usize].next),
            };
            (self.blocks[block as usize].previous, self.blocks[block as usize].next) = (previous, next);
            self.blocks[previous as usize].next = block;
            self.blocks[next as usize].previous = block;
            self.unreferenced += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What each block would hold in memory: its tokens and all before them, written when they are computed.
    struct Memory(Vec<Vec<u32>>);

    impl Memory {
        fn compute(&mut self, table: &BlockTable, tokens: &[u32], from: usize) {
            for position in from..tokens.len() {
                let block = &mut self.0[table.blocks[position / BLOCK_LEN] as usize];
                block.truncate(position % BLOCK_LEN);
                block.push(tokens[position]);
            }
        }

        fn read(&self, table: &BlockTable, tokens: usize) -> Vec<u32> {
            (0..tokens).map(|i| self.0[table.blocks[i / BLOCK_LEN] as usize][i % BLOCK_LEN]).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        /// Sequences over a tiny alphabet come and go in a cache that is too small, some computed together: what each finds and computes is
        /// its own tokens, and no block is lost or given twice.
        #[test]
        fn every_sequence_reads_its_own_tokens(
            requests in prop::collection::vec((prop::collection::vec(0u32..2, 1..5), 0..BLOCK_LEN, any::<[bool; 2]>()), 1..60)
        ) {
            let mut blocks = Blocks::new(8);
            let mut memory = Memory(vec![Vec::new(); 8]);
            let mut live: Vec<(BlockTable, Vec<u32>)> = Vec::new();
            let mut new = Vec::new();
            for (kinds, cut, [together, keep]) in requests {
                let mut tokens: Vec<u32> = kinds.iter().flat_map(|kind| [*kind; BLOCK_LEN]).collect();
                tokens.truncate(tokens.len() - cut);
                let mut table = BlockTable::new(0, 0, &PrefixCache::default());
                let cached = blocks.match_prefix(&mut table, &tokens);
                prop_assert_eq!(&memory.read(&table, cached), &tokens[..cached]);
                if blocks.grow(&mut table, tokens.len()) {
                    new.push((table, tokens, cached));
                } else {
                    blocks.release(&mut table);
                }
                if together && blocks.unreferenced() > 0 {
                    continue;
                }
                for (mut table, tokens, cached) in new.drain(..) {
                    memory.compute(&table, &tokens, cached);
                    blocks.publish(&mut table, &tokens);
                    live.push((table, tokens));
                }
                for (table, tokens) in &live {
                    prop_assert_eq!(&memory.read(table, tokens.len()), tokens);
                }
                let used: std::collections::HashSet<_> = live.iter().flat_map(|(table, _)| &table.blocks).collect();
                prop_assert_eq!(used.len() + blocks.unreferenced(), blocks.len());
                if !keep && !live.is_empty() {
                    let (mut gone, _) = live.swap_remove(cut % live.len());
                    blocks.release(&mut gone);
                }
            }
        }
    }

    #[test]
    fn adapters_share_no_blocks() {
        let (mut blocks, tokens) = (Blocks::new(4), [5; BLOCK_LEN]);
        let mut table = BlockTable::new(0, 1, &PrefixCache::default());
        assert!(blocks.grow(&mut table, BLOCK_LEN));
        blocks.publish(&mut table, &tokens);
        for (adapter, cached) in [(0, BLOCK_LEN), (7, 0), (0, BLOCK_LEN)] {
            let mut other = BlockTable::new(adapter, 1, &PrefixCache::default());
            assert_eq!(blocks.match_prefix(&mut other, &tokens), cached, "adapter {adapter}");
            blocks.release(&mut other);
        }
    }

    #[test]
    fn released_blocks_are_found_until_they_are_reused_the_oldest_first() {
        let mut blocks = Blocks::new(4);
        let texts: Vec<Vec<u32>> = (0..3).map(|id| vec![id; BLOCK_LEN]).collect();
        let find = |blocks: &mut Blocks, tokens: &[u32]| {
            let mut table = BlockTable::new(0, 0, &PrefixCache::default());
            let cached = blocks.match_prefix(&mut table, tokens);
            assert!(blocks.grow(&mut table, tokens.len()));
            blocks.publish(&mut table, tokens);
            blocks.release(&mut table);
            cached
        };
        for text in &texts {
            assert_eq!(find(&mut blocks, text), 0);
        }
        assert_eq!(find(&mut blocks, &texts[0]), BLOCK_LEN, "used again, so now the youngest");
        assert_eq!(find(&mut blocks, &[9; 2 * BLOCK_LEN]), 0, "takes the empty block and that of text 1");
        let found: Vec<_> = [0, 2, 1].map(|text| find(&mut blocks, &texts[text])).into();
        assert_eq!(found, [BLOCK_LEN, BLOCK_LEN, 0]);
    }

    #[test]
    fn what_follows_a_reused_block_is_not_found_behind_its_new_content() {
        let mut blocks = Blocks::new(3);
        let [a, b, c] = [1, 2, 3].map(|token| [token; BLOCK_LEN]);
        let mut tables =
            [BlockTable::new(0, 0, &PrefixCache::default()), BlockTable::new(0, 0, &PrefixCache::default())];
        let texts = [a.to_vec(), [a, b].concat()];
        for (table, text) in tables.iter_mut().zip(&texts) {
            assert!(blocks.grow(table, text.len()));
        }
        // Both computed `a`: the block of the first is known, and what follows it is a block of the second.
        for (table, text) in tables.iter_mut().zip(&texts) {
            blocks.publish(table, text);
        }
        blocks.release(&mut tables[0]);
        let mut table = BlockTable::new(0, 0, &PrefixCache::default());
        assert!(blocks.grow(&mut table, BLOCK_LEN));
        blocks.publish(&mut table, &c);
        blocks.release(&mut table);
        assert_eq!(blocks.match_prefix(&mut table, &[c, b].concat()), BLOCK_LEN);
    }
}
