//! What attention computes at once: the query rows of some tokens, of one sequence or of several that begin with the same blocks.

use super::forward::{Attention, CHUNK};
use crate::cache_line::CacheLine;
use std::ops::Range;

/// A token of a batch.
pub(crate) struct Token {
    /// Its batch row.
    pub row: usize,
    /// Its sequence: an index of [`Attention::spans`].
    pub span: usize,
    /// The positions that it sees.
    pub seen: Range<usize>,
}

impl Token {
    /// Chunks with a position that it sees.
    pub fn chunks(&self) -> Range<usize> {
        self.seen.start / CHUNK..self.seen.end.div_ceil(CHUNK)
    }
}

/// Some tokens, and the query heads of one KV head.
#[derive(Clone)]
pub(crate) struct AttentionTile<'a> {
    pub job: &'a Attention<'a>,
    /// Runs of consecutive tokens, each of one sequence.
    pub tokens: &'a [Token],
    /// The place of the first among the tokens of all tiles.
    pub first: usize,
    /// Chunks that all tokens see whole, and in the same blocks.
    pub shared: Range<usize>,
    /// The cache of the KV head.
    pub cache: &'a [CacheLine],
    pub kv_head: usize,
}

impl<'a> AttentionTile<'a> {
    pub fn group(&self) -> usize {
        self.job.n_heads / self.job.layout.n_kv_heads
    }

    pub fn rows(&self) -> usize {
        self.tokens.len() * self.group()
    }

    /// The block table of the first sequence.
    pub fn blocks(&self) -> &'a [u32] {
        &self.job.blocks[self.job.spans[self.tokens[0].span].table(&self.job.layout)]
    }

    /// Chunks with a position that a row sees.
    pub fn chunks_of(&self, row: usize) -> Range<usize> {
        self.tokens[row / self.group()].chunks()
    }

    /// The tile in parts, and chunks to compute for each, those of a row first to last: what the sequences share is read once for
    /// all, and what is before and after it for each sequence.
    pub fn parts(&self) -> impl Iterator<Item = (AttentionTile<'a>, Range<usize>)> {
        let runs = || {
            let runs = self.tokens.chunk_by(|a, b| a.span == b.span);
            runs.scan(self.first, |next, tokens| {
                let first = std::mem::replace(next, *next + tokens.len());
                let chunks = tokens[0].chunks().start..tokens[tokens.len() - 1].chunks().end;
                Some((AttentionTile { tokens, first, shared: self.shared.clone(), ..*self }, chunks))
            })
        };
        let before = runs().map(|(run, chunks)| (run, chunks.start..self.shared.start));
        let after = runs().map(|(run, chunks)| (run, self.shared.end..chunks.end));
        before.chain(std::iter::once((self.clone(), self.shared.clone()))).chain(after)
    }

    /// The index of a row's head in `[tokens, n_heads]`.
    #[inline(always)]
    pub fn head(&self, row: usize) -> usize {
        self.tokens[row / self.group()].row * self.job.n_heads + self.kv_head * self.group() + row % self.group()
    }

    #[inline(always)]
    pub fn query(&self, row: usize) -> &'a [f32] {
        &self.job.q[self.head(row) * self.job.layout.head_dim..][..self.job.layout.head_dim]
    }

    /// The positions of a chunk that a row sees, counted from the chunk's first.
    #[inline(always)]
    pub fn seen(&self, row: usize, chunk: usize) -> Range<usize> {
        let seen = &self.tokens[row / self.group()].seen;
        let inside = |position: usize| position.saturating_sub(chunk * CHUNK).min(CHUNK);
        inside(seen.start)..inside(seen.end)
    }
}
