//! TL1 and TL2 of bitnet.cpp: ternary weights as indices into tables of sums, in the order of its kernels.
//!
//! TL1 stores pairs of neighbours, `3 t0 + t1 + 4`, two in a byte. TL2 stores triples, `9 t0 + 3 t1 + t2`, as four bits of magnitude and,
//! after all magnitudes, a sign bit; columns after the last whole tile are stored as pairs after the signs. Both have the scale of the
//! tensor as their tail, like I2_S; files of the Python converter have it in another tensor, `<name>_scale`. [`super::Tiles`] describes
//! the order of bytes.
//! Compared with `utils/convert-hf-to-gguf-bitnet.py` of microsoft/BitNet.

use super::layout::{Layout, MatrixLayout, TiledShape};
use super::{Format, I2_S, i2_s};

/// Ternary, 2 bits, and a scale per tensor.
pub static TL1: Format = Format {
    name: "TL1",
    id: Some(38),
    layout: Layout::Matrix(&MatrixLayout { rows: &I2_S, tiled: true, size: size1, read: read1, write: write1 }),
    ..i2_s::FORMAT
};

/// Ternary, 1.67 bits (slightly less than `bytes`), and a scale per tensor.
pub static TL2: Format = Format {
    name: "TL2",
    id: Some(39),
    bytes: 27,
    layout: Layout::Matrix(&MatrixLayout { rows: &I2_S, tiled: true, size: size2, read: read2, write: write2 }),
    ..i2_s::FORMAT
};

fn size1(rows: u64, cols: u64) -> Option<u64> {
    if rows.is_multiple_of(16) && cols.is_multiple_of(128) { rows.checked_mul(cols / 4) } else { None }
}

/// Includes room for 256 columns of pairs, even if there are fewer.
fn size2(rows: u64, cols: u64) -> Option<u64> {
    if !rows.is_multiple_of(32) || !cols.is_multiple_of(128) {
        return None;
    }
    let (rows, cols) = (i64::try_from(rows).ok()?, i64::try_from(cols).ok()?);
    let triples = (cols - 256).checked_mul(rows)?.div_euclid(3).checked_mul(5)?.div_euclid(8);
    u64::try_from(triples.checked_add(rows.checked_mul(64)?)?).ok()?.checked_next_multiple_of(32)
}

/// The offset in a nested order, given index and count of each level from the slowest to the fastest.
fn nested<const N: usize>(indices: [(usize, usize); N]) -> usize {
    indices.into_iter().fold(0, |at, (i, n)| at * n + i)
}

/// The byte of pair `pair` of a row in TL1. Even pairs are in the high half.
fn place1(TiledShape { cols, tiles, .. }: &TiledShape, row: usize, pair: usize) -> usize {
    let (tall, wide, step) = (tiles.rows, tiles.cols / 2, tiles.step);
    let by = 128 / step;
    nested([
        (row / tall, 0),
        (pair / wide, cols / 2 / wide),
        (row % tall / step, tall / step),
        (pair % wide / by, wide / by),
        (row % step / 16, step / 16),
        (pair % by / 2, by / 2),
        (row % 16, 16),
    ])
}

/// The codes of a pair, or 3 for an invalid index.
fn pair(index: u8) -> [u8; 2] {
    if index < 9 { [index / 3, index % 3] } else { [3; 2] }
}

fn read1(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32> {
    for (i, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let byte = bytes[place1(matrix, row, 2 * i)];
        let ([a, b], [c, d]) = (pair(byte >> 4), pair(byte & 15));
        *out = [a, b, c, d];
    }
    None
}

fn write1(matrix: &TiledShape, row: usize, codes: &[u8], _: f32, out: &mut [u8]) {
    for (i, [a, b, c, d]) in codes.as_chunks::<4>().0.iter().enumerate() {
        out[place1(matrix, row, 2 * i)] = (3 * a + b) << 4 | (3 * c + d);
    }
}

/// The byte of the pair of groups `pair` of a row in a part of TL2, which has `cols` such pairs. Even groups are in the high half.
fn place2(cols: usize, tall: usize, wide: usize, row: usize, pair: usize) -> usize {
    // Groups of eight rows are in the order 0, 2, 1, 3.
    let lane = [0, 16, 8, 24][row % 32 / 8] + row % 8;
    nested([(row / tall, 0), (pair / wide, cols / wide), (row % tall / 32, tall / 32), (pair % wide, wide), (lane, 32)])
}

/// The parts of TL2: the number of columns in triples, and the offsets of their signs and of the pairs.
fn parts(TiledShape { rows, cols, tiles }: &TiledShape) -> (usize, usize, usize) {
    let triples = cols / tiles.cols * tiles.cols;
    (triples, rows * triples / 6, rows * triples / 6 + rows * triples / 24)
}

/// Byte and bit of the sign of triple `triple` of a row, from the start of the signs.
fn sign(TiledShape { tiles, .. }: &TiledShape, triples: usize, row: usize, triple: usize) -> (usize, usize) {
    let (tall, wide) = (tiles.rows, tiles.cols / 24);
    let word = nested([
        (row / tall, 0),
        (triple / 8 / wide, triples / tiles.cols),
        (row % tall / 32, tall / 32),
        (triple / 8 % wide, wide),
        (row % 16, 16),
    ]);
    let bit = 15 - (2 * (triple % 8) + row % 32 / 16);
    (2 * word + bit / 8, bit % 8)
}

/// The codes of a triple, or 3 for an invalid one: a magnitude above 13, or a negative zero.
fn triple(magnitude: u8, negative: bool) -> [u8; 3] {
    match (magnitude, negative) {
        (0..=13, false) => [(13 + magnitude) / 9, (13 + magnitude) / 3 % 3, (13 + magnitude) % 3],
        (1..=13, true) => [(13 - magnitude) / 9, (13 - magnitude) / 3 % 3, (13 - magnitude) % 3],
        _ => [3; 3],
    }
}

fn read2(matrix: &TiledShape, bytes: &[u8], row: usize, out: &mut [u8]) -> Option<f32> {
    let (triples, signs, pairs) = parts(matrix);
    let (front, back) = out.split_at_mut(triples);
    for (i, out) in front.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        let byte = bytes[place2(triples / 6, matrix.tiles.rows, matrix.tiles.cols / 6, row, i / 2)];
        let (at, bit) = sign(matrix, triples, row, i);
        *out = triple(byte >> (4 - i % 2 * 4) & 15, bytes[signs + at] >> bit & 1 == 1);
    }
    let cols = back.len() / 4;
    for (i, out) in back.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let byte = bytes[pairs + place2(cols, matrix.tiles.rows, 8, row, i)];
        let ([a, b], [c, d]) = (pair(byte >> 4), pair(byte & 15));
        *out = [a, b, c, d];
    }
    None
}

fn write2(matrix: &TiledShape, row: usize, codes: &[u8], _: f32, out: &mut [u8]) {
    let (triples, signs, pairs) = parts(matrix);
    let (front, back) = codes.split_at(triples);
    for (i, [a, b, c]) in front.as_chunks::<3>().0.iter().enumerate() {
        let index = (9 * a + 3 * b + c) as i8 - 13;
        out[place2(triples / 6, matrix.tiles.rows, matrix.tiles.cols / 6, row, i / 2)] |=
            index.unsigned_abs() << (4 - i % 2 * 4);
        let (at, bit) = sign(matrix, triples, row, i);
        out[signs + at] |= u8::from(index < 0) << bit;
    }
    let cols = back.len() / 4;
    for (i, [a, b, c, d]) in back.as_chunks::<4>().0.iter().enumerate() {
        out[pairs + place2(cols, matrix.tiles.rows, 8, row, i)] = (3 * a + b) << 4 | (3 * c + d);
    }
}
