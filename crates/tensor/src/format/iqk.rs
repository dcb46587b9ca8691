//! IQ2_K to IQ6_K and IQ4_KS of ik_llama.cpp: codes that count the levels of an uneven table, or of the same table moved up, which a bit
//! says for each part of a block; `w = d * scale * level`.
//!
//! Blocks have 256 weights in parts of 16 (32 in IQ4_KS). All but IQ4_KS begin with `d` as `f16` and 16 bits for the parts.
//! - IQ2_K: eight bytes of scales from -8, low half first, and codes as in Q2_K.
//! - IQ3_K: 16 bits for the signs of scales, eight bytes of their magnitudes, 1 and every second, and codes: low bits as in Q2_K, then high
//!   bits as in Q3_K.
//! - IQ4_K and IQ5_K: four bytes with the high two bits and eight with the low four of scales from -32, and codes: in IQ4_K 16 bytes for
//!   each 32 weights, the first half low; in IQ5_K as in Q4_K, then high bits as in Q5_K.
//! - IQ6_K: 16 scales as `i8`, low halves of codes as in Q4_K, and their high pairs of bits: pair `n` of byte `m` of each 32 is that of
//!   weight `32 n + m` of half a block.
//! - IQ4_KS: a row is `d` as `f32`, then blocks: eight bytes of which the lowest bit is that of the part, and the others are its scale and
//!   127, and codes as in IQ4_K.

use super::q2_k::pack_pairs;
use super::search::{self, LANES, Lanes, Parts};
use super::{Format, Layout, bounded, f16_at, inverse, iq4, to_f16};

const BLOCK: usize = 256;

/// What a block says; `d` is elsewhere.
pub(super) struct Codes {
    /// Of each 16 weights.
    scales: [f32; 16],
    /// Whether the levels of each 16 weights are moved.
    moved: u16,
    codes: [u8; BLOCK],
}

/// How a format stores its codes.
pub(super) trait Kind {
    /// Bytes before the blocks of a row, which are `d`; 0 if each block has its own.
    const HEAD: usize = 0;
    /// Ascending.
    const LEVELS: &[f32];
    /// How much higher the moved levels are.
    const MOVE: f32;
    /// Weights that have a scale.
    const PART: usize = 16;
    /// The scales: the least, the largest, and the distance of neighbours.
    const SCALES: [f32; 3];
    fn read(block: &[u8]) -> Codes;
    /// `block` is zero but for `d`.
    fn write(codes: &Codes, block: &mut [u8]);
}

const fn format(name: &'static str, id: u32, bytes: usize) -> Format {
    Format {
        name,
        id: Some(id),
        block: BLOCK,
        bytes,
        tail: 0,
        ternary: false,
        weights: true,
        layout: Layout::Rows,
        decode: decode::<Iq2K, 76>,
        encode: encode::<Iq2K, 76>,
    }
}

/// 2.38 bits: 4 levels of two tables, and a 4-bit scale per 16 weights.
pub static IQ2_K: Format = format("IQ2_K", 137, 76);
/// 3.44 bits: 8 levels of two tables, and a 5-bit scale per 16 weights.
pub static IQ3_K: Format =
    Format { decode: decode::<Iq3K, 110>, encode: encode::<Iq3K, 110>, ..format("IQ3_K", 138, 110) };
/// 4.5 bits: 16 levels of two tables, and a 6-bit scale per 16 weights.
pub static IQ4_K: Format =
    Format { decode: decode::<Iq4K, 144>, encode: encode::<Iq4K, 144>, ..format("IQ4_K", 139, 144) };
/// 5.5 bits: 32 levels of two tables, and a 6-bit scale per 16 weights.
pub static IQ5_K: Format =
    Format { decode: decode::<Iq5K, 176>, encode: encode::<Iq5K, 176>, ..format("IQ5_K", 140, 176) };
/// 6.63 bits: 64 levels of two tables, and an 8-bit scale per 16 weights.
pub static IQ6_K: Format =
    Format { decode: decode::<Iq6K, 212>, encode: encode::<Iq6K, 212>, ..format("IQ6_K", 141, 212) };
/// 4.25 bits: 16 levels of two tables, a 7-bit scale per 32 weights, and a scale per row.
pub static IQ4_KS: Format = Format {
    layout: Layout::Headed(4),
    decode: decode::<Iq4Ks, 136>,
    encode: encode::<Iq4Ks, 136>,
    ..format("IQ4_KS", 144, 136)
};

fn decode<K: Kind, const BYTES: usize>(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    let (head, blocks) = row.split_at(K::HEAD);
    let whole = head.first_chunk().map(|head| f32::from_le_bytes(*head));
    for (block, out) in blocks.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let d = whole.unwrap_or_else(|| f16_at(block));
        let Codes { scales, moved, codes } = K::read(block);
        for (i, w) in out.iter_mut().enumerate() {
            let by = if moved >> (i / 16) & 1 == 1 { K::MOVE } else { 0.0 };
            *w = d * scales[i / 16] * (K::LEVELS[usize::from(codes[i])] + by);
        }
    }
}

/// For each part, the table and the scale that fit best, rounded, and the codes for the rounded ones.
#[inline(always)]
pub(super) fn encode<K: Kind, const BYTES: usize>(weights: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    let (head, blocks) = out.split_at_mut(K::HEAD);
    // Closures would not have the instructions of the caller.
    let mut fits: Vec<Fits> = Vec::with_capacity(weights.len() / BLOCK);
    for (n, block) in weights.chunks(BLOCK).enumerate() {
        fits.push(fit::<K>(block, importance, n * BLOCK));
    }
    let [low, high, _] = K::SCALES;
    let step = |fits: &[Fits]| {
        let of = |get: fn(&Fits) -> Lanes| fits.iter().flat_map(get).collect::<Vec<_>>();
        search::scale(&of(|fits| fits.scales), &of(|fits| fits.totals), low, high)
    };
    let whole = step(&fits);
    head.copy_from_slice(&whole.to_le_bytes()[..K::HEAD]);
    for ((block, fits), out) in weights.chunks(BLOCK).zip(&fits).zip(blocks.chunks_exact_mut(BYTES)) {
        out.fill(0);
        let d = if K::HEAD == 0 { to_f16(step(std::slice::from_ref(fits))).to_f32() } else { whole };
        if K::HEAD == 0 {
            out[..2].copy_from_slice(&to_f16(d).to_le_bytes());
        }
        let mut codes = Codes { scales: [0.0; 16], moved: fits.moved, codes: [0; BLOCK] };
        for (i, part) in block.chunks_exact(16).enumerate() {
            let [low, high, by] = K::SCALES;
            let scale = low
                + by * search::round(search::clamp((fits.scales[i] * inverse(d) - low) / by, 0.0, (high - low) / by));
            codes.scales[i] = scale;
            let up = if fits.moved >> i & 1 == 1 { K::MOVE } else { 0.0 };
            for (code, w) in codes.codes[16 * i..].iter_mut().zip(part) {
                *code = search::nearest(bounded(*w) * inverse(d * scale) - up, K::LEVELS).0;
            }
        }
        K::write(&codes, out);
    }
}

/// The unrounded scales of a block, and how much they count, of each 16 weights.
struct Fits {
    scales: Lanes,
    totals: Lanes,
    moved: u16,
}

#[inline(always)]
fn fit<K: Kind>(block: &[f32], importance: Option<&[f32]>, at: usize) -> Fits {
    let mut levels = [K::LEVELS.to_vec(), K::LEVELS.to_vec()];
    levels[1].iter_mut().for_each(|level| *level += K::MOVE);
    let (tables, totals) = if K::PART == 16 {
        let parts = Parts::<16>::new(block, importance, at);
        ([parts.levels(&levels[0]), parts.levels(&levels[1])], parts.totals)
    } else {
        // Eight parts of 32, which stand for two of 16 each.
        let parts = Parts::<32>::new(block, importance, at);
        let twice = |lanes: Lanes| std::array::from_fn(|i| lanes[i / 2]);
        let tables = [parts.levels(&levels[0]), parts.levels(&levels[1])];
        (tables.map(|(scales, falls)| (twice(scales), twice(falls))), twice(parts.totals))
    };
    let [(scales, falls), (other, better)] = tables;
    let chosen = |i: &usize| better[*i] > falls[*i];
    Fits {
        scales: std::array::from_fn(|i| if chosen(&i) { other[i] } else { scales[i] }),
        totals,
        moved: (0..LANES).filter(chosen).map(|i| 1 << i).sum(),
    }
}

/// The 16 bits at byte `at`.
fn u16_at(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([block[at], block[at + 1]])
}

/// The half `i` of some bytes, low ones first.
fn half(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (i % 2 * 4) & 15
}

/// The pair of bits `i`.
fn pair(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 4] >> (i % 4 * 2) & 3
}

/// The pair of bits of weight `i` as in Q2_K.
fn pair_of(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// The half byte of weight `i` as in Q4_K.
fn half_of(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15
}

/// Puts codes where [`half_of`] finds them.
fn put_halves(codes: &[u8; BLOCK], out: &mut [u8]) {
    (0..BLOCK).for_each(|i| out[i / 64 * 32 + i % 32] |= (codes[i] & 15) << (i % 64 / 32 * 4));
}

pub(super) struct Iq2K;
impl Kind for Iq2K {
    const LEVELS: &[f32] = &[-31.0, -13.0, 1.0, 17.0];
    const MOVE: f32 = 5.0;
    const SCALES: [f32; 3] = [-8.0, 7.0, 1.0];
    fn read(block: &[u8]) -> Codes {
        Codes {
            scales: std::array::from_fn(|i| f32::from(half(&block[4..], i)) - 8.0),
            moved: u16_at(block, 2),
            codes: std::array::from_fn(|i| pair_of(&block[12..], i)),
        }
    }
    fn write(codes: &Codes, block: &mut [u8]) {
        block[2..4].copy_from_slice(&codes.moved.to_le_bytes());
        (0..16).for_each(|i| block[4 + i / 2] |= ((codes.scales[i] + 8.0) as u8) << (i % 2 * 4));
        pack_pairs(&codes.codes, &mut block[12..]);
    }
}

pub(super) struct Iq3K;
impl Kind for Iq3K {
    const LEVELS: &[f32] = &[-63.0, -40.0, -23.0, -10.0, 1.0, 13.0, 28.0, 47.0];
    const MOVE: f32 = 4.0;
    const SCALES: [f32; 3] = [-31.0, 31.0, 2.0];
    fn read(block: &[u8]) -> Codes {
        let signs = u16_at(block, 4);
        let scale = |i| f32::from(2 * half(&block[6..], i) + 1) * if signs >> i & 1 == 1 { -1.0 } else { 1.0 };
        Codes {
            scales: std::array::from_fn(scale),
            moved: u16_at(block, 2),
            codes: std::array::from_fn(|i| pair_of(&block[14..], i) | (block[78 + i % 32] >> (i / 32) & 1) << 2),
        }
    }
    fn write(codes: &Codes, block: &mut [u8]) {
        block[2..4].copy_from_slice(&codes.moved.to_le_bytes());
        for (i, scale) in codes.scales.iter().enumerate() {
            block[4 + i / 8] |= u8::from(*scale < 0.0) << (i % 8);
            block[6 + i / 2] |= (scale.abs() as u8 / 2) << (i % 2 * 4);
        }
        pack_pairs(&codes.codes, &mut block[14..78]);
        (0..BLOCK).for_each(|i| block[78 + i % 32] |= (codes.codes[i] >> 2) << (i / 32));
    }
}

/// The scales of IQ4_K and IQ5_K.
fn wide_scales(block: &[u8]) -> [f32; 16] {
    std::array::from_fn(|i| f32::from(half(&block[8..], i) | pair(&block[4..], i) << 4) - 32.0)
}

fn put_wide_scales(codes: &Codes, block: &mut [u8]) {
    block[2..4].copy_from_slice(&codes.moved.to_le_bytes());
    for (i, scale) in codes.scales.iter().enumerate() {
        let bits = (scale + 32.0) as u8;
        block[4 + i / 4] |= (bits >> 4) << (i % 4 * 2);
        block[8 + i / 2] |= (bits & 15) << (i % 2 * 4);
    }
}

/// Codes of 16 bytes for each 32 weights.
fn halves4(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| bytes[i / 32 * 16 + i % 16] >> (i % 32 / 16 * 4) & 15)
}

fn put_halves4(codes: &[u8; BLOCK], out: &mut [u8]) {
    (0..BLOCK).for_each(|i| out[i / 32 * 16 + i % 16] |= codes[i] << (i % 32 / 16 * 4));
}

pub(super) struct Iq4K;
impl Kind for Iq4K {
    const LEVELS: &[f32] = &iq4::FLOATS;
    const MOVE: f32 = 4.0;
    const SCALES: [f32; 3] = [-32.0, 31.0, 1.0];
    fn read(block: &[u8]) -> Codes {
        Codes { scales: wide_scales(block), moved: u16_at(block, 2), codes: halves4(&block[16..]) }
    }
    fn write(codes: &Codes, block: &mut [u8]) {
        put_wide_scales(codes, block);
        put_halves4(&codes.codes, &mut block[16..]);
    }
}

pub(super) struct Iq5K;
impl Kind for Iq5K {
    #[rustfmt::skip]
    const LEVELS: &[f32] = &[
        -126.0, -114.0, -103.0, -92.0, -83.0, -74.0, -65.0, -57.0, -50.0, -43.0, -36.0, -30.0, -24.0, -18.0, -12.0, -6.0,
        -1.0, 5.0, 11.0, 17.0, 23.0, 29.0, 36.0, 43.0, 51.0, 59.0, 68.0, 77.0, 87.0, 97.0, 109.0, 121.0,
    ];
    const MOVE: f32 = 2.0;
    const SCALES: [f32; 3] = [-32.0, 31.0, 1.0];
    fn read(block: &[u8]) -> Codes {
        let code = |i| half_of(&block[16..], i) | (block[144 + i % 32] >> (i / 32) & 1) << 4;
        Codes { scales: wide_scales(block), moved: u16_at(block, 2), codes: std::array::from_fn(code) }
    }
    fn write(codes: &Codes, block: &mut [u8]) {
        put_wide_scales(codes, block);
        put_halves(&codes.codes, &mut block[16..144]);
        (0..BLOCK).for_each(|i| block[144 + i % 32] |= (codes.codes[i] >> 4) << (i / 32));
    }
}

/// The levels of IQ6_K: a polynomial of the code in single precision, with fused multiply-adds, as builds of ik_llama.cpp compute it.
const LEVELS6: [f32; 64] = {
    let mut levels = [0.0; 64];
    let mut i = 0;
    while i < 64 {
        let q = i as f64;
        let level = (q * 0.0011972_f32 as f64 - 0.11218_f32 as f64) as f32;
        let level = (q * level as f64 + 6.2568_f32 as f64) as f32;
        levels[i] = (q * level as f64 - 127.0) as f32;
        i += 1;
    }
    levels
};

pub(super) struct Iq6K;
impl Kind for Iq6K {
    const LEVELS: &[f32] = &LEVELS6;
    const MOVE: f32 = 1.0;
    const SCALES: [f32; 3] = [-128.0, 127.0, 1.0];
    fn read(block: &[u8]) -> Codes {
        Codes {
            scales: std::array::from_fn(|i| f32::from(block[4 + i] as i8)),
            moved: u16_at(block, 2),
            codes: std::array::from_fn(|i| half_of(&block[20..], i) | pair_of(&block[148..], i) << 4),
        }
    }
    fn write(codes: &Codes, block: &mut [u8]) {
        block[2..4].copy_from_slice(&codes.moved.to_le_bytes());
        (0..16).for_each(|i| block[4 + i] = codes.scales[i] as i8 as u8);
        put_halves(&codes.codes, &mut block[20..148]);
        pack_pairs(&codes.codes.map(|code| code >> 4), &mut block[148..]);
    }
}

pub(super) struct Iq4Ks;
impl Kind for Iq4Ks {
    const HEAD: usize = 4;
    const LEVELS: &[f32] = &iq4::FLOATS;
    const MOVE: f32 = 4.0;
    const PART: usize = 32;
    const SCALES: [f32; 3] = [-127.0, 127.0, 2.0];
    fn read(block: &[u8]) -> Codes {
        Codes {
            scales: std::array::from_fn(|i| f32::from(block[i / 2] & 254) - 127.0),
            moved: (0..16).map(|i| u16::from(block[i / 2] & 1) << i).sum(),
            codes: halves4(&block[8..]),
        }
    }
    fn write(codes: &Codes, block: &mut [u8]) {
        (0..8).for_each(|i| block[i] = (codes.scales[2 * i] + 127.0) as u8 | (codes.moved >> (2 * i) & 1) as u8);
        put_halves4(&codes.codes, &mut block[8..]);
    }
}
