//! IQ3_XXS and IQ3_S: four weights are a point of a grid of 256 or 512, negated or not.
//!
//! Both begin with `d` as `f16`. IQ3_XXS: 64 indices, then for each 32 weights 32 bits with four times 7 signs and, on top, the scale; the
//! eighth sign makes their number even; coordinates are 4 to 62, `w = d * (0.5 + scale) / 2 * coordinate`. IQ3_S: 64 low bytes of
//! indices, eight bytes with their ninth bits, 32 bytes of signs, four bytes with the scales of each 32 weights, low half first; coordinates
//! are odd, 1 to 15, `w = d * (1 + 2 * scale) * coordinate`.

use half::f16;
use std::sync::LazyLock;

use super::grid::{self, BLOCK, GridCodes, GridFormat, GridPoints, Signs};
use super::iq2::{even, halves};
use super::{Format, grids, layout};

/// 3.06 bits: 256 points of four weights, a 4-bit scale per 32 weights.
pub static IQ3_XXS: Format = Format {
    name: "IQ3_XXS",
    id: Some(18),
    block: BLOCK,
    bytes: 98,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq3Xxs, 98>,
    encode: grid::encode::<Iq3Xxs, 32, 98>,
};

/// 3.44 bits: 512 points of four weights and all signs, a 4-bit scale per 32 weights.
pub static IQ3_S: Format = Format {
    name: "IQ3_S",
    id: Some(21),
    block: BLOCK,
    bytes: 110,
    tail: 0,
    ternary: false,
    weights: true,
    layout: layout::Layout::Rows,
    decode: grid::decode::<Iq3S, 110>,
    encode: grid::encode::<Iq3S, 32, 110>,
};

pub(super) struct Iq3Xxs;
impl GridFormat for Iq3Xxs {
    const PART: usize = 32;
    const TOP: u8 = 15;
    const SIGNS: Signs = Signs::Even;
    fn grid() -> &'static GridPoints {
        static GRID: LazyLock<GridPoints> =
            LazyLock::new(|| GridPoints::new(&grids::IQ3_XXS, &[4, 12, 20, 28, 36, 44, 52, 62], 0.0));
        &GRID
    }
    fn scale(d: f32, code: u8) -> f32 {
        d * (0.5 + f32::from(code)) * 0.5
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes { d: f16::from_le_bytes([block[0], block[1]]), ..GridCodes::ZERO };
        codes.points = std::array::from_fn(|i| u16::from(block[2 + i]));
        for (n, rest) in block[66..].as_chunks().0.iter().enumerate() {
            let rest = u32::from_le_bytes(*rest);
            codes.scales[n] = (rest >> 28) as u8;
            for i in 0..4 {
                codes.signs[4 * n + i] = even((rest >> (7 * i)) as u8);
            }
        }
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        block[..2].copy_from_slice(&codes.d.to_le_bytes());
        for (point, out) in codes.points.iter().zip(&mut block[2..66]) {
            *out = *point as u8;
        }
        for (n, out) in block[66..].as_chunks_mut().0.iter_mut().enumerate() {
            let signs = (0..4).map(|i| u32::from(codes.signs[4 * n + i] & 127) << (7 * i)).sum::<u32>();
            *out = (signs | u32::from(codes.scales[n]) << 28).to_le_bytes();
        }
    }
}

pub(super) struct Iq3S;
impl GridFormat for Iq3S {
    const PART: usize = 32;
    const TOP: u8 = 15;
    const SIGNS: Signs = Signs::Any;
    fn grid() -> &'static GridPoints {
        static GRID: LazyLock<GridPoints> =
            LazyLock::new(|| GridPoints::new(&grids::IQ3_S, &[1, 3, 5, 7, 9, 11, 13, 15], 0.0));
        &GRID
    }
    fn scale(d: f32, code: u8) -> f32 {
        d * f32::from(1 + 2 * code)
    }
    fn read(block: &[u8]) -> GridCodes {
        let mut codes = GridCodes { d: f16::from_le_bytes([block[0], block[1]]), ..GridCodes::ZERO };
        for i in 0..64 {
            codes.points[i] = u16::from(block[2 + i]) | u16::from(block[66 + i / 8] >> (i % 8) & 1) << 8;
        }
        codes.signs.copy_from_slice(&block[74..106]);
        (0..8).for_each(|i| codes.scales[i] = halves(&block[106..], i));
        codes
    }
    fn write(codes: &GridCodes, block: &mut [u8]) {
        block[..2].copy_from_slice(&codes.d.to_le_bytes());
        for (i, point) in codes.points.iter().enumerate() {
            block[2 + i] = *point as u8;
            block[66 + i / 8] |= ((point >> 8) as u8) << (i % 8);
        }
        block[74..106].copy_from_slice(&codes.signs);
        for (i, scale) in codes.scales[..8].iter().enumerate() {
            block[106 + i / 2] |= scale << (i % 2 * 4);
        }
    }
}
