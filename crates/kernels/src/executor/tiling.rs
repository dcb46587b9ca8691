//! How the attention of a batch is cut into tiles.

use super::MIN_PARALLEL_WORK;
use crate::attention::forward::{Attention, CHUNK, scratch_len, state_len};
use crate::attention::tile::{AttentionTile, Token};
use crate::cache_line::CacheLine;
use std::ops::Range;

/// Target of query rows in a tile: all heads of a group for some tokens.
const ROWS: usize = 64;

/// The tiles of a batch, of one KV head. Filling it again allocates nothing.
#[derive(Default)]
pub(super) struct Tiling {
    /// The spans in an order in which those that begin with the same blocks are neighbours.
    order: Vec<usize>,
    /// The tokens of all tiles.
    tokens: Vec<Token>,
    tiles: Vec<Tile>,
    /// Chunks that the tokens of one sequence in a tile see, at most.
    chunks: usize,
}

/// Tokens of one sequence or of several, as [`AttentionTile`] has them.
struct Tile {
    tokens: Range<usize>,
    sequences: usize,
    shared: Range<usize>,
}

impl Tiling {
    /// Cuts each sequence into tiles, and puts small ones together where their sequences have blocks in common.
    pub fn cut(&mut self, job: &Attention) {
        let most = tile_tokens(job);
        // One block of each chunk is enough to make neighbours of most sequences that have chunks in common.
        let step = CHUNK.div_ceil(job.layout.block_len);
        let some_blocks = |&span: &usize| job.blocks[job.spans[span].blocks.clone()].iter().step_by(step);
        self.order.clear();
        self.order.extend(0..job.spans.len());
        self.order.sort_unstable_by(|a, b| some_blocks(a).cmp(some_blocks(b)).then(a.cmp(b)));
        self.tokens.clear();
        self.tiles.clear();
        self.chunks = 0;
        for &index in &self.order {
            let span = &job.spans[index];
            for first in (0..span.tokens).step_by(most) {
                let start = self.tokens.len();
                self.tokens.extend((first..span.tokens.min(first + most)).map(|token| Token {
                    row: span.row + token,
                    span: index,
                    seen: job.options.seen(span.cached + token, span.cached + span.tokens),
                }));
                let tokens = &self.tokens[start..];
                let last = &tokens[tokens.len() - 1];
                self.chunks = self.chunks.max(last.chunks().end - tokens[0].chunks().start);
                let (from, to) = (last.seen.start.div_ceil(CHUNK), tokens[0].seen.end / CHUNK);
                let next = Tile { tokens: start..self.tokens.len(), sequences: 1, shared: from..to.max(from) };
                match self.tiles.last_mut() {
                    Some(tile) if tile.tokens.len() + tokens.len() <= most => {
                        let both = [self.tokens[tile.tokens.start].span, index];
                        match tile.with(&next, both.map(|span| &job.blocks[job.spans[span].table(&job.layout)]), job) {
                            Some(joined) => *tile = joined,
                            None => self.tiles.push(next),
                        }
                    }
                    _ => self.tiles.push(next),
                }
            }
        }
    }
}

impl Tile {
    /// A tile of this one's tokens and the next one's, unless less would be shared by it than by this one alone.
    fn with(&self, next: &Tile, [blocks, others]: [&[u32]; 2], job: &Attention) -> Option<Tile> {
        let len = job.layout.block_len;
        let is_common = |&chunk: &usize| {
            let range = chunk * CHUNK / len..((chunk + 1) * CHUNK).div_ceil(len);
            blocks[range.clone()] == others[range]
        };
        let start = self.shared.start.max(next.shared.start);
        let common = (start..self.shared.end.min(next.shared.end)).take_while(is_common).count();
        let is_better = self.sequences * common > (self.sequences - 1) * self.shared.len();
        is_better.then(|| Tile {
            tokens: self.tokens.start..next.tokens.end,
            sequences: self.sequences + 1,
            shared: start..start + common,
        })
    }
}

/// Tokens of a tile, at most.
fn tile_tokens(job: &Attention) -> usize {
    (ROWS * job.layout.n_kv_heads / job.n_heads).max(1)
}

/// The tiles of all KV heads, and what they take: a task is a tile of one KV head.
pub(super) struct Plan<'a> {
    job: &'a Attention<'a>,
    tiling: &'a Tiling,
    /// Query heads of a KV head.
    pub group: usize,
    /// Query rows of a tile, at most.
    pub rows: usize,
    /// Chunks that the tokens of one sequence in a tile see, at most.
    pub chunks: usize,
    pub state_len: usize,
    /// Multiplications in total, about.
    pub work: usize,
}

impl<'a> Plan<'a> {
    pub fn new(job: &'a Attention<'a>, tiling: &'a mut Tiling) -> Plan<'a> {
        tiling.cut(job);
        let (layout, group) = (&job.layout, job.n_heads / job.layout.n_kv_heads);
        Plan {
            job,
            group,
            rows: tile_tokens(job) * group,
            chunks: tiling.chunks,
            state_len: state_len(layout),
            work: 2 * layout.head_dim * job.n_heads * tiling.tokens.iter().map(|token| token.seen.len()).sum::<usize>(),
            tiling,
        }
    }

    /// Whether a tile is a task, or else a run of its chunks.
    pub fn is_by_tile(&self, threads: usize) -> bool {
        self.work < MIN_PARALLEL_WORK || threads == 1 || self.chunks <= 1 || self.tasks() >= 4 * threads
    }

    pub fn tasks(&self) -> usize {
        self.tiling.tiles.len() * self.job.layout.n_kv_heads
    }

    /// Lines of scratch per thread: that of the kernel, and two states per row.
    pub fn scratch_len(&self) -> usize {
        scratch_len(&self.job.layout, self.rows) + 2 * self.rows * self.state_len
    }

    /// Lines of the states of all rows over all chunks, `[chunks, n_kv_heads, tokens, group, state_len]`.
    pub fn states_len(&self) -> usize {
        self.chunks * self.tiling.tokens.len() * self.job.n_heads * self.state_len
    }

    /// Where the states of a tile's rows over a chunk begin in them.
    pub fn first_state(&self, tile: &AttentionTile, chunk: usize) -> usize {
        // No row is part of two chunks with one remainder.
        let head = chunk % self.chunks * self.job.layout.n_kv_heads + tile.kv_head;
        (head * self.tiling.tokens.len() + tile.first) * self.group * self.state_len
    }

    /// The tile of a task.
    pub fn tile(&self, task: usize) -> AttentionTile<'a> {
        // The last tile of a sequence first: it sees the most, and what is left at the end should be short.
        let tiles = &self.tiling.tiles;
        let tile = &tiles[tiles.len() - 1 - task / self.job.layout.n_kv_heads];
        self.tile_of(task % self.job.layout.n_kv_heads, tile.tokens.clone(), tile.shared.clone())
    }

    /// Tiles of one token.
    pub fn tokens(&self) -> usize {
        self.tiling.tokens.len() * self.job.layout.n_kv_heads
    }

    /// The tile of one token.
    pub fn token(&self, task: usize) -> AttentionTile<'a> {
        let token = task / self.job.layout.n_kv_heads;
        self.tile_of(task % self.job.layout.n_kv_heads, token..token + 1, 0..0)
    }

    fn tile_of(&self, kv_head: usize, tokens: Range<usize>, shared: Range<usize>) -> AttentionTile<'a> {
        let (job, lines) = (self.job, self.job.layout.head_bytes() / size_of::<CacheLine>());
        AttentionTile {
            job,
            first: tokens.start,
            tokens: &self.tiling.tokens[tokens],
            shared,
            cache: &job.cache[kv_head * lines..][..lines],
            kv_head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::options::AttentionOptions;
    use crate::cache_type::CacheType;
    use crate::kv::{KvLayout, Span};

    /// The spans, tokens and shared chunks of each tile of sequences of new tokens after others, in these blocks.
    fn cut(
        group: usize,
        window: Option<usize>,
        sequences: &[(usize, usize, &[u32])],
    ) -> Vec<(Vec<usize>, usize, Range<usize>)> {
        let (mut blocks, mut spans, mut row) = (Vec::new(), Vec::new(), 0);
        for &(cached, tokens, table) in sequences {
            let range = blocks.len()..blocks.len() + table.len();
            spans.push(Span { row, tokens, cached, blocks: range.clone(), window_blocks: range, adapter: 0 });
            blocks.extend_from_slice(table);
            row += tokens;
        }
        let options = AttentionOptions { scale: 1.0, window, softcap: None, causal: true };
        let cache_type = CacheType::F32;
        let layout =
            KvLayout { cache_type, n_kv_heads: 1, head_dim: 16, blocks: 100, block_len: CHUNK / 2, windowed: false };
        let (spans, blocks) = (&spans, &blocks);
        let job = Attention { q: &[], n_heads: group, layout, cache: &[], options, sinks: &[], spans, blocks };
        let mut tiling = Tiling::default();
        tiling.cut(&job);
        let tile = |tile: &Tile| {
            let mut spans: Vec<usize> = tiling.tokens[tile.tokens.clone()].iter().map(|token| token.span).collect();
            spans.dedup();
            (spans, tile.tokens.len(), tile.shared.clone())
        };
        tiling.tiles.iter().map(tile).collect()
    }

    #[test]
    fn sequences_share_a_tile_where_they_begin_with_the_same_blocks() {
        let (a, b) = ([1, 2, 3, 4, 5, 6, 7, 8], [11, 12, 13, 14, 15, 16, 17, 18]);
        let other = [1, 2, 3, 4, 21, 22];
        // A chunk is two blocks. The last of a sequence is not whole.
        let sequences: [(_, _, &[u32]); 5] = [(900, 1, &a), (901, 3, &b), (920, 1, &a), (700, 1, &other), (767, 1, &b)];
        assert_eq!(cut(4, None, &sequences), [(vec![0, 2, 3], 3, 0..2), (vec![1, 4], 4, 0..3)]);
        // Less would be shared in all.
        let expected = [(vec![0, 1, 2], 3, 0..3), (vec![3], 1, 0..2)];
        assert_eq!(cut(4, None, &[(900, 1, &a), (900, 1, &a), (900, 1, &a), (700, 1, &other)]), expected);
        // Tiles have 64 rows, and a prompt its own.
        let expected = [(vec![0], 16, 0..3), (vec![0, 1], 5, 0..3), (vec![2], 14, 0..3)];
        assert_eq!(cut(4, None, &[(880, 20, &a), (900, 1, &a), (900, 14, &a)]), expected);
        // What a window leaves.
        assert_eq!(cut(4, Some(600), &[(900, 1, &a), (870, 1, &a)]), [(vec![0, 1], 2, 2..3)]);
        assert_eq!(cut(4, Some(100), &[(900, 1, &a), (870, 1, &a)]), [(vec![0], 1, 4..4), (vec![1], 1, 4..4)]);
        assert_eq!(cut(4, None, &[(200, 1, &a), (200, 1, &a)]), [(vec![0], 1, 0..0), (vec![1], 1, 0..0)]);
    }
}
