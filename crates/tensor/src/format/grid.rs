//! Weights as points of a grid: what the IQ formats of fewer than 4 bits have in common.
//!
//! A block is 256 weights, in parts of 16 or 32 under one scale. Each 8 or 4 weights are one of the points of a grid, some of them negated.

use half::f16;

use super::{abs_max, finite, search, to_f16};

/// Weights of a block.
pub(super) const BLOCK: usize = 256;

/// Points of which weights are multiples.
pub(super) struct Grid {
    /// Coordinates of a point, 8 or 4.
    width: usize,
    /// `[points, width]`
    points: Vec<f32>,
    /// `[width, points]`
    columns: Vec<f32>,
    /// The largest coordinate.
    top: f32,
}

impl Grid {
    pub fn new<const WIDTH: usize>(points: impl Iterator<Item = [f32; WIDTH]>) -> Grid {
        let points: Vec<[f32; WIDTH]> = points.collect();
        let columns = (0..WIDTH).flat_map(|i| points.iter().map(move |point| point[i])).collect();
        let points = points.into_flattened();
        Grid { width: WIDTH, top: abs_max(&points), points, columns }
    }

    /// How well each point fits `width` weights, where errors count as `importance` says.
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

/// For each point `q`, the sums of `importance * w * q` and `importance * q * q`: they tell the error of every scale.
struct Fit {
    wq: Vec<f32>,
    qq: Vec<f32>,
}

/// A point, or several: with the scale `s`, the squared error is that of zeros plus `s² qq - 2 s wq`.
#[derive(Clone, Copy, Default)]
struct Sums {
    wq: f32,
    qq: f32,
}

impl Fit {
    /// The best point for a scale, in part `half` of `halves` of the grid.
    fn best(&self, scale: f32, half: usize, halves: usize) -> (usize, Sums) {
        let count = self.wq.len() / halves;
        let points = half * count..(half + 1) * count;
        // Eight minima, so that they become vectors.
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
        (point, Sums { wq: self.wq[point], qq: self.qq[point] })
    }
}

/// Which weights may be negated points.
#[derive(PartialEq)]
pub(super) enum Signs {
    /// None: the grid has negative coordinates.
    None,
    /// An even number of each eight.
    Even,
    /// Any.
    Any,
}

/// What the bytes of a block say.
pub(super) struct Codes {
    pub d: f16,
    /// Of each part.
    pub scales: [u8; 16],
    /// Indices of points; those of 8 coordinates are 32.
    pub points: [u16; 64],
    /// Bit `i mod 8` of byte `i / 8` is set where weight `i` is negated.
    pub signs: [u8; 32],
}

impl Codes {
    pub const ZERO: Codes = Codes { d: f16::ZERO, scales: [0; 16], points: [0; 64], signs: [0; 32] };
}

/// Where a format has its codes.
pub(super) trait Layout {
    /// Weights under one scale.
    const PART: usize;
    /// The largest code of a scale.
    const TOP: u8;
    const SIGNS: Signs;
    /// In so many equal pieces is the grid, and the points of a part are of one of them.
    const HALVES: usize = 1;
    fn grid() -> &'static Grid;
    /// What the points of a part are multiplied by.
    fn scale(d: f32, code: u8) -> f32;
    fn read(block: &[u8]) -> Codes;
    /// `block` begins as zeros.
    fn write(codes: &Codes, block: &mut [u8]);
}

/// [`super::Format::decode`] of a layout with blocks of `BYTES` bytes.
pub(super) fn decode<L: Layout, const BYTES: usize>(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    let Grid { width, points, .. } = L::grid();
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
pub(super) fn encode<L: Layout, const BYTES: usize>(weights: &[f32], out: &mut [u8]) {
    for (block, out) in weights.as_chunks::<BLOCK>().0.iter().zip(out.chunks_exact_mut(BYTES)) {
        out.fill(0);
        L::write(&search::<L>(&block.map(finite)), out);
    }
}

/// The codes of a block: a scale is searched for each part, rounded, the points are chosen for the rounded ones, and `d` for the points.
fn search<L: Layout>(block: &[f32; BLOCK]) -> Codes {
    let grid = L::grid();
    let mut codes = Codes::ZERO;
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
    let mut all = Sums::default();
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

/// Leaves the magnitudes of weights behind, and one of eight as a negative magnitude where the signs could not be even without.
fn take_signs<L: Layout>(weights: &mut [f32; BLOCK], importance: &[f32; BLOCK], signs: &mut [u8; 32]) {
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

/// The points of a part for a scale, and what they add up to.
fn choose<L: Layout>(part: &[Fit], scale: f32) -> (Vec<usize>, Sums) {
    let error = |sums: Sums| scale * (scale * sums.qq - 2.0 * sums.wq);
    let half = |half: usize| {
        let best: Vec<(usize, Sums)> = part.iter().map(|fit| fit.best(scale, half, L::HALVES)).collect();
        let sum = |a: Sums, b: Sums| Sums { wq: a.wq + b.wq, qq: a.qq + b.qq };
        let sums = best.iter().fold(Sums::default(), |all, &(_, sums)| sum(all, sums));
        (best.into_iter().map(|(point, _)| point).collect(), sums)
    };
    (0..L::HALVES).map(half).min_by(|a, b| error(a.1).total_cmp(&error(b.1))).expect("at least one")
}

/// The scale that fits a part best; with `full`, the largest weight would be the largest coordinate.
fn best_scale<L: Layout>(part: &[Fit], full: f32) -> f32 {
    let mut best = (0.0, 0.0);
    for step in 0..8 {
        let (_, Sums { wq, qq }) = choose::<L>(part, full * (0.45 + 0.09 * step as f32));
        // With the best scale wq / qq for these points, the squared error falls by wq² / qq.
        if wq > 0.0 && wq * wq > best.0 * qq {
            best = (wq * wq / qq, wq / qq);
        }
    }
    best.1
}
