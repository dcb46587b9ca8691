//! The KV cache: keys and values in a format, interleaved so that what one vector needs is contiguous.

use crate::cache_line::CacheLine;
use crate::simd::{LANES, Simd};
use half::f16;
use trine_tensor::Format;
use trine_tensor::format::{F16, F32, Q8_0};

/// The formats that a KV cache can have. A new one is a row here and an arm in `unpack`.
pub static KV_FORMATS: &[&Format] = &[&F32, &F16, &Q8_0];

/// The layout of one layer's keys and values, in blocks shared by all sequences:
/// `[n_kv_heads, blocks, block_len / 16]` strips of 16 positions.
///
/// A strip holds the keys, then the values. Both start with the scales of their blocks, `[dim / format.block, 16]`,
/// if the format has scales; then come the codes: of keys `[dim, 16]`, so that a vector is one element of 16
/// positions, and of values `[16, dim]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// One of [`KV_FORMATS`].
    pub format: &'static Format,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    /// Blocks of all sequences together.
    pub blocks: usize,
    /// Tokens per block, a multiple of 16.
    pub block_len: usize,
}

/// Consecutive tokens of one sequence in a batch.
#[derive(Clone, Debug)]
pub struct Span {
    /// The batch row of the first token.
    pub row: usize,
    pub tokens: usize,
    /// Tokens of the sequence already in the cache: the position of the first.
    pub cached: usize,
    /// The sequence's range of the batch's block table.
    pub blocks: std::ops::Range<usize>,
    /// The adapter that the sequence runs with; 0 is the model itself.
    pub adapter: u32,
}

impl KvLayout {
    /// Bytes of one layer, a multiple of a [`CacheLine`]'s; `None` on overflow.
    ///
    /// # Panics
    /// When `block_len` is not a multiple of 16.
    pub fn bytes(&self) -> Option<usize> {
        assert!(
            self.block_len.is_multiple_of(LANES),
            "expected KV blocks of a multiple of {LANES} tokens, found {}",
            self.block_len
        );
        let row = self.format.row_bytes(self.head_dim.checked_next_multiple_of(LANES.max(self.format.block))?)?;
        [self.n_kv_heads, self.blocks, self.block_len, 2].into_iter().try_fold(row, usize::checked_mul)
    }

    /// Elements of a row: `head_dim`, padded with zeros to whole vectors and blocks.
    pub(crate) fn dim(&self) -> usize {
        self.head_dim.next_multiple_of(LANES.max(self.format.block))
    }

    /// Bytes of the keys of a strip, and of its values.
    fn half(&self) -> usize {
        LANES * self.dim() / self.format.block * self.format.bytes
    }

    /// Bytes of one head in all blocks.
    pub(crate) fn head_bytes(&self) -> usize {
        self.blocks * self.block_len / LANES * 2 * self.half()
    }

    /// The bytes of a block, a range for each head of one layer.
    ///
    /// # Panics
    /// When there is no such block.
    pub fn block_bytes(&self, block: u32) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (head, each) = (self.head_bytes(), self.head_bytes() / self.blocks.max(1));
        assert!((block as usize) < self.blocks, "block {block} of {}", self.blocks);
        (0..self.n_kv_heads).map(move |i| i * head + block as usize * each).map(move |start| start..start + each)
    }

    /// Where the strip of a position starts in the bytes of its head.
    #[inline(always)]
    fn strip(&self, blocks: &[u32], position: usize) -> usize {
        let block = blocks[position / self.block_len] as usize;
        (block * self.block_len + position % self.block_len) / LANES * 2 * self.half()
    }

    /// The bytes of the keys (0) or values (1) of a strip.
    #[inline(always)]
    pub(crate) fn bytes_of<'a>(
        &self,
        head: &'a [CacheLine],
        which: usize,
        blocks: &[u32],
        position: usize,
    ) -> &'a [u8] {
        &bytemuck::cast_slice(head)[self.strip(blocks, position) + which * self.half()..][..self.half()]
    }

    /// The keys (0) or values (1) of a strip, `[dim]` or `[16, dim / 16]` lines, unpacked into `scratch`
    /// unless the cache holds floats.
    #[inline(always)]
    pub(crate) fn load<'a, S: Simd>(
        &self,
        simd: S,
        head: &'a [CacheLine],
        which: usize,
        blocks: &[u32],
        position: usize,
        scratch: &'a mut [CacheLine],
    ) -> &'a [CacheLine] {
        let bytes = self.bytes_of(head, which, blocks, position);
        if *self.format == F32 {
            return bytemuck::cast_slice(bytes);
        }
        let scratch = &mut scratch[..self.dim()];
        unpack(simd, self.format, which, bytes, scratch);
        scratch
    }

    /// Writes the key (0) or the value (1) of a position into its head's bytes. `row` is `[dim]`,
    /// `encoded` scratch for its bytes.
    pub(crate) fn store(
        &self,
        head: &mut [u8],
        which: usize,
        blocks: &[u32],
        position: usize,
        row: &[f32],
        encoded: &mut [u8],
    ) {
        let (format, lane) = (self.format, position % LANES);
        (format.encode)(row, encoded);
        let scale = format.bytes % format.block;
        if scale > 0 {
            // Encoding turns NaN and infinity into numbers: a scale of NaN keeps the error visible.
            for (row, block) in row.chunks_exact(format.block).zip(encoded.chunks_exact_mut(format.bytes)) {
                if !row.iter().all(|x| x.is_finite()) {
                    block[..scale].copy_from_slice(&f16::NAN.to_le_bytes());
                }
            }
        }
        let at = self.strip(blocks, position) + which * self.half();
        let (scales, codes) = head[at..at + self.half()].split_at_mut(self.dim() / format.block * LANES * scale);
        for (i, block) in encoded.chunks_exact(format.bytes).enumerate() {
            scales[(i * LANES + lane) * scale..][..scale].copy_from_slice(&block[..scale]);
        }
        let (start, step) = if which == 0 { (lane, LANES) } else { (lane * self.dim(), 1) };
        match format.bytes / format.block {
            4 => scatter::<4>(format, scale, encoded, codes, start, step),
            2 => scatter::<2>(format, scale, encoded, codes, start, step),
            _ => scatter::<1>(format, scale, encoded, codes, start, step),
        }
    }
}

/// Writes the codes of a row, `N` bytes each after the scales of their blocks, to every `step`th place from `start` on.
fn scatter<const N: usize>(format: &Format, scale: usize, row: &[u8], codes: &mut [u8], start: usize, step: usize) {
    let from = row.chunks_exact(format.bytes).flat_map(|block| block[scale..].as_chunks::<N>().0);
    let to = codes.as_chunks_mut::<N>().0[start..].iter_mut().step_by(step);
    to.zip(from).for_each(|(to, from)| *to = *from);
}

/// The keys (0) or values (1) of a strip as floats.
#[inline(always)]
fn unpack<S: Simd>(simd: S, format: &Format, which: usize, bytes: &[u8], out: &mut [CacheLine]) {
    if *format == F16 {
        for (bytes, out) in bytes.chunks_exact(2 * LANES).zip(out) {
            simd.store(simd.load_f16(bytes), &mut out.0);
        }
        return;
    }
    let blocks = out.len() / Q8_0.block;
    let (scales, codes) = bytes.split_at(blocks * LANES * 2);
    let codes: &[[i8; LANES]] = bytemuck::cast_slice(codes);
    for (i, scales) in scales.chunks_exact(2 * LANES).enumerate() {
        let scales = simd.load_f16(scales);
        if which == 0 {
            for (codes, out) in codes[i * Q8_0.block..][..Q8_0.block].iter().zip(&mut out[i * Q8_0.block..]) {
                simd.store(simd.mul(simd.load_i8(codes), scales), &mut out.0);
            }
        } else {
            let mut each = [0.0; LANES];
            simd.store(scales, &mut each);
            for (position, scale) in each.into_iter().enumerate() {
                for j in 0..Q8_0.block / LANES {
                    let at = (position * blocks + i) * (Q8_0.block / LANES) + j;
                    simd.store(simd.mul(simd.load_i8(&codes[at]), simd.splat(scale)), &mut out[at].0);
                }
            }
        }
    }
}
