//! The other byte layouts that bitnet.cpp has written as I2_S; nothing in a file tells them from [`super::I2_S`].
//!
//! I2_S_ARM, by builds for ARM: blocks of 64 weights in 16 bytes, the pair of bits `g` (highest first) of byte `m` being weight `16 g + m`.
//! I2_S_ROWS, by builds for x86 without `ACT_PARALLEL`: a byte has the codes of one column in four consecutive rows, the first in the highest
//! bits. Both end with the tail of I2_S. The second was compared with `quantize_i2_s` in `src/ggml-bitnet-mad.cpp` of microsoft/BitNet, the first only
//! with what products of ARM builds load there.

use super::layout::{Layout, MatrixLayout, TiledShape};
use super::{Format, I2_S, i2_s};

/// [`super::I2_S`] of ARM builds.
pub static I2_S_ARM: Format = Format {
    name: "I2_S_ARM",
    layout: Layout::Matrix(&MatrixLayout { rows: &I2_S, tiled: false, size, read: read_arm, write: write_arm }),
    ..i2_s::FORMAT
};

/// [`super::I2_S`] of builds without `ACT_PARALLEL`.
pub static I2_S_ROWS: Format = Format {
    name: "I2_S_ROWS",
    layout: Layout::Matrix(&MatrixLayout {
        rows: &I2_S,
        tiled: false,
        size: size_rows,
        read: read_rows,
        write: write_rows,
    }),
    ..i2_s::FORMAT
};

fn size(rows: u64, cols: u64) -> Option<u64> {
    if cols.is_multiple_of(128) { rows.checked_mul(cols / 4) } else { None }
}

fn size_rows(rows: u64, cols: u64) -> Option<u64> {
    if rows.is_multiple_of(4) { size(rows, cols) } else { None }
}

fn read_arm(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32> {
    let bytes = &bytes[row * matrix.cols / 4..][..matrix.cols / 4];
    for (block, out) in bytes.chunks_exact(16).zip(out.chunks_exact_mut(64)) {
        for (i, code) in out.iter_mut().enumerate() {
            *code = block[i % 16] >> (6 - i / 16 * 2) & 3;
        }
    }
    None
}

fn write_arm(matrix: &TiledShape, row: usize, codes: &[u8], _: f32, out: &mut [u8]) {
    let out = &mut out[row * matrix.cols / 4..][..matrix.cols / 4];
    for (block, codes) in out.chunks_exact_mut(16).zip(codes.chunks_exact(64)) {
        for (i, code) in codes.iter().enumerate() {
            block[i % 16] |= code << (6 - i / 16 * 2);
        }
    }
}

fn read_rows(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32> {
    let bytes = &bytes[row / 4 * matrix.cols..][..matrix.cols];
    bytes.iter().zip(out).for_each(|(byte, code)| *code = byte >> (6 - row % 4 * 2) & 3);
    None
}

fn write_rows(matrix: &TiledShape, row: usize, codes: &[u8], _: f32, out: &mut [u8]) {
    let out = &mut out[row / 4 * matrix.cols..][..matrix.cols];
    out.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= code << (6 - row % 4 * 2));
}
