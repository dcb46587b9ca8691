//! Products with block formats: integer codes under a scale, and perhaps a minimum, for each group of 32 weights.

use super::{GROUP, Ints, Out, Rows};
use crate::simd::Simd;
use half::f16;

/// Groups that are done at once: lanes of the running sums.
const LANES: usize = 8;

/// 256 weights in groups `i` of 32: `w = d[i] * scale[i] * code + min[i]`.
pub(crate) struct Groups<S: Simd> {
    /// At most 128 in size.
    codes: [S::B; LANES],
    d: S::H,
    min: S::H,
    scales: Scales<S>,
}

/// Integer scales of groups.
enum Scales<S: Simd> {
    /// All are 1.
    None,
    /// One for each group.
    Whole(S::I),
    /// Group `i` has one for its first 16 weights and one for the others.
    Halves([S::I; LANES]),
}

/// A block format: how it is cut into groups of 32.
pub(crate) trait Blocks {
    /// Weights and bytes of a block.
    const WEIGHTS: usize;
    const BYTES: usize;
    /// Codes are signed.
    const SIGNED: bool;
    /// What stands for zero, when codes are unsigned.
    const ZERO: i32 = 0;
    /// Weights have a minimum beside their scale.
    const MIN: bool = false;
    /// The next 8 groups: one block of 256 weights, or 8 of 32.
    fn groups<S: Simd>(simd: S, blocks: &[u8]) -> Groups<S>;
}

fn bits(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn half(bytes: &[u8]) -> f32 {
    f16::from_bits(bits(bytes)).to_f32()
}

pub(crate) struct Q8_0;
impl Blocks for Q8_0 {
    const WEIGHTS: usize = 32;
    const BYTES: usize = 34;
    const SIGNED: bool = true;
    #[inline(always)]
    fn groups<S: Simd>(simd: S, blocks: &[u8]) -> Groups<S> {
        let blocks: &[[u8; 34]; LANES] = blocks.as_chunks().0.as_array().expect("8 blocks");
        let (mut codes, mut d) = ([simd.splat8(0); LANES], [0; LANES]);
        for (i, block) in blocks.iter().enumerate() {
            codes[i] = simd.bytes(block.last_chunk().expect("32 bytes"));
            d[i] = bits(block);
        }
        Groups { codes, d: simd.half_f16(&d), min: simd.half(&[0.0; LANES]), scales: Scales::None }
    }
}

pub(crate) struct Q4_0;
impl Blocks for Q4_0 {
    const WEIGHTS: usize = 32;
    const BYTES: usize = 18;
    const SIGNED: bool = false;
    const ZERO: i32 = 8;
    #[inline(always)]
    fn groups<S: Simd>(simd: S, blocks: &[u8]) -> Groups<S> {
        let blocks: &[[u8; 18]; LANES] = blocks.as_chunks().0.as_array().expect("8 blocks");
        let (mut codes, mut d) = ([simd.splat8(0); LANES], [0; LANES]);
        for (i, block) in blocks.iter().enumerate() {
            let nibbles = simd.twice(block.last_chunk().expect("16 bytes"));
            codes[i] = simd.halves(simd.shift_mask(nibbles, 0, 0x0f), simd.shift_mask(nibbles, 4, 0x0f));
            d[i] = bits(block);
        }
        Groups { codes, d: simd.half_f16(&d), min: simd.half(&[0.0; LANES]), scales: Scales::None }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q4_K;
impl Blocks for Q4_K {
    const WEIGHTS: usize = 256;
    const BYTES: usize = 144;
    const SIGNED: bool = false;
    const MIN: bool = true;
    #[inline(always)]
    fn groups<S: Simd>(simd: S, block: &[u8]) -> Groups<S> {
        let packed: &[u8; 12] = block[4..].first_chunk().expect("12 bytes");
        let quads: &[[u8; 32]] = block[16..].as_chunks().0;
        let (mut codes, mut scales, mut mins) = ([simd.splat8(0); LANES], [0; LANES], [0; LANES]);
        for i in 0..LANES {
            let (scale, min) = if i < 4 {
                (packed[i] & 63, packed[i + 4] & 63)
            } else {
                (packed[i + 4] & 15 | packed[i - 4] >> 6 << 4, packed[i + 4] >> 4 | packed[i] >> 6 << 4)
            };
            (scales[i], mins[i]) = (scale as i32, min as i32);
            codes[i] = simd.shift_mask(simd.bytes(&quads[i / 2]), 4 * (i as u32 % 2), 0x0f);
        }
        let (d, min) = (simd.half(&[half(block); LANES]), simd.half(&[-half(&block[2..]); LANES]));
        let min = simd.mul_half(min, simd.to_half(simd.ints(&mins)));
        Groups { codes, d, min, scales: Scales::Whole(simd.ints(&scales)) }
    }
}

#[expect(non_camel_case_types, reason = "the format's name")]
pub(crate) struct Q6_K;
impl Blocks for Q6_K {
    const WEIGHTS: usize = 256;
    const BYTES: usize = 210;
    const SIGNED: bool = true;
    #[inline(always)]
    fn groups<S: Simd>(simd: S, block: &[u8]) -> Groups<S> {
        let (low4, high2): (&[[u8; 32]], &[[u8; 32]]) = (block[..128].as_chunks().0, block[128..192].as_chunks().0);
        let (mut codes, mut scales) = ([simd.splat8(0); LANES], [simd.zero(); LANES]);
        for i in 0..LANES {
            let (high, quarter) = (i / 4, i % 4);
            let low4 = simd.shift_mask(simd.bytes(&low4[2 * high + quarter % 2]), 4 * (quarter as u32 / 2), 0x0f);
            let high2 = simd.shift_mask(simd.bytes(&high2[high]), 2 * quarter as u32, 3);
            codes[i] = simd.add8(simd.or(low4, simd.lift_mask(high2, 4, 0x30)), simd.splat8(-32i8 as u8));
            let scale = |n: usize| block[192 + 2 * i + n] as i8 as i32;
            scales[i] = simd.two_ints(scale(0), scale(1));
        }
        let d = simd.half(&[half(&block[208..]); LANES]);
        Groups { codes, d, min: simd.half(&[0.0; LANES]), scales: Scales::Halves(scales) }
    }
}

/// `x` has a scale for each 32 columns.
#[inline(always)]
pub(crate) fn product<S: Simd, W: Blocks>(simd: S, w: &Rows, x: &Ints, out: &mut Out) {
    for row in w.range.clone() {
        let mut token = 0;
        while token + 4 <= x.tokens() {
            tile::<S, W, 4>(simd, w, row, x, token, out);
            token += 4;
        }
        while token < x.tokens() {
            tile::<S, W, 1>(simd, w, row, x, token, out);
            token += 1;
        }
    }
}

/// One row by `T` tokens: weights are unpacked once.
#[inline(always)]
fn tile<S: Simd, W: Blocks, const T: usize>(simd: S, w: &Rows, row: usize, x: &Ints, token: usize, out: &mut Out) {
    let q: [&[[i8; GROUP]]; T] = std::array::from_fn(|t| x.q(token + t));
    let scales: [&[f32]; T] = std::array::from_fn(|t| x.scales(token + t));
    let sums: [&[i32]; T] = std::array::from_fn(|t| x.sums(token + t));
    let row_bytes = w.row(row);
    let step = W::BYTES * (LANES * GROUP / W::WEIGHTS);
    let mut y = [simd.half(&[0.0; LANES]); T];
    for (i, blocks) in row_bytes.chunks_exact(step).enumerate() {
        let groups = W::groups(simd, blocks);
        for t in 0..T {
            let q = q[t][i * LANES..].first_chunk().expect("8 groups");
            let scales = scales[t][i * LANES..].first_chunk().expect("8 scales");
            let sums = sums[t][i * LANES..].first_chunk().expect("8 sums");
            y[t] = add::<S, W>(simd, &groups, q, scales, sums, y[t]);
        }
    }
    // Fewer than 8 groups are left of a row of small blocks: zeros fill them up.
    let rest = row_bytes.len() % step;
    if rest > 0 {
        let (done, left) = (row_bytes.len() / step * LANES, rest / W::BYTES);
        let mut blocks = [0; LANES * 34];
        blocks[..rest].copy_from_slice(&row_bytes[row_bytes.len() - rest..]);
        let groups = W::groups(simd, &blocks[..step]);
        for t in 0..T {
            let (mut q8, mut scales8, mut sums8) = ([[0; GROUP]; LANES], [0.0; LANES], [0; LANES]);
            q8[..left].copy_from_slice(&q[t][done..]);
            scales8[..left].copy_from_slice(&scales[t][done..]);
            sums8[..left].copy_from_slice(&sums[t][done..]);
            y[t] = add::<S, W>(simd, &groups, &q8, &scales8, &sums8, y[t]);
        }
    }
    for t in 0..T {
        out.set(token + t, row, simd.sum_half(y[t]));
    }
}

/// `y` plus the products of 8 groups, one in each lane.
#[inline(always)]
fn add<S: Simd, W: Blocks>(
    simd: S,
    w: &Groups<S>,
    q: &[[i8; GROUP]; LANES],
    scales: &[f32; LANES],
    sums: &[i32; LANES],
    y: S::H,
) -> S::H {
    let mut products = [simd.zero(); LANES];
    for i in 0..LANES {
        let q = simd.signed(&q[i]);
        products[i] =
            if W::SIGNED { simd.dot_signed(simd.zero(), w.codes[i], q) } else { simd.dot(simd.zero(), w.codes[i], q) };
        if let Scales::Halves(scales) = &w.scales {
            products[i] = simd.mul_int(products[i], scales[i]);
        }
    }
    let mut product = simd.sums(products);
    if W::ZERO != 0 {
        product = simd.sub_int(product, simd.mul_int(simd.ints(sums), simd.ints(&[W::ZERO; LANES])));
    }
    if let Scales::Whole(scales) = w.scales {
        product = simd.mul_int(product, scales);
    }
    let scales = simd.half(scales);
    let y = simd.fma_half(simd.mul_half(w.d, scales), simd.to_half(product), y);
    if W::MIN { simd.fma_half(simd.mul_half(w.min, scales), simd.to_half(simd.ints(sums)), y) } else { y }
}
