//! Weights as points of a grid: the common part of the IQ formats with fewer than 4 bits.
//!
//! A block has 256 weights, in parts of 16 or 32 with one scale each. Every 4 or 8 weights are a point of a grid, with signs.

use half::f16;

use super::{abs_max, finite, search, to_f16};

/// Weights per block.
pub(super) const BLOCK: usize = 256;

/// The points of a grid.
pub(super) struct GridPoints {
    /// Coordinates of a point, 8 or 4.
    width: usize,
    /// `[points, width]`
    points: Vec<f32>,
    /// `[width, points]`
    columns: Vec<f32>,
    /// The largest coordinate.
    top: f32,
}

impl GridPoints {
    pub fn new<const WIDTH: usize>(points: impl Iterator<Item = [f32; WIDTH]>) -> GridPoints {
        let points: Vec<[f32; WIDTH]> = points.collect();
        let columns = (0..WIDTH).flat_map(|i| points.iter().map(move |point| point[i])).collect();
        let points = points.into_flattened();
        GridPoints { width: WIDTH, top: abs_max(&points), points, columns }
    }

    /// How well each point fits `width` weights, with errors weighted by `importance`.
    fn fit(&self, weights: &[f32], importance: &[f32]) -> Fit {
        let count = self.points.len() / self.width;
        let (mut wq, mut qq) = (vec![0.0; count], vec![0.0; count]);
        for ((column, w), i) in self.columns.chunks_exact(count).zip(weights).zip(importance) {
            for ((q, wq), qq) in column.iter().zip(&mut wq).zip(&mut qq) {
                *wq += i * w * q;
                *qq += i * q * q;
            }
        }
        Fit { wq, qq }
    }
}

/// For each point `q`, the sums of `importance * w * q` and `importance * q * q`, which give the error for any scale.
struct Fit {
    wq: Vec<f32>,
    qq: Vec<f32>,
}

/// The sums of one or more points. With the scale `s`, the squared error is that of zeros plus `s² qq - 2 s wq`.
#[derive(Clone, Copy, Default)]
struct PointSums {
    wq: f32,
    qq: f32,
}

impl Fit {
    /// The best point for a scale, in part `half` of `halves` of the grid.
    fn best(&self, scale: f32, half: usize, halves: usize) -> (usize, PointSums) {
        let count = self.wq.len() / halves;
        let points = half * count..(half + 1) * count;
        // Eight minima, for vectorization.
        let (mut least, mut at) = ([f32::INFINITY; 8], [0u32; 8]);
        let (wq, qq) = (self.wq[points.clone()].as_chunks::<8>().0, self.qq[points].as_chunks::<8>().0);
        for (n, (wq, qq)) in wq.iter().zip(qq).enumerate() {
            for lane in 0..8 {
                let error = scale * (scale * qq[lane] - 2.0 * wq[lane]);
                let better = error < least[lane];
                least[lane] = if better { error } else { least[lane] };
                at[lane] = if better { n as u32 } else { at[lane] };
            }
        }
        let lane = (0..8).min_by(|&a, &b| least[a].total_cmp(&least[b])).expect("eight lanes");
        let point = half * count + 8 * at[lane] as usize + lane;
        (point, PointSums { wq: self.wq[point], qq: self.qq[point] })
    }
}

/// Which weights may be negated.
#[derive(PartialEq)]
pub(super) enum Signs {
    /// None: the grid has negative coordinates.
    None,
    /// An even number of every eight.
    Even,
    /// Any.
    Any,
}

/// The unpacked codes of a block.
pub(super) struct GridCodes {
    pub d: f16,
    /// One per part.
    pub scales: [u8; 16],
    /// Indices of points; 32 for points of 8 coordinates.
    pub points: [u16; 64],
    /// Bit `i % 8` of byte `i / 8` is set if weight `i` is negated.
    pub signs: [u8; 32],
}

impl GridCodes {
    pub const ZERO: GridCodes = GridCodes { d: f16::ZERO, scales: [0; 16], points: [0; 64], signs: [0; 32] };
}

/// How a format stores its codes.
pub(super) trait GridFormat {
    /// Weights per scale.
    const PART: usize;
    /// The largest code of a scale.
    const TOP: u8;
    const SIGNS: Signs;
    /// The number of equal pieces of the grid. All points of a part are in the same piece.
    const HALVES: usize = 1;
    fn grid() -> &'static GridPoints;
    /// The factor of the points of a part.
    fn scale(d: f32, code: u8) -> f32;
    fn read(block: &[u8]) -> GridCodes;
    /// `block` is initially zero.
    fn write(codes: &GridCodes, block: &mut [u8]);
}

/// [`super::Format::decode`] of a layout with blocks of `BYTES` bytes.
pub(super) fn decode<L: GridFormat, const BYTES: usize>(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    let GridPoints { width, points, .. } = L::grid();
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let codes = L::read(block);
        for (i, w) in out.iter_mut().enumerate() {
            let scale = L::scale(codes.d.to_f32(), codes.scales[i / L::PART]);
            let sign = if codes.signs[i / 8] >> (i % 8) & 1 == 0 { 1.0 } else { -1.0 };
            *w = scale * points[usize::from(codes.points[i / width]) * width + i % width] * sign;
        }
    }
}

/// [`super::Format::encode`] of a layout with blocks of `BYTES` bytes.
pub(super) fn encode<L: GridFormat, const BYTES: usize>(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        out.fill(0);
        L::write(&search::<L>(&block.map(finite)), out);
    }
}

/// The codes of a block: a scale is searched for each part, rounded, the points are chosen for the rounded ones, and `d` for the points.
fn search<L: GridFormat>(block: &[f32; BLOCK]) -> GridCodes {
    let grid = L::grid();
    let mut codes = GridCodes::ZERO;
    let max = abs_max(block);
    if max == 0.0 {
        return codes;
    }
    // From here on weights are parts of the largest, so that no square overflows.
    let mut weights = block.map(|w| w / max);
    let importance = search::importance(&weights);
    take_signs::<L>(&mut weights, &importance, &mut codes.signs);
    let parts: Vec<Vec<Fit>> = weights
        .chunks_exact(L::PART)
        .zip(importance.chunks_exact(L::PART))
        .map(|(weights, importance)| {
            let points = weights.chunks_exact(grid.width).zip(importance.chunks_exact(grid.width));
            points.map(|(weights, importance)| grid.fit(weights, importance)).collect()
        })
        .collect();
    let scales: Vec<f32> = parts
        .iter()
        .zip(weights.chunks_exact(L::PART))
        .map(|(part, weights)| best_scale::<L>(part, abs_max(weights) / grid.top))
        .collect();
    let largest = scales.iter().fold(0f32, |max, &s| max.max(s));
    let d = to_f16(largest * max / L::scale(1.0, L::TOP)).to_f32();
    let mut all = PointSums::default();
    for (n, (part, scale)) in parts.iter().zip(scales).enumerate() {
        let distance = |&code: &u8| (L::scale(d, code) / max - scale).abs();
        let code = (0..=L::TOP).min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("some");
        codes.scales[n] = code;
        let (points, sums) = choose::<L>(part, L::scale(d, code) / max);
        for (to, point) in codes.points[n * L::PART / grid.width..].iter_mut().zip(points) {
            *to = point as u16;
        }
        let multiple = L::scale(1.0, code);
        all.wq += multiple * sums.wq;
        all.qq += multiple * multiple * sums.qq;
    }
    codes.d = to_f16((all.wq / all.qq).max(0.0) * max);
    codes
}

/// Replaces weights by their magnitudes, of which one in eight is negative if the number of signs would be odd otherwise.
fn take_signs<L: GridFormat>(weights: &mut [f32; BLOCK], importance: &[f32; BLOCK], signs: &mut [u8; 32]) {
    if L::SIGNS == Signs::None {
        return;
    }
    let eights = weights.as_chunks_mut::<8>().0.iter_mut().zip(importance.as_chunks::<8>().0);
    for ((weights, importance), signs) in eights.zip(signs) {
        for (i, w) in weights.iter_mut().enumerate() {
            *signs |= u8::from(*w < 0.0) << i;
            *w = w.abs();
        }
        if L::SIGNS == Signs::Even && signs.count_ones() % 2 == 1 {
            let cost = |&i: &usize| importance[i] * weights[i] * weights[i];
            let least = (0..8).min_by(|a, b| cost(a).total_cmp(&cost(b))).expect("eight weights");
            *signs ^= 1 << least;
            weights[least] = -weights[least];
        }
    }
}

/// The best points of a part for a scale, and their sums.
fn choose<L: GridFormat>(part: &[Fit], scale: f32) -> (Vec<usize>, PointSums) {
    let error = |sums: PointSums| scale * (scale * sums.qq - 2.0 * sums.wq);
    let half = |half: usize| {
        let best: Vec<(usize, PointSums)> = part.iter().map(|fit| fit.best(scale, half, L::HALVES)).collect();
        let sum = |a: PointSums, b: PointSums| PointSums { wq: a.wq + b.wq, qq: a.qq + b.qq };
        let sums = best.iter().fold(PointSums::default(), |all, &(_, sums)| sum(all, sums));
        (best.into_iter().map(|(point, _)| point).collect(), sums)
    };
    (0..L::HALVES).map(half).min_by(|a, b| error(a.1).total_cmp(&error(b.1))).expect("at least one")
}

/// The scale that fits a part best; with `full`, the largest weight would be the largest coordinate.
fn best_scale<L: GridFormat>(part: &[Fit], full: f32) -> f32 {
    let mut best = (0.0, 0.0);
    for step in 0..8 {
        let (_, PointSums { wq, qq }) = choose::<L>(part, full * (0.45 + 0.09 * step as f32));
        // With the best scale wq / qq for these points, the squared error falls by wq² / qq.
        if wq > 0.0 && wq * wq > best.0 * qq {
            best = (wq * wq / qq, wq / qq);
        }
    }
    best.1
}
