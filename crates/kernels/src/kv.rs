//! The KV cache: keys and values in a format, interleaved so that what one vector needs is contiguous.

use crate::cache_line::CacheLine;
use crate::cache_type::CacheType;
use crate::simd::{LANES, Simd};
use half::f16;
use trine_tensor::Format;
use trine_tensor::format::{F16, F32, Q4_0};

/// The layout of one layer's keys and values, in blocks shared by all sequences:
/// `[n_kv_heads, blocks, block_len / 16]` strips of 16 positions.
///
/// A strip holds the keys, then the values. Both start with the scales of their blocks, `[dim / format.block, 16]`,
/// if their format has scales; then come the codes: of keys `[dim, 16]`, so that a vector is one element of 16
/// positions, and of values `[16, dim]`. Codes of 4 bits are in pairs as in the format's blocks, `[dim / 2, 16]` and `[16, dim / 2]` bytes.
/// A strip is padded to whole [`CacheLine`]s, where keys and values differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    pub cache_type: CacheType,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    /// Blocks of all sequences together.
    pub blocks: usize,
    /// Tokens per block, a multiple of 16.
    pub block_len: usize,
    /// Whether block tables are [`Span::window_blocks`].
    pub windowed: bool,
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
    /// The same for layers with a window, whose keys and values may be in other blocks: as many, but those before the window are never read.
    pub window_blocks: std::ops::Range<usize>,
    /// The adapter that the sequence runs with; 0 is the model itself.
    pub adapter: u32,
}

impl Span {
    /// The sequence's range of the batch's block table in a layer.
    pub fn table(&self, layout: &KvLayout) -> std::ops::Range<usize> {
        if layout.windowed { self.window_blocks.clone() } else { self.blocks.clone() }
    }
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
        let dim = self.head_dim.checked_next_multiple_of(self.cache_type.block())?;
        let CacheType { keys, values } = self.cache_type;
        let row = keys.row_bytes(dim)?.checked_add(values.row_bytes(dim)?)?;
        let strip = row.checked_mul(LANES)?.checked_next_multiple_of(size_of::<CacheLine>())?;
        [self.n_kv_heads, self.blocks, self.block_len / LANES].into_iter().try_fold(strip, usize::checked_mul)
    }

    /// Elements of a row: `head_dim`, padded with zeros to whole vectors and blocks.
    pub(crate) fn dim(&self) -> usize {
        self.head_dim.next_multiple_of(self.cache_type.block())
    }

    /// The format of keys (0) or values (1).
    #[inline(always)]
    fn format(&self, which: usize) -> &'static Format {
        if which == 0 { self.cache_type.keys } else { self.cache_type.values }
    }

    /// Whether rows of keys (0) or values (1) are kept rotated.
    #[inline(always)]
    pub(crate) fn is_rotated(&self, which: usize) -> bool {
        self.format(which).block > 1
    }

    /// Bytes of a row of keys (0) or values (1).
    #[inline(always)]
    pub(crate) fn row_bytes(&self, which: usize) -> usize {
        let format = self.format(which);
        self.dim() / format.block * format.bytes
    }

    /// Bytes of a strip: whole lines.
    #[inline(always)]
    fn strip_bytes(&self) -> usize {
        (LANES * (self.row_bytes(0) + self.row_bytes(1))).next_multiple_of(size_of::<CacheLine>())
    }

    /// Bytes of one head in all blocks.
    pub(crate) fn head_bytes(&self) -> usize {
        self.blocks * self.block_len / LANES * self.strip_bytes()
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

    /// Where the keys (0) or values (1) of a position's strip are in the bytes of its head.
    #[inline(always)]
    fn range(&self, which: usize, blocks: &[u32], position: usize) -> std::ops::Range<usize> {
        let block = blocks[position / self.block_len] as usize;
        let strip = (block * self.block_len + position % self.block_len) / LANES * self.strip_bytes();
        let start = strip + which * LANES * self.row_bytes(0);
        start..start + LANES * self.row_bytes(which)
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
        &bytemuck::cast_slice(head)[self.range(which, blocks, position)]
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
        let (bytes, format) = (self.bytes_of(head, which, blocks, position), self.format(which));
        let scratch = &mut scratch[..self.dim()];
        if *format != F32 {
            unpack(simd, format, which, bytes, scratch);
        } else if let Ok(lines) = bytemuck::try_cast_slice(bytes) {
            return lines;
        } else {
            // Beside an odd number of small blocks.
            bytemuck::cast_slice_mut(scratch).copy_from_slice(bytes);
        }
        scratch
    }

    /// Writes the key (0) or the value (1) of a position into its head's bytes. `row` is `[dim]`, rotated if its format asks for it, and
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
        let (format, lane) = (self.format(which), position % LANES);
        let encoded = &mut encoded[..self.row_bytes(which)];
        (format.encode)(row, None, encoded);
        let scale = if format.block > 1 { size_of::<f16>() } else { 0 };
        if scale > 0 {
            // Encoding turns NaN and infinity into numbers: a scale of NaN keeps the error visible.
            for (row, block) in row.chunks_exact(format.block).zip(encoded.chunks_exact_mut(format.bytes)) {
                if !row.iter().all(|x| x.is_finite()) {
                    block[..scale].copy_from_slice(&f16::NAN.to_le_bytes());
                }
            }
        }
        let bytes = &mut head[self.range(which, blocks, position)];
        let (scales, codes) = bytes.split_at_mut(self.dim() / format.block * LANES * scale);
        for (i, block) in encoded.chunks_exact(format.bytes).enumerate() {
            scales[(i * LANES + lane) * scale..][..scale].copy_from_slice(&block[..scale]);
        }
        match (format.bytes - scale) / format.block {
            4 => scatter::<4>(format, scale, encoded, codes, which, lane),
            2 => scatter::<2>(format, scale, encoded, codes, which, lane),
            _ => scatter::<1>(format, scale, encoded, codes, which, lane),
        }
    }
}

/// Writes the codes of a row, `N` bytes each after the scales of their blocks, to a lane of the keys (0) or a row of the values (1).
fn scatter<const N: usize>(format: &Format, scale: usize, row: &[u8], codes: &mut [u8], which: usize, lane: usize) {
    let from = row.chunks_exact(format.bytes).flat_map(|block| block[scale..].as_chunks::<N>().0);
    let codes = codes.as_chunks_mut::<N>().0;
    let (start, step) = if which == 0 { (lane, LANES) } else { (lane * (codes.len() / LANES), 1) };
    codes[start..].iter_mut().step_by(step).zip(from).for_each(|(to, from)| *to = *from);
}

/// The keys (0) or values (1) of a strip as floats.
#[inline(always)]
fn unpack<S: Simd>(simd: S, format: &Format, which: usize, bytes: &[u8], out: &mut [CacheLine]) {
    if format.block == 1 {
        let half = *format == F16;
        for (bytes, out) in bytes.chunks_exact(2 * LANES).zip(out) {
            simd.store(if half { simd.load_f16(bytes) } else { simd.load_bf16(bytes) }, &mut out.0);
        }
        return;
    }
    match *format == Q4_0 {
        true => unpack_blocks::<S, true>(simd, which, bytes, out),
        false => unpack_blocks::<S, false>(simd, which, bytes, out),
    }
}

/// Elements of a block of Q8_0, and of Q4_0.
const BLOCK: usize = 32;

/// The keys (0) or values (1) of a strip of blocks, with codes in pairs or not.
#[inline(always)]
fn unpack_blocks<S: Simd, const PAIRS: bool>(simd: S, which: usize, bytes: &[u8], out: &mut [CacheLine]) {
    let (blocks, in_byte) = (out.len() / BLOCK, if PAIRS { 2 } else { 1 });
    let (scales, codes) = bytes.split_at(blocks * LANES * size_of::<f16>());
    let codes = codes.as_chunks().0;
    let scales = scales.chunks_exact(LANES * size_of::<f16>()).map(|scales| simd.load_f16(scales));
    if which == 0 {
        let codes = codes.chunks_exact(BLOCK / in_byte);
        for ((scales, codes), out) in scales.zip(codes).zip(out.chunks_exact_mut(BLOCK)) {
            scaled::<S, PAIRS>(simd, codes, scales, out);
        }
    } else {
        const LINES: usize = BLOCK / LANES;
        for (i, scales) in scales.enumerate() {
            let mut positions = [0.0; LANES];
            simd.store(scales, &mut positions);
            for (position, scale) in positions.into_iter().enumerate() {
                let at = position * blocks + i;
                let codes = &codes[at * LINES / in_byte..][..LINES / in_byte];
                scaled::<S, PAIRS>(simd, codes, simd.splat(scale), &mut out[at * LINES..][..LINES]);
            }
        }
    }
}

/// Lines of codes times their scales; of pairs of codes, those in the low halves are the first half of `out`.
#[inline(always)]
fn scaled<S: Simd, const PAIRS: bool>(simd: S, codes: &[[u8; LANES]], scales: S::F, out: &mut [CacheLine]) {
    let store = |codes: &[i8; LANES], out: &mut CacheLine| {
        simd.store(simd.mul(simd.load_i8(codes), scales), &mut out.0);
    };
    if PAIRS {
        let (low, high) = out.split_at_mut(codes.len());
        for ((codes, low), high) in codes.iter().zip(low).zip(high) {
            store(&codes.map(|code| (code & 15) as i8 - 8), low);
            store(&codes.map(|code| (code >> 4) as i8 - 8), high);
        }
    } else {
        let codes: &[[i8; LANES]] = bytemuck::cast_slice(codes);
        codes.iter().zip(out).for_each(|(codes, out)| store(codes, out));
    }
}
