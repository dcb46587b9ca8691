//! IQ2_XXS, IQ2_XS and IQ2_S: eight weights are a point of a grid of 256, 512 or 1,024, whose coordinates are 8, 25 and 43;
//! `w = d * (0.5 + scale) / 4 * coordinate`, negated or not.
//!
//! All begin with `d` as `f16`. IQ2_XXS: for each 32 weights, four bytes with indices and 32 bits with four times 7 signs and, on top, the
//! scale; the eighth sign makes their number even. IQ2_XS: 32 times 16 bits with an index (9) and 7 signs, then eight bytes with scales
//! of each 16 weights, low half first. IQ2_S: 32 low bytes of indices, 32 bytes of signs, eight bytes with the high two bits of four indices
//! each, and the scales as in IQ2_XS.

use half::f16;
use std::sync::LazyLock;

use super::grid::{self, BLOCK, GridCodes, GridFormat, GridPoints, Signs};
use super::{Format, grids, layout};

/// 2.06 bits: 256 points of eight weights, a 4-bit scale per 32 weights.
pub static IQ2_XXS: Format = Format {
    name: "IQ2_XXS",
    id: Some(16),
    block: BLOCK,
    bytes: 66,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq2Xxs, 66>,
    encode: grid::encode::<Iq2Xxs, 32, 66>,
};

/// 2.31 bits: 512 points of eight weights, a 4-bit scale per 16 weights.
pub static IQ2_XS: Format = Format {
    name: "IQ2_XS",
    id: Some(17),
    block: BLOCK,
    bytes: 74,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq2Xs, 74>,
    encode: grid::encode::<Iq2Xs, 16, 74>,
};

/// 2.56 bits: 1,024 points of eight weights and all signs, a 4-bit scale per 16 weights.
pub static IQ2_S: Format = Format {
    name: "IQ2_S",
    id: Some(22),
    block: BLOCK,
    bytes: 82,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq2S, 82>,
    encode: grid::encode::<Iq2S, 16, 82>,
};

/// Seven signs and the eighth that makes the number of negative ones even.
pub(super) fn even(signs: u8) -> u8 {
    signs & 127 | (((signs & 127).count_ones() % 2) as u8) << 7
}

/// 4-bit codes, low half first.
pub(super) fn halves(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 2] >> (i % 2 * 4) & 15
}

fn scale(d: f32, code: u8) -> f32 {
    d * (0.5 + f32::from(code)) * 0.25
}

pub(super) struct Iq2Xxs;
impl GridFormat for Iq2Xxs {
    const PART: usize = 32;
    const TOP: u8 = 15;
    const SIGNS: Signs = Signs::Even;
    fn grid() -> &'static GridPoints {
        static GRID: LazyLock<GridPoints> = LazyLock::new(|| GridPoints::new(&grids::IQ2_XXS, &[8, 25, 43], 0.0));
        &GRID
    }
    fn scale(d: f32, code: u8) -> f32 {
        scale(d, code)
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes { d: f16::from_le_bytes([block[0], block[1]]), ..GridCodes::ZERO };
        for (n, [points @ .., a, b, c, d]) in block[2..].as_chunks::<8>().0.iter().enumerate() {
            let rest = u32::from_le_bytes([*a, *b, *c, *d]);
            codes.scales[n] = (rest >> 28) as u8;
            for (i, &point) in points.iter().enumerate() {
                codes.points[4 * n + i] = u16::from(point);
                codes.signs[4 * n + i] = even((rest >> (7 * i)) as u8);
            }
        }
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        block[..2].copy_from_slice(&codes.d.to_le_bytes());
        for (n, out) in block[2..].as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let mut rest = u32::from(codes.scales[n]) << 28;
            for i in 0..4 {
                out[i] = codes.points[4 * n + i] as u8;
                rest |= u32::from(codes.signs[4 * n + i] & 127) << (7 * i);
            }
            out[4..].copy_from_slice(&rest.to_le_bytes());
        }
    }
}

pub(super) struct Iq2Xs;
impl GridFormat for Iq2Xs {
    const PART: usize = 16;
    const TOP: u8 = 15;
    const SIGNS: Signs = Signs::Even;
    fn grid() -> &'static GridPoints {
        static GRID: LazyLock<GridPoints> = LazyLock::new(|| GridPoints::new(&grids::IQ2_XS, &[8, 25, 43], 0.0));
        &GRID
    }
    fn scale(d: f32, code: u8) -> f32 {
        scale(d, code)
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes { d: f16::from_le_bytes([block[0], block[1]]), ..GridCodes::ZERO };
        for (i, bytes) in block[2..66].as_chunks().0.iter().enumerate() {
            let both = u16::from_le_bytes(*bytes);
            codes.points[i] = both & 511;
            codes.signs[i] = even((both >> 9) as u8);
        }
        codes.scales = std::array::from_fn(|i| halves(&block[66..], i));
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        block[..2].copy_from_slice(&codes.d.to_le_bytes());
        for (i, out) in block[2..66].as_chunks_mut().0.iter_mut().enumerate() {
            *out = (codes.points[i] | u16::from(codes.signs[i] & 127) << 9).to_le_bytes();
        }
        for (i, scale) in codes.scales.iter().enumerate() {
            block[66 + i / 2] |= scale << (i % 2 * 4);
        }
    }
}

pub(super) struct Iq2S;
impl GridFormat for Iq2S {
    const PART: usize = 16;
    const TOP: u8 = 15;
    const SIGNS: Signs = Signs::Any;
    fn grid() -> &'static GridPoints {
        static GRID: LazyLock<GridPoints> = LazyLock::new(|| GridPoints::new(&grids::IQ2_S, &[8, 25, 43], 0.0));
        &GRID
    }
    fn scale(d: f32, code: u8) -> f32 {
        scale(d, code)
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes { d: f16::from_le_bytes([block[0], block[1]]), ..GridCodes::ZERO };
        for i in 0..32 {
            codes.points[i] = u16::from(block[2 + i]) | u16::from(block[66 + i / 4] >> (i % 4 * 2) & 3) << 8;
        }
        codes.signs.copy_from_slice(&block[34..66]);
        codes.scales = std::array::from_fn(|i| halves(&block[74..], i));
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        block[..2].copy_from_slice(&codes.d.to_le_bytes());
        for (i, point) in codes.points[..32].iter().enumerate() {
            block[2 + i] = *point as u8;
            block[66 + i / 4] |= ((point >> 8) as u8) << (i % 4 * 2);
        }
        block[34..66].copy_from_slice(&codes.signs);
        for (i, scale) in codes.scales.iter().enumerate() {
            block[74 + i / 2] |= scale << (i % 2 * 4);
        }
    }
}
