//! Attention of one token's heads over the cached keys and values of its sequence.

use crate::dot::float::{dot, padded};
use crate::elementwise;
use crate::simd::{LANES, Simd};

/// Keys and values of one layer, in blocks shared by all sequences.
///
/// Block `b` holds, for each KV head, `block_len` rows of `head_dim`: `[blocks, kv_heads, block_len, head_dim]`.
#[derive(Clone, Copy)]
pub struct Cache<'a> {
    /// Keys, after rope.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// Heads of keys and values.
    pub kv_heads: usize,
    /// Numbers of one head.
    pub head_dim: usize,
    /// Tokens of one block.
    pub block_len: usize,
}

impl Cache<'_> {
    /// Where the row of `(position, head)` starts, given the sequence's blocks.
    #[inline(always)]
    pub fn at(&self, blocks: &[u32], position: usize, head: usize) -> usize {
        let block = blocks[position / self.block_len] as usize;
        ((block * self.kv_heads + head) * self.block_len + position % self.block_len) * self.head_dim
    }
}

/// One query head of one token.
pub(crate) struct Attend<'a> {
    /// `[head_dim]`.
    pub q: &'a [f32],
    pub cache: Cache<'a>,
    pub kv_head: usize,
    /// Blocks of the sequence.
    pub blocks: &'a [u32],
    /// Tokens to attend to: all up to and with this one.
    pub len: usize,
    pub scale: f32,
}

/// `softmax(q · k * scale) · v`. `scores` is scratch of `len` floats.
///
/// The sums run over positions in order, 16 lanes for the softmax and one chain for the values, whatever the blocks.
#[inline(always)]
pub(crate) fn attend<S: Simd>(simd: S, job: &Attend, scores: &mut [f32], out: &mut [f32]) {
    let (cache, dim) = (job.cache, job.cache.head_dim);
    let scores = &mut scores[..job.len];
    for (position, score) in scores.iter_mut().enumerate() {
        let at = cache.at(job.blocks, position, job.kv_head);
        *score = dot(simd, job.q, &cache.k[at..at + dim]) * job.scale;
    }
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score -= most;
    }
    elementwise::exp(simd, scores);
    let mut total = simd.splat(0.0);
    for chunk in scores.chunks(LANES) {
        total = simd.add(total, if chunk.len() == LANES { simd.load(chunk) } else { padded(simd, chunk) });
    }
    let inverse = simd.splat(1.0 / simd.sum(total));
    for d in (0..dim).step_by(LANES) {
        let mut sum = simd.splat(0.0);
        for (position, &score) in scores.iter().enumerate() {
            let v = &cache.v[cache.at(job.blocks, position, job.kv_head) + d..];
            let v = if d + LANES <= dim { simd.load(v) } else { padded(simd, &v[..dim - d]) };
            sum = simd.fma(simd.splat(score), v, sum);
        }
        let mut lanes = [0.0; LANES];
        simd.store(simd.mul(sum, inverse), &mut lanes);
        let n = LANES.min(dim - d);
        out[d..d + n].copy_from_slice(&lanes[..n]);
    }
}
