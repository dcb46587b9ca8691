//! The blocks of each sequence in the KV cache, and which of them others find, so that a known beginning is not computed again.

use crate::block_pool::{BlockPool, Identity};
use crate::{BLOCK_LEN, PrefixCache, PrefixCacheStats};
use sha2::{Digest, Sha256};
use trine_backend::{Batch, KvBlock, KvBlocks};

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

/// All blocks of the cache.
pub(crate) struct Blocks {
    full: BlockPool,
    /// Those of layers with a window, if these have blocks of their own.
    window: Option<WindowBlocks>,
    pub stats: PrefixCacheStats,
    /// Blocks that were filled since these were taken, what they hold, and how many come before; `None` if nobody takes them.
    pub published: Option<Vec<(KvBlock, Identity, usize)>>,
}

struct WindowBlocks {
    pool: BlockPool,
    /// Positions that a token sees, its own included.
    len: usize,
}

impl WindowBlocks {
    /// The first block that a token at this position sees.
    fn first(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.len) / BLOCK_LEN
    }
}

/// The place of a block that a window has passed.
const GONE: u32 = u32::MAX;

/// The blocks of one sequence.
pub(crate) struct BlockTable {
    /// The adapter that the sequence runs with.
    pub adapter: u32,
    pub blocks: Vec<u32>,
    /// Those of layers with a window, which reach as far as is soon to be run; empty if they are the same.
    pub window_blocks: Vec<u32>,
    /// How many of these are [`GONE`].
    gone: usize,
    /// What its first block follows; `None` when others neither find its blocks nor give it theirs.
    root: Option<Identity>,
    /// How many at the front are full and cached.
    full: usize,
    /// What the full blocks hold, as far as somebody asked: of a prompt all, from the beginning.
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
        BlockTable {
            adapter,
            blocks: Vec::with_capacity(blocks),
            window_blocks: Vec::new(),
            gone: 0,
            root,
            full: 0,
            identities,
        }
    }

    /// An empty table whose blocks are shared with those of another.
    pub fn like(other: &BlockTable) -> BlockTable {
        let BlockTable { adapter, root, ref identities, .. } = *other;
        BlockTable { root, identities: identities.clone(), ..BlockTable::new(adapter, 0, &PrefixCache::Off) }
    }

    /// Its block `i`, which no window has passed.
    pub fn block(&self, i: usize) -> KvBlock {
        KvBlock { full: self.blocks[i], window: *self.window_blocks.get(i).unwrap_or(&self.blocks[i]) }
    }

    /// Adds new tokens of its sequence to a batch, after those that are cached.
    pub fn push(&self, batch: &mut Batch, tokens: &[u32], cached: usize, outputs: usize) {
        let span = match self.window_blocks.is_empty() {
            true => batch.push(tokens, cached, &self.blocks, outputs),
            false => batch.push_windowed(tokens, cached, [&self.blocks, &self.window_blocks], outputs),
        };
        span.adapter = self.adapter;
    }

    /// Notes what the blocks of a prompt will hold.
    pub fn identify(&mut self, prompt: &[u32]) {
        let full = prompt.as_chunks().0;
        self.identity(full, full.len().saturating_sub(1));
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
    /// This many blocks, all empty. Layers with a window have blocks of their own when it is given.
    pub fn new(blocks: KvBlocks, window: Option<usize>) -> Blocks {
        Blocks {
            full: BlockPool::new(blocks.full),
            window: window.map(|len| WindowBlocks { pool: BlockPool::new(blocks.window), len }),
            stats: PrefixCacheStats::default(),
            published: None,
        }
    }

    /// Blocks in all, of layers that attend to all tokens.
    pub fn len(&self) -> usize {
        self.full.len()
    }

    /// Blocks that every layer has.
    pub fn least(&self) -> usize {
        self.window.as_ref().map_or(usize::MAX, |window| window.pool.len()).min(self.len())
    }

    /// Blocks that no sequence uses, of layers that attend to all tokens.
    pub fn unreferenced(&self) -> usize {
        self.full.unreferenced()
    }

    /// Blocks whose content may be found, of layers that attend to all tokens.
    pub fn cached_blocks(&self) -> usize {
        self.full.cached()
    }

    /// Blocks that no sequence uses, of those layers that have the fewest.
    pub fn spare(&self) -> usize {
        self.window.as_ref().map_or(usize::MAX, |window| window.pool.unreferenced()).min(self.unreferenced())
    }

    /// Blocks that a sequence has had since the last [`Blocks::renew`]; those of layers with a window are as many unless they have their own.
    pub fn touched(&self) -> KvBlocks {
        let full = self.full.touched();
        KvBlocks { full, window: self.window.as_ref().map_or(full, |window| window.pool.touched()) }
    }

    /// The memory of all blocks is new.
    pub fn renew(&mut self) {
        self.full.renew();
        self.window.iter_mut().for_each(|window| window.pool.renew());
    }

    /// Forgets what blocks hold.
    pub fn clear(&mut self) {
        self.full.clear();
        self.window.iter_mut().for_each(|window| window.pool.clear());
    }

    /// How many blocks of the beginning of `tokens` are cached, with what the token after them sees.
    fn cached(&self, table: &mut BlockTable, tokens: &[u32]) -> usize {
        let full = tokens.as_chunks().0;
        let known = |i: &usize| table.identity(full, *i).is_some_and(|content| self.full.find(&content).is_some());
        let n = (0..full.len()).take_while(known).count();
        let Some(window) = &self.window else { return n };
        let (mut cached, mut in_a_row) = (0, 0);
        for (i, content) in table.identities[..n].iter().enumerate() {
            in_a_row = if window.pool.find(content).is_some() { in_a_row + 1 } else { 0 };
            if in_a_row + window.first((i + 1) * BLOCK_LEN) > i {
                cached = i + 1;
            }
        }
        cached
    }

    /// Fills an empty table with cached blocks that hold the beginning of `tokens`; returns the number of tokens they hold.
    pub fn match_prefix(&mut self, table: &mut BlockTable, tokens: &[u32]) -> usize {
        debug_assert!(table.blocks.is_empty());
        if self.window.is_some() {
            // A token allocates nothing.
            table.window_blocks.reserve(table.blocks.capacity());
        }
        let n = self.cached(table, tokens);
        for content in &table.identities[..n] {
            let block = self.full.find(content).expect("just found");
            self.full.acquire(block);
            table.blocks.push(block);
        }
        self.slide(table, n * BLOCK_LEN, 0);
        if let Some(window) = &mut self.window {
            for content in &table.identities[table.gone.min(n)..n] {
                let block = window.pool.find(content).expect("just found");
                window.pool.acquire(block);
                table.window_blocks.push(block);
            }
        }
        table.full = n;
        n * BLOCK_LEN
    }

    /// Whether a running sequence is about to compute a block of the first `tokens` tokens of one that waits, and which is not cached yet.
    pub fn computes(&self, running: &BlockTable, waiting: &BlockTable, tokens: usize) -> bool {
        let window = |content| self.window.as_ref().is_none_or(|window| window.pool.find(content).is_some());
        let cached = |content| self.full.find(content).is_some() && window(content);
        let pairs = running.identities.iter().zip(&waiting.identities).take(tokens / BLOCK_LEN).skip(running.full);
        pairs.take_while(|(running, waiting)| running == waiting).any(|(content, _)| !cached(content))
    }

    /// How many blocks of the beginning of `tokens` are cached, and what the full blocks after them hold.
    pub fn missing(&self, table: &mut BlockTable, tokens: &[u32]) -> (usize, Vec<Identity>) {
        let full = tokens.as_chunks().0;
        let contents: Vec<Identity> = (0..full.len()).map_while(|i| table.identity(full, i)).collect();
        let cached = self.cached(table, tokens);
        (cached, contents[cached..].to_vec())
    }

    /// Gives a table blocks for `tokens` tokens, and in layers with a window for the first `soon` of them; false, and nothing is changed,
    /// when too few are unreferenced.
    pub fn grow(&mut self, table: &mut BlockTable, tokens: usize, soon: usize) -> bool {
        let more = tokens.div_ceil(BLOCK_LEN).saturating_sub(table.blocks.len());
        let in_window = soon.min(tokens).div_ceil(BLOCK_LEN).saturating_sub(table.window_blocks.len());
        if more > self.full.unreferenced()
            || self.window.as_ref().is_some_and(|window| in_window > window.pool.unreferenced())
        {
            return false;
        }
        for _ in 0..more {
            let (block, evicted) = self.full.take();
            self.stats.evictions += u64::from(evicted);
            table.blocks.push(block);
        }
        if let Some(window) = &mut self.window {
            table.window_blocks.extend((0..in_window).map(|_| window.pool.take().0));
        }
        true
    }

    /// Takes blocks from a table whose windows have passed them: the next token to be run is at `position`. Other sequences may begin with
    /// a part of the first `shared` tokens; what follows them is reused first.
    pub fn slide(&mut self, table: &mut BlockTable, position: usize, shared: usize) {
        let Some(window) = &mut self.window else { return };
        while table.gone < window.first(position) {
            match table.window_blocks.get_mut(table.gone).map(|block| std::mem::replace(block, GONE)) {
                Some(block) if table.gone * BLOCK_LEN < shared => window.pool.unreference(block),
                Some(block) => window.pool.recycle(block),
                None => table.window_blocks.push(GONE),
            }
            table.gone += 1;
        }
    }

    /// Lets others find the blocks that the computed `tokens` of a sequence fill.
    pub fn publish(&mut self, table: &mut BlockTable, tokens: &[u32]) {
        let full = tokens.as_chunks().0;
        while table.full < full.len()
            && let Some(content) = table.identity(full, table.full)
        {
            let block = table.block(table.full);
            if let Some(window) = &mut self.window {
                window.pool.publish(block.window, content);
            }
            // Another sequence may have computed the same meanwhile.
            if self.full.publish(block.full, content)
                && let Some(published) = &mut self.published
            {
                published.push((block, content, table.full));
            }
            table.full += 1;
        }
    }

    /// Takes all blocks from a table. The last goes first, so that it is the first to be reused: a beginning serves more requests.
    pub fn release(&mut self, table: &mut BlockTable) {
        table.blocks.drain(..).rev().for_each(|block| self.full.unreference(block));
        if let Some(window) = &mut self.window {
            table.window_blocks.drain(table.gone..).rev().for_each(|block| window.pool.unreference(block));
            table.window_blocks.clear();
        }
        (table.full, table.gone) = (0, 0);
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
            let mut blocks = Blocks::new(8.into(), None);
            let mut memory = Memory(vec![Vec::new(); 8]);
            let mut live: Vec<(BlockTable, Vec<u32>)> = Vec::new();
            let mut new = Vec::new();
            for (kinds, cut, [together, keep]) in requests {
                let mut tokens: Vec<u32> = kinds.iter().flat_map(|kind| [*kind; BLOCK_LEN]).collect();
                tokens.truncate(tokens.len() - cut);
                let mut table = BlockTable::new(0, 0, &PrefixCache::default());
                let cached = blocks.match_prefix(&mut table, &tokens);
                prop_assert_eq!(&memory.read(&table, cached), &tokens[..cached]);
                if blocks.grow(&mut table, tokens.len(), tokens.len()) {
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
        let (mut blocks, tokens) = (Blocks::new(4.into(), None), [5; BLOCK_LEN]);
        let mut table = BlockTable::new(0, 1, &PrefixCache::default());
        assert!(blocks.grow(&mut table, BLOCK_LEN, BLOCK_LEN));
        blocks.publish(&mut table, &tokens);
        for (adapter, cached) in [(0, BLOCK_LEN), (7, 0), (0, BLOCK_LEN)] {
            let mut other = BlockTable::new(adapter, 1, &PrefixCache::default());
            assert_eq!(blocks.match_prefix(&mut other, &tokens), cached, "adapter {adapter}");
            blocks.release(&mut other);
        }
    }

    #[test]
    fn released_blocks_are_found_until_they_are_reused_the_oldest_first() {
        let mut blocks = Blocks::new(4.into(), None);
        let texts: Vec<Vec<u32>> = (0..3).map(|id| vec![id; BLOCK_LEN]).collect();
        let find = |blocks: &mut Blocks, tokens: &[u32]| {
            let mut table = BlockTable::new(0, 0, &PrefixCache::default());
            let cached = blocks.match_prefix(&mut table, tokens);
            assert!(blocks.grow(&mut table, tokens.len(), tokens.len()));
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
        let mut blocks = Blocks::new(3.into(), None);
        let [a, b, c] = [1, 2, 3].map(|token| [token; BLOCK_LEN]);
        let mut tables =
            [BlockTable::new(0, 0, &PrefixCache::default()), BlockTable::new(0, 0, &PrefixCache::default())];
        let texts = [a.to_vec(), [a, b].concat()];
        for (table, text) in tables.iter_mut().zip(&texts) {
            assert!(blocks.grow(table, text.len(), text.len()));
        }
        // Both computed `a`: the block of the first is known, and what follows it is a block of the second.
        for (table, text) in tables.iter_mut().zip(&texts) {
            blocks.publish(table, text);
        }
        blocks.release(&mut tables[0]);
        let mut table = BlockTable::new(0, 0, &PrefixCache::default());
        assert!(blocks.grow(&mut table, BLOCK_LEN, BLOCK_LEN));
        blocks.publish(&mut table, &c);
        blocks.release(&mut table);
        assert_eq!(blocks.match_prefix(&mut table, &[c, b].concat()), BLOCK_LEN);
    }
}
