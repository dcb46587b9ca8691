//! IQ1_S and IQ1_M: eight weights are a point of a grid of 2,048 with the coordinates -1, 0 and 1, all moved up or down by 1/8;
//! `w = d * (2 * scale + 1) * (coordinate ± 1/8)`.
//!
//! IQ1_S: `d` as `f16`, 32 low bytes of indices, and for each 32 weights 16 bits: four times the high 3 bits of an index, 3 of the scale, and
//! one that is set where all are moved down. IQ1_M: 32 low bytes of indices, 16 bytes with 4 bits for each index, low half first: its
//! high 3 bits, and one that is set where the eight weights are moved down; and four times 16 bits: 3 bits for each of four scales of
//! 16 weights, and 4 bits of `d`, the lowest first.

use half::f16;
use std::sync::LazyLock;

use super::grid::{self, BLOCK, GridCodes, GridFormat, GridPoints, Signs};
use super::iq2::halves;
use super::{Format, grids, layout};

/// 1.56 bits: 2,048 points of eight weights, a 3-bit scale per 32 weights.
pub static IQ1_S: Format = Format {
    name: "IQ1_S",
    id: Some(19),
    block: BLOCK,
    bytes: 50,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq1S, 50>,
    encode: grid::encode::<Iq1S, 32, 50>,
};

/// 1.75 bits: 2,048 points of eight weights, a 3-bit scale per 16 weights.
pub static IQ1_M: Format = Format {
    name: "IQ1_M",
    id: Some(29),
    block: BLOCK,
    bytes: 56,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq1M, 56>,
    encode: grid::encode::<Iq1M, 16, 56>,
};

/// Set in the index of a point that is moved down: the grid has all points twice.
const DOWN: u16 = 2048;

fn both() -> &'static GridPoints {
    static GRID: LazyLock<GridPoints> = LazyLock::new(|| GridPoints::new(&grids::IQ1, &[0, 1, 2], -1.0));
    &GRID
}

fn scale(d: f32, code: u8) -> f32 {
    d * f32::from(2 * code + 1)
}

pub(super) struct Iq1S;
impl GridFormat for Iq1S {
    const PART: usize = 32;
    const TOP: u8 = 7;
    const SIGNS: Signs = Signs::None;
    const SHIFTS: &[f32] = &[0.125, -0.125];
    const FACTORS: &[f32] = &[1.0];
    fn grid() -> &'static GridPoints {
        both()
    }
    fn scale(d: f32, code: u8) -> f32 {
        scale(d, code)
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes { d: f16::from_le_bytes([block[0], block[1]]), ..GridCodes::ZERO };
        for (n, high) in block[34..].as_chunks().0.iter().enumerate() {
            let high = u16::from_le_bytes(*high);
            codes.scales[n] = (high >> 12) as u8 & 7;
            for i in 4 * n..4 * n + 4 {
                codes.points[i] = u16::from(block[2 + i]) | (high >> (i % 4 * 3) & 7) << 8 | ((high >> 15) * DOWN);
            }
        }
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        block[..2].copy_from_slice(&codes.d.to_le_bytes());
        for n in 0..8 {
            let mut high = u16::from(codes.scales[n]) << 12 | (codes.points[4 * n] / DOWN) << 15;
            for i in 4 * n..4 * n + 4 {
                block[2 + i] = codes.points[i] as u8;
                high |= (codes.points[i] >> 8 & 7) << (i % 4 * 3);
            }
            block[34 + 2 * n..][..2].copy_from_slice(&high.to_le_bytes());
        }
    }
}

pub(super) struct Iq1M;
impl GridFormat for Iq1M {
    const PART: usize = 16;
    const TOP: u8 = 7;
    const SIGNS: Signs = Signs::None;
    const SHIFTS: &[f32] = &[0.125, -0.125];
    const FACTORS: &[f32] = &[1.0];
    const ALIKE: bool = false;
    fn grid() -> &'static GridPoints {
        both()
    }
    fn scale(d: f32, code: u8) -> f32 {
        scale(d, code)
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes::ZERO;
        for i in 0..32 {
            // The bit above the high three is the one that says down.
            codes.points[i] = u16::from(block[i]) | u16::from(halves(&block[32..], i)) << 8;
        }
        let mut d = 0;
        for (n, word) in block[48..].as_chunks().0.iter().enumerate() {
            let word = u16::from_le_bytes(*word);
            d |= word >> 12 << (4 * n);
            (0..4).for_each(|i| codes.scales[4 * n + i] = (word >> (3 * i)) as u8 & 7);
        }
        codes.d = f16::from_bits(d);
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        for (i, point) in codes.points[..32].iter().enumerate() {
            block[i] = *point as u8;
            block[32 + i / 2] |= ((point >> 8) as u8) << (i % 2 * 4);
        }
        for (n, out) in block[48..].as_chunks_mut().0.iter_mut().enumerate() {
            let scales = (0..4).map(|i| u16::from(codes.scales[4 * n + i]) << (3 * i)).sum::<u16>();
            *out = (scales | codes.d.to_bits() >> (4 * n) << 12).to_le_bytes();
        }
    }
}
