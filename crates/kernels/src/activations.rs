//! Activations as matrix products take them: floats, or bytes with scales.

use crate::cache_line::CacheLine;
use std::ops::Range;

/// Columns that share a scale, and a sum, in [`ActivationBlock`]s.
pub(crate) const GROUP: usize = 32;

/// Bytes of activations that stay in a core's own cache while all rows of a task are multiplied by them.
pub(crate) const CACHED: usize = 256 << 10;

/// How a product takes its activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationLayout {
    F32,
    /// Bytes with a scale for each 32 columns.
    PerBlock,
    /// Bytes with a scale for each token.
    PerToken,
    /// Bytes with the token's scale repeated for each 32 columns: what kernels of block formats take from a model
    /// whose activations are defined to have one scale per token.
    PerTokenSpread,
    /// As [`ActivationLayout::PerToken`], in the order in which the trits of TQ1_0 are packed.
    Tq1,
    /// Numbers of bfloat16, for F16 and BF16 weights that are rounded to it, too.
    Bf16,
}

/// Activations `[tokens, cols]` in one of the layouts.
#[derive(Clone, Copy)]
pub enum Input<'a> {
    /// In the layout [`ActivationLayout::F32`].
    F32(&'a [f32]),
    /// In any of the other layouts.
    Quantized(&'a QuantizedActivations),
}

/// Activations as bytes, `x[token][col] ≈ q[token][col] * scale`, or as numbers of bfloat16. The buffers are reused from one
/// quantization to the next.
#[derive(Default)]
pub struct QuantizedActivations {
    /// For one scale per token, and for bfloat16: `[tokens, width]` bytes, each token from a cache line on.
    pub(crate) lines: Vec<CacheLine>,
    pub(crate) cols: usize,
    pub(crate) width: usize,
    pub(crate) scales: Vec<f32>,
    pub(crate) totals: Vec<i32>,
    /// For a scale per 32 columns: `[groups, tokens]` for each of [`BlockActivations::chunks`].
    pub(crate) blocks: Vec<ActivationBlock>,
}

impl QuantizedActivations {
    pub(crate) fn per_token(&self) -> TokenActivations<'_> {
        let q = bytemuck::cast_slice(&self.lines);
        TokenActivations { q, width: self.width, scales: &self.scales, totals: &self.totals }
    }

    /// The floats that the bytes stand for, `[tokens, cols]`; for [`ActivationLayout::PerToken`].
    pub fn dequantize(&self, out: &mut [f32]) {
        let q: &[i8] = bytemuck::cast_slice(&self.lines);
        for ((out, q), scale) in out.chunks_mut(self.cols).zip(q.chunks(self.width)).zip(&self.scales) {
            out.iter_mut().zip(q).for_each(|(out, &q)| *out = q as f32 * scale);
        }
    }
}

/// 32 columns of a token's activations, `x ≈ q * scale`, with the sums that products with block formats need.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
pub(crate) struct ActivationBlock {
    /// In -127..=127, never -128.
    pub q: [i8; GROUP],
    pub scale: f32,
    /// `scale` times the sum of the bytes.
    pub sum: f32,
    /// Sums of the two halves.
    pub halves: [i32; 2],
}

impl ActivationBlock {
    pub const EMPTY: ActivationBlock = ActivationBlock { q: [0; GROUP], scale: 0.0, sum: 0.0, halves: [0; 2] };
}

/// Activations with a scale for each 32 columns.
#[derive(Clone, Copy)]
pub(crate) struct BlockActivations<'a> {
    /// `[groups, tokens]`: a tile of tokens finds its part of a group in one piece.
    pub blocks: &'a [ActivationBlock],
    pub tokens: usize,
    /// Where the first of these tokens is among all.
    pub first: usize,
}

impl<'a> BlockActivations<'a> {
    /// Ranges of tokens, each as long as stays in a core's own cache with `groups` blocks per token.
    pub fn chunks(tokens: usize, groups: usize) -> impl Iterator<Item = Range<usize>> {
        let most = (2 * CACHED / size_of::<ActivationBlock>() / groups.max(1)).next_multiple_of(8).max(16);
        (0..tokens).step_by(most).map(move |first| first..tokens.min(first + most))
    }

    /// One of those, of the blocks of all tokens.
    pub fn chunk(blocks: &'a [ActivationBlock], groups: usize, tokens: Range<usize>) -> BlockActivations<'a> {
        let blocks = &blocks[tokens.start * groups..tokens.end * groups];
        BlockActivations { blocks, tokens: tokens.len(), first: tokens.start }
    }
}

/// Activations with one scale per token.
#[derive(Clone, Copy)]
pub(crate) struct TokenActivations<'a> {
    /// `[tokens, width]`, never -128. Every token starts at a cache line, since a load across two takes twice the time.
    pub q: &'a [i8],
    /// Bytes of a token: the columns, or more in a format's own order, and padding to whole lines.
    pub width: usize,
    pub scales: &'a [f32],
    /// Sum of all bytes of each token.
    pub totals: &'a [i32],
}

/// Activations rounded to bfloat16.
#[derive(Clone, Copy)]
pub(crate) struct Bf16Activations<'a> {
    /// `[tokens, width]`, with zeros after the columns of each token.
    pub lines: &'a [CacheLine],
    /// Cache lines of a token.
    pub width: usize,
    pub tokens: usize,
    /// Where the first of these tokens is among all.
    pub first: usize,
}

impl<'a> Bf16Activations<'a> {
    /// Parts of `lines`, each as long as stays in a core's own cache.
    pub fn chunks(lines: &'a [CacheLine], width: usize) -> impl Iterator<Item = Bf16Activations<'a>> {
        let most = (2 * CACHED / size_of::<CacheLine>() / width).next_multiple_of(8).max(16);
        lines.chunks(most * width).enumerate().map(move |(i, lines)| Bf16Activations {
            lines,
            width,
            tokens: lines.len() / width,
            first: i * most,
        })
    }
}
