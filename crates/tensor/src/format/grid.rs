//! Weights as points of a grid: the common part of the IQ formats with fewer than 4 bits.
//!
//! A block has 256 weights, in parts of 16 or 32 with one scale each. Every 4 or 8 weights are a point of a grid, with signs.

use half::f16;

use super::search::{Best, LANES, Lanes, Parts, inverse};
use super::to_f16;

/// Weights per block.
pub(super) const BLOCK: usize = 256;

/// The points of a grid, whose coordinates are of a few levels.
pub(super) struct GridPoints {
    /// Coordinates of a point, 8 or 4.
    width: usize,
    /// `[points, width]`
    points: Vec<f32>,
    /// Ascending.
    levels: Vec<f32>,
    /// The first and the last half of each point: numbers whose digits count levels.
    halves: Vec<[u8; 2]>,
}

impl GridPoints {
    /// A grid of points whose coordinates are some ascending `levels`, moved by `shift`.
    pub fn new<const WIDTH: usize>(points: &[[u8; WIDTH]], levels: &[u8], shift: f32) -> GridPoints {
        let digit = |x: &u8| levels.iter().take_while(|level| *level < x).count();
        let half = |half: &[u8]| half.iter().fold(0, |sum, x| sum * levels.len() + digit(x)) as u8;
        GridPoints {
            width: WIDTH,
            points: points.iter().flatten().map(|&x| f32::from(x) + shift).collect(),
            levels: levels.iter().map(|&level| f32::from(level) + shift).collect(),
            halves: points.iter().map(|point| [half(&point[..WIDTH / 2]), half(&point[WIDTH / 2..])]).collect(),
        }
    }

    /// The errors of one half of each point for a group of weights in each lane, less what does not depend on the point.
    #[inline(always)]
    fn errors(&self, weights: &[Lanes], counts: &[Lanes], scales: &Lanes, shifts: &Lanes, errors: &mut [Lanes; 128]) {
        let mut len = 1;
        errors[0] = [0.0; LANES];
        for (w, i) in weights.iter().zip(counts) {
            let mut costs = [[0.0; LANES]; 8];
            for (level, cost) in self.levels.iter().zip(&mut costs) {
                for lane in 0..LANES {
                    let q = scales[lane] * (level + shifts[lane]);
                    cost[lane] = i[lane] * (q * (q - 2.0 * w[lane]));
                }
            }
            // From the end, for each takes the place of what was one digit shorter.
            for k in (0..len).rev() {
                let shorter = errors[k];
                for (level, cost) in costs[..self.levels.len()].iter().enumerate() {
                    let longer = &mut errors[(k * self.levels.len() + level) & 127];
                    for lane in 0..LANES {
                        longer[lane] = shorter[lane] + cost[lane];
                    }
                }
            }
            len *= self.levels.len();
        }
    }

    /// The point that fits the group of weights in each lane best.
    #[inline(always)]
    fn nearest(&self, weights: &[Lanes], counts: &[Lanes], scales: &Lanes, shifts: &Lanes) -> [u32; LANES] {
        let (mut first, mut last) = ([[0.0; LANES]; 128], [[0.0; LANES]; 128]);
        let half = self.width / 2;
        self.errors(&weights[..half], &counts[..half], scales, shifts, &mut first);
        self.errors(&weights[half..], &counts[half..], scales, shifts, &mut last);
        let (mut least, mut at) = ([f32::INFINITY; LANES], [0; LANES]);
        for (n, [a, b]) in self.halves.iter().enumerate() {
            let (a, b) = (&first[usize::from(a & 127)], &last[usize::from(b & 127)]);
            for lane in 0..LANES {
                let error = a[lane] + b[lane];
                let better = error < least[lane];
                least[lane] = if better { error } else { least[lane] };
                at[lane] = if better { n as u32 } else { at[lane] };
            }
        }
        at
    }

    /// The points that fit sixteen parts best with these scales and shifts.
    #[inline(always)]
    fn choose<const PART: usize>(&self, parts: &Parts<PART>, scales: &Lanes, shifts: &[Lanes; 8]) -> Points {
        let mut best = Points { at: [[0; LANES]; 8], wq: [0.0; LANES], qq: [0.0; LANES] };
        let groups = parts.weights.chunks_exact(self.width).zip(parts.counts.chunks_exact(self.width));
        for (((weights, counts), at), shifts) in groups.zip(&mut best.at).zip(shifts) {
            *at = self.nearest(weights, counts, scales, shifts);
            for i in 0..self.width {
                for lane in 0..LANES {
                    let q = self.points[at[lane] as usize * self.width + i] + shifts[lane];
                    let iq = counts[i][lane] * q;
                    best.wq[lane] += iq * weights[i][lane];
                    best.qq[lane] += iq * q;
                }
            }
        }
        best
    }

    /// The level nearest to `x` in each lane.
    #[inline(always)]
    fn level(&self, x: &Lanes) -> Lanes {
        let mut nearest = [self.levels[0]; LANES];
        for pair in self.levels.windows(2) {
            for lane in 0..LANES {
                nearest[lane] = if 2.0 * x[lane] > pair[0] + pair[1] { pair[1] } else { nearest[lane] };
            }
        }
        nearest
    }

    /// The shift of each group with which the nearest levels fit best.
    #[inline(always)]
    fn shifts<const PART: usize>(&self, parts: &Parts<PART>, scales: &Lanes, shifts: &[f32]) -> [Lanes; 8] {
        let (mut chosen, inverses) = ([[0.0; LANES]; 8], scales.map(inverse));
        let groups = parts.weights.chunks_exact(self.width).zip(parts.counts.chunks_exact(self.width));
        for ((weights, counts), chosen) in groups.zip(&mut chosen) {
            let mut least = [f32::INFINITY; LANES];
            for &shift in shifts {
                let mut errors = [0.0; LANES];
                for (w, i) in weights.iter().zip(counts) {
                    let mut x = [0.0; LANES];
                    for lane in 0..LANES {
                        x[lane] = w[lane] * inverses[lane] - shift;
                    }
                    let q = self.level(&x);
                    for lane in 0..LANES {
                        errors[lane] += i[lane] * (x[lane] - q[lane]) * (x[lane] - q[lane]);
                    }
                }
                for lane in 0..LANES {
                    let better = errors[lane] < least[lane];
                    least[lane] = if better { errors[lane] } else { least[lane] };
                    chosen[lane] = if better { shift } else { chosen[lane] };
                }
            }
        }
        chosen
    }

    /// The scales with which the nearest levels fit best, if all points had the same shift, of which the best of each part is found, too.
    #[inline(always)]
    fn estimate<const PART: usize>(&self, parts: &Parts<PART>, shifts: &[f32]) -> (Lanes, Lanes) {
        let top = self.levels.iter().fold(0f32, |top, level| top.max(level.abs()));
        let units = parts.largest().map(|w| w.abs());
        let inverses = units.map(inverse);
        let (mut best, mut scales, mut chosen) = ([0.0; LANES], [0.0; LANES], [shifts[0]; LANES]);
        for &shift in shifts {
            for step in 0..STEPS {
                let end = top / (0.4 + 0.8 * step as f32 / STEPS as f32);
                let (mut wq, mut qq) = ([0.0; LANES], [0.0; LANES]);
                for (w, i) in parts.weights.iter().zip(&parts.counts) {
                    let mut x = [0.0; LANES];
                    for lane in 0..LANES {
                        x[lane] = w[lane] * inverses[lane] * end - shift;
                    }
                    let nearest = self.level(&x);
                    for lane in 0..LANES {
                        let q = nearest[lane] + shift;
                        let iq = i[lane] * q;
                        wq[lane] += iq * w[lane] * inverses[lane];
                        qq[lane] += iq * q;
                    }
                }
                for lane in 0..LANES {
                    // With the best scale wq / qq for some points, the squared error falls by wq² / qq.
                    let fall = wq[lane] * wq[lane] / qq[lane];
                    let better = wq[lane] > 0.0 && fall > best[lane];
                    best[lane] = if better { fall } else { best[lane] };
                    scales[lane] = if better { wq[lane] / qq[lane] * units[lane] } else { scales[lane] };
                    chosen[lane] = if better { shift } else { chosen[lane] };
                }
            }
        }
        (scales, chosen)
    }
}

/// Least squares makes a block shorter, along its weights, by the share that is rounded off. Over the layers of a model this harms more than
/// the error. This part of the length is given back; all of it is a little better still, with errors above llama.cpp's in the formats of the
/// fewest bits.
const LENGTH: f64 = 0.7;

/// Scales that are tried without the grid.
const STEPS: usize = 16;

/// The points of sixteen parts, and the weighted sums of `w q` and `q²` of each part.
struct Points {
    /// Of each group of a part.
    at: [[u32; LANES]; 8],
    wq: Lanes,
    qq: Lanes,
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
    /// What all coordinates of a point may be moved by: the first, or the second where a point's index is greater by the number of points.
    const SHIFTS: &[f32] = &[0.0];
    /// Scales that are tried with the grid, as multiples of the best if every combination of levels were a point.
    const FACTORS: &[f32] = &[0.9, 1.0, 1.1];
    /// Whether all points of a part are moved alike.
    const ALIKE: bool = true;
    fn grid() -> &'static GridPoints;
    /// The factor of the points of a part.
    fn scale(d: f32, code: u8) -> f32;
    fn read(block: &[u8]) -> GridCodes;
    /// `block` is initially zero.
    fn write(codes: &GridCodes, block: &mut [u8]);
}

/// [`super::Format::decode`] of a layout with blocks of `BYTES` bytes.
pub(super) fn decode<L: GridFormat, const BYTES: usize>(row: &[u8], _tail: &[u8], out: &mut [f32]) {
    let GridPoints { width, points, halves, .. } = L::grid();
    for (block, out) in row.chunks_exact(BYTES).zip(out.chunks_exact_mut(BLOCK)) {
        let codes = L::read(block);
        for (i, w) in out.iter_mut().enumerate() {
            let scale = L::scale(codes.d.to_f32(), codes.scales[i / L::PART]);
            let sign = if codes.signs[i / 8] >> (i % 8) & 1 == 0 { 1.0 } else { -1.0 };
            let index = usize::from(codes.points[i / width]);
            let (point, shift) = (index % halves.len(), L::SHIFTS[index / halves.len()]);
            *w = scale * (points[point * width + i % width] + shift) * sign;
        }
    }
}

/// [`super::Format::encode`] of a layout with a scale for each `PART` weights and blocks of `BYTES` bytes.
#[inline(always)]
pub(super) fn encode<L: GridFormat, const PART: usize, const BYTES: usize>(
    weights: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
) {
    let blocks = PART * LANES / BLOCK;
    for (n, (weights, out)) in weights.chunks(blocks * BLOCK).zip(out.chunks_mut(blocks * BYTES)).enumerate() {
        let parts = Parts::new(weights, importance, n * blocks * BLOCK);
        let codes = search::<L, PART>(parts);
        for (codes, out) in codes.iter().zip(out.chunks_exact_mut(BYTES)) {
            out.fill(0);
            L::write(codes, out);
        }
    }
}

/// The codes of one block or two: a scale is searched for each part, rounded, the points are chosen for the rounded ones, and `d` for the
/// points.
#[inline(always)]
fn search<L: GridFormat, const PART: usize>(mut parts: Parts<PART>) -> [GridCodes; 2] {
    let grid = L::grid();
    let mut codes = [GridCodes::ZERO; 2];
    let per_block = BLOCK / PART;
    take_signs::<L, PART>(&mut parts, &mut codes);
    let (estimates, chosen) = grid.estimate(&parts, L::SHIFTS);
    let shifts = if L::ALIKE { [chosen; 8] } else { grid.shifts(&parts, &estimates, L::SHIFTS) };
    let mut best = Best::default();
    for &factor in L::FACTORS {
        let points = grid.choose(&parts, &estimates.map(|scale| scale * factor), &shifts);
        best.update(&points.wq, &points.qq);
    }
    let scales = best.scales(&[1.0; LANES]).map(|scale| scale.max(0.0));
    let (mut rounded, mut multiples) = ([0.0; LANES], [0.0; LANES]);
    for (n, codes) in codes.iter_mut().enumerate().take(LANES / per_block) {
        let lanes = n * per_block..(n + 1) * per_block;
        let largest = scales[lanes.clone()].iter().fold(0f32, |max, &s| max.max(s));
        codes.d = to_f16(largest / L::scale(1.0, L::TOP));
        let d = codes.d.to_f32();
        for (i, lane) in lanes.enumerate() {
            let distance = |&code: &u8| (L::scale(d, code) - scales[lane]).abs();
            let code = (0..=L::TOP).min_by(|a, b| distance(a).total_cmp(&distance(b))).expect("some");
            (codes.scales[i], rounded[lane], multiples[lane]) = (code, L::scale(d, code), L::scale(1.0, code));
        }
    }
    let points = grid.choose(&parts, &rounded, &shifts);
    let squares = parts.squares();
    let groups = PART / grid.width;
    for (n, codes) in codes.iter_mut().enumerate().take(LANES / per_block) {
        let (mut wq, mut qq, mut ww) = (0.0, 0.0, 0.0);
        for i in 0..per_block {
            let lane = n * per_block + i;
            let total = f64::from(parts.totals[lane]);
            wq += total * f64::from(multiples[lane] * points.wq[lane]);
            qq += total * f64::from(multiples[lane] * multiples[lane] * points.qq[lane]);
            ww += total * squares[lane];
            for group in 0..groups {
                let second = shifts[group][lane] != L::SHIFTS[0];
                let index = points.at[group][lane] as usize + if second { grid.halves.len() } else { 0 };
                codes.points[groups * i + group] = index as u16;
            }
        }
        if wq > 0.0 && qq > 0.0 {
            let (least, whole) = (wq / qq, ww / wq);
            codes.d = to_f16((least + LENGTH * (whole - least)) as f32);
        }
    }
    codes
}

/// Replaces weights by their magnitudes, of which one in eight is negative if the number of signs would be odd otherwise.
#[inline(always)]
fn take_signs<L: GridFormat, const PART: usize>(parts: &mut Parts<PART>, codes: &mut [GridCodes; 2]) {
    if L::SIGNS == Signs::None {
        return;
    }
    let eights = parts.weights.as_chunks_mut::<8>().0.iter_mut().zip(parts.counts.as_chunks::<8>().0);
    for (group, (weights, counts)) in eights.enumerate() {
        let (mut signs, mut least, mut at) = ([0u32; LANES], [f32::INFINITY; LANES], [0u32; LANES]);
        for i in 0..8 {
            for lane in 0..LANES {
                let w = weights[i][lane];
                signs[lane] |= u32::from(w < 0.0) << i;
                weights[i][lane] = w.abs();
                let cost = counts[i][lane] * w * w;
                let less = cost < least[lane];
                least[lane] = if less { cost } else { least[lane] };
                at[lane] = if less { 1 << i } else { at[lane] };
            }
        }
        if L::SIGNS == Signs::Even {
            for lane in 0..LANES {
                let odd = (signs[lane] ^ signs[lane] >> 4) & 15;
                let odd = 0x6996 >> odd & 1;
                at[lane] *= odd;
                signs[lane] ^= at[lane];
            }
            for i in 0..8 {
                for lane in 0..LANES {
                    let w = weights[i][lane];
                    weights[i][lane] = if at[lane] == 1 << i { -w } else { w };
                }
            }
        }
        for lane in 0..LANES {
            let part = lane * PART / 8 + group;
            codes[part / 32].signs[part % 32] = signs[lane] as u8;
        }
    }
}
