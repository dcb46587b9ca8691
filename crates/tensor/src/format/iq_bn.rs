//! The ternary formats of ik_llama.cpp: blocks of 64 weights, and a scale for each row; `w = scale * (c - 1)`.
//!
//! IQ2_BN: a row is its scale as `f32`, then blocks of 16 bytes; the pair of bits `n` (lowest first) of byte `m` is weight `16 n + m`.
//! IQ1_BN: a row is its scale as `f16`, then blocks of 13 bytes. Each 16 weights are five in each of three bytes and one in the last byte
//! of the block, which they share; a byte holds `ceil(256 v / 243)`, where `v` has the code of its first weight as *least* significant of
//! five digits in base 3. IQ2_BN_R4: each four rows of IQ2_BN interleaved: their scales, then for each 64 columns 64 bytes, of which byte
//! `16 l + 4 k + i` has the columns `16 l + i + {0, 4, 8, 12}` of row `k`, lowest bits first.
//! The first two were compared with `iqk_quantize.cpp` of ik_llama.cpp.

use super::layout::{Layout, MatrixLayout, TiledShape};
use super::{Format, abs_max, f16_at, finite, inverse, layout, to_f16, trit};

const BLOCK: usize = 64;
const HEAD: usize = 4;

/// Ternary, 2 bits, and a scale per row.
pub static IQ2_BN: Format = FORMAT;

const FORMAT: Format = Format {
    name: "IQ2_BN",
    id: Some(135),
    block: BLOCK,
    bytes: 16,
    tail: 0,
    ternary: true,
    weights: true,
    layout: Layout::Headed(HEAD),
    decode,
    encode,
};

/// Ternary, 1.6 bits, and a scale per row.
pub static IQ1_BN: Format = Format {
    name: "IQ1_BN",
    id: Some(134),
    bytes: 13,
    layout: Layout::Matrix(&MatrixLayout { rows: &IQ2_BN, tiled: false, size: size1, read: read1, write: write1 }),
    ..FORMAT
};

/// IQ2_BN with each four rows interleaved.
pub static IQ2_BN_R4: Format = Format {
    name: "IQ2_BN_R4",
    id: Some(335),
    layout: Layout::Matrix(&MatrixLayout { rows: &IQ2_BN, tiled: false, size: size4, read: read4, write: write4 }),
    ..FORMAT
};

fn decode(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    let (head, blocks) = row.split_at(HEAD);
    let scale = f32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    for (block, out) in blocks.chunks_exact(16).zip(out.chunks_exact_mut(BLOCK)) {
        for (i, w) in out.iter_mut().enumerate() {
            *w = scale * f32::from((block[i % 16] >> (i / 16 * 2) & 3) as i8 - 1);
        }
    }
}

/// The scale is the largest magnitude of the row; weights go to the nearest of -s, 0, s, ties away from zero.
fn encode(weights: &[f32], _importance: Option<&[f32]>, out: &mut [u8]) {
    let weights: Vec<f32> = weights.iter().copied().map(finite).collect();
    let scale = abs_max(&weights);
    let codes: Vec<u8> = weights.iter().map(|&w| trit(w, inverse(scale))).collect();
    out[..HEAD].copy_from_slice(&scale.to_le_bytes());
    layout::pack(&IQ2_BN, &codes, out);
}

const POW3: [u16; 5] = [1, 3, 9, 27, 81];

fn stride1(cols: usize) -> usize {
    2 + cols / BLOCK * 13
}

fn size1(rows: u64, cols: u64) -> Option<u64> {
    if cols.is_multiple_of(64) { rows.checked_mul((cols / 64).checked_mul(13)?.checked_add(2)?) } else { None }
}

/// Byte and digit of weight `i` of a block.
fn place1(i: usize) -> (usize, usize) {
    match (i / 16, i % 16) {
        (sixteenth, 15) => (12, sixteenth),
        (sixteenth, j) => (3 * sixteenth + j / 5, j % 5),
    }
}

fn read1(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32> {
    let row = &bytes[row * stride1(matrix.cols)..][..stride1(matrix.cols)];
    for (block, out) in row[2..].chunks_exact(13).zip(out.chunks_exact_mut(BLOCK)) {
        for (i, code) in out.iter_mut().enumerate() {
            let (byte, digit) = place1(i);
            *code = ((u16::from(block[byte].wrapping_mul(POW3[4 - digit] as u8)) * 3) >> 8) as u8;
        }
    }
    Some(f16_at(row))
}

fn write1(matrix: &TiledShape, row: usize, codes: &[u8], scale: f32, out: &mut [u8]) {
    let row = &mut out[row * stride1(matrix.cols)..][..stride1(matrix.cols)];
    row[..2].copy_from_slice(&to_f16(scale).to_le_bytes());
    for (block, codes) in row[2..].chunks_exact_mut(13).zip(codes.chunks_exact(BLOCK)) {
        let mut sums = [0u16; 13];
        for (i, &code) in codes.iter().enumerate() {
            let (byte, digit) = place1(i);
            sums[byte] += u16::from(code) * POW3[digit];
        }
        block.iter_mut().zip(sums).for_each(|(byte, v)| *byte = (v * 256).div_ceil(243) as u8);
    }
}

fn size4(rows: u64, cols: u64) -> Option<u64> {
    if rows.is_multiple_of(4) && cols.is_multiple_of(64) { rows.checked_mul((cols / 4).checked_add(4)?) } else { None }
}

/// Where the four rows begin, and among their codes the byte and shift of column `col` of row `row`.
fn place4(matrix: &TiledShape, row: usize, col: usize) -> (usize, usize) {
    let start = row / 4 * (4 * HEAD + matrix.cols) + 4 * HEAD;
    let (block, i) = (col / 64, col % 64);
    (start + 64 * block + i / 16 * 16 + row % 4 * 4 + i % 4, i % 16 / 4 * 2)
}

fn head4(matrix: &TiledShape, row: usize) -> usize {
    row / 4 * (4 * HEAD + matrix.cols) + row % 4 * HEAD
}

fn read4(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32> {
    for (col, code) in out.iter_mut().enumerate() {
        let (byte, shift) = place4(matrix, row, col);
        *code = bytes[byte] >> shift & 3;
    }
    bytes[head4(matrix, row)..].first_chunk().map(|head| f32::from_le_bytes(*head))
}

fn write4(matrix: &TiledShape, row: usize, codes: &[u8], scale: f32, out: &mut [u8]) {
    out[head4(matrix, row)..][..HEAD].copy_from_slice(&scale.to_le_bytes());
    for (col, code) in codes.iter().enumerate() {
        let (byte, shift) = place4(matrix, row, col);
        out[byte] |= code << shift;
    }
}
