//! Search of the scales of blocks and of their parts by weighted least squares.
//!
//! Sixteen parts are searched at once, each in one lane of every vector: what a compiler makes vector instructions of, in the same order on
//! every instruction set.

use super::bounded;

/// Parts that are searched at once.
pub(super) const LANES: usize = 16;
pub(super) type Lanes = [f32; LANES];

/// Sixteen parts of `N` weights.
pub(super) struct Parts<const N: usize> {
    /// `[N, LANES]`
    pub weights: [Lanes; N],
    /// How much an error at each weight counts: a share of those of its part.
    pub counts: [Lanes; N],
    /// How much the errors of each part count.
    pub totals: Lanes,
}

/// Added to a number below 2^22, leaves no place for its fraction, and its whole part in the lowest bits.
const SHIFT: f32 = 12_582_912.0;

/// The nearest whole number, to even if there are two, of one below 2^22.
#[inline(always)]
pub(super) fn round(x: f32) -> f32 {
    (x + SHIFT) - SHIFT
}

/// The whole part of a number below 2^22 that is not negative, as a byte.
#[inline(always)]
pub(super) fn floor(x: f32) -> u8 {
    let nearest = round(x);
    let whole = if nearest > x { nearest - 1.0 } else { nearest };
    (whole + SHIFT).to_bits() as u8
}

/// `x` limited to `low..=high`; `low` if it is NaN.
#[inline(always)]
pub(super) fn clamp(x: f32, low: f32, high: f32) -> f32 {
    let x = if x > low { x } else { low };
    if x < high { x } else { high }
}

/// `x` limited to `low..=high` and rounded, as the lowest byte of the whole number.
#[inline(always)]
pub(super) fn code(x: f32, low: f32, high: f32) -> u8 {
    (clamp(x, low, high) + SHIFT).to_bits() as u8
}

/// The importance of `N` weights from column `at` on of rows laid end to end.
#[inline(always)]
pub(super) fn columns<const N: usize>(importance: Option<&[f32]>, at: usize) -> Option<&[f32; N]> {
    importance.map(|all| all[at % all.len()..].first_chunk().expect("blocks end with their row"))
}

impl<const N: usize> Parts<N> {
    /// The first sixteen parts of `weights`, or zeros for those that are missing. `at` is the column of the first.
    ///
    /// Where the importance of columns is known, an error counts as much as its column, and more at a large weight; else it counts more at a
    /// large weight, and never nothing.
    #[inline(always)]
    pub fn new(weights: &[f32], importance: Option<&[f32]>, at: usize) -> Parts<N> {
        let mut parts = Parts { weights: [[0.0; LANES]; N], counts: [[1.0; LANES]; N], totals: [0.0; LANES] };
        for (lane, part) in weights.as_chunks::<N>().0.iter().take(LANES).enumerate() {
            for n in 0..N {
                parts.weights[n][lane] = bounded(part[n]);
            }
            if let Some(columns) = columns::<N>(importance, at + lane * N) {
                for n in 0..N {
                    parts.counts[n][lane] = clamp(columns[n], 0.0, 1e10);
                }
            }
        }
        let mut squares = [0.0; LANES];
        for n in 0..N {
            for lane in 0..LANES {
                squares[lane] += parts.weights[n][lane] * parts.weights[n][lane];
            }
        }
        for n in 0..N {
            for lane in 0..LANES {
                let (w, mean) = (parts.weights[n][lane], squares[lane] / N as f32);
                let size = if importance.is_some() { (2.0 * mean + w * w).sqrt() } else { mean.sqrt() + w.abs() };
                parts.counts[n][lane] *= size;
                parts.totals[lane] += parts.counts[n][lane];
            }
        }
        for n in 0..N {
            for lane in 0..LANES {
                let share = parts.counts[n][lane] * inverse(parts.totals[lane]);
                parts.counts[n][lane] = if parts.totals[lane] > 0.0 { share } else { 1.0 / N as f32 };
            }
        }
        parts
    }

    /// The weighted sums of the squared weights of each part, as shares of its total.
    #[inline(always)]
    pub fn squares(&self) -> [f64; LANES] {
        let mut squares = [0.0; LANES];
        for n in 0..N {
            for lane in 0..LANES {
                let w = f64::from(self.weights[n][lane]);
                squares[lane] += f64::from(self.counts[n][lane]) * w * w;
            }
        }
        squares
    }

    /// The weight of largest magnitude of each part, the first of several.
    #[inline(always)]
    pub fn largest(&self) -> Lanes {
        let mut largest = [0f32; LANES];
        for n in 0..N {
            for lane in 0..LANES {
                let w = self.weights[n][lane];
                largest[lane] = if w.abs() > largest[lane].abs() { w } else { largest[lane] };
            }
        }
        largest
    }

    /// The scales `d` that make `d * q` fit best, with codes `q` in `low..=high` where `low` has the larger magnitude.
    #[inline(always)]
    pub fn symmetric(&self, low: f32, high: f32) -> Lanes {
        let units = self.largest();
        let inverses = units.map(inverse);
        let mut best = Best::default();
        for step in -9..=9 {
            let end = low + 0.1 * step as f32;
            let (mut wq, mut qq) = ([0.0; LANES], [0.0; LANES]);
            for n in 0..N {
                for lane in 0..LANES {
                    let w = self.weights[n][lane] * inverses[lane];
                    let q = clamp(round(w * end), low, high);
                    let iq = self.counts[n][lane] * q;
                    wq[lane] += iq * w;
                    qq[lane] += iq * q;
                }
            }
            best.update(&wq, &qq);
        }
        best.scales(&units)
    }

    /// The scales `d` that make `d * level` fit best, with one of ascending levels for each weight, and by how much the squared errors of
    /// parts fall with them.
    #[inline(always)]
    pub fn levels(&self, levels: &[f32]) -> (Lanes, Lanes) {
        let units = self.largest();
        let inverses = units.map(inverse);
        let mut best = Best::default();
        // The largest weight is near the first level or near the last.
        for end in [levels[0], levels[levels.len() - 1]] {
            for step in -8..=8 {
                let end = end * (1.0 + 0.02 * step as f32);
                let (mut wq, mut qq) = ([0.0; LANES], [0.0; LANES]);
                for n in 0..N {
                    let (mut w, mut x) = ([0.0; LANES], [0.0; LANES]);
                    for lane in 0..LANES {
                        w[lane] = self.weights[n][lane] * inverses[lane];
                        x[lane] = w[lane] * end;
                    }
                    // What `nearest` finds, of all parts at once.
                    let mut q = [levels[0]; LANES];
                    for pair in levels.windows(2) {
                        for lane in 0..LANES {
                            q[lane] = if 2.0 * x[lane] > pair[0] + pair[1] { pair[1] } else { q[lane] };
                        }
                    }
                    for lane in 0..LANES {
                        let iq = self.counts[n][lane] * q[lane];
                        wq[lane] += iq * w[lane];
                        qq[lane] += iq * q[lane];
                    }
                }
                best.update(&wq, &qq);
            }
        }
        let mut falls = [0.0; LANES];
        for lane in 0..LANES {
            falls[lane] = best.wq[lane] * best.wq[lane] / best.qq[lane];
        }
        (best.scales(&units), falls)
    }

    /// The scales `d` and offsets `m`, neither negative, that make `d * q - m` fit best, with codes `q` in `0..=high`.
    #[inline(always)]
    pub fn offset(&self, high: f32) -> (Lanes, Lanes) {
        let (mut min, mut max) = ([0f32; LANES], [f32::MIN; LANES]);
        for n in 0..N {
            for lane in 0..LANES {
                let w = self.weights[n][lane];
                min[lane] = if w < min[lane] { w } else { min[lane] };
                max[lane] = if w > max[lane] { w } else { max[lane] };
            }
        }
        let mut inverses = [0.0; LANES];
        for lane in 0..LANES {
            inverses[lane] = inverse(max[lane] - min[lane]);
        }
        // Weights from here on are parts of the span from `min`.
        let (mut n0, mut w1, mut w2) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
        let mut weights = self.weights;
        for n in 0..N {
            for lane in 0..LANES {
                let w = (weights[n][lane] - min[lane]) * inverses[lane];
                weights[n][lane] = w;
                let i = self.counts[n][lane];
                n0[lane] += i;
                w1[lane] += i * w;
                w2[lane] += i * w * w;
            }
        }
        let (mut best, mut d, mut m) = ([f32::INFINITY; LANES], [0.0; LANES], min.map(|w| -w));
        for step in -20..=20 {
            let end = high + 0.05 * step as f32;
            let (mut q1, mut q2, mut wq) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
            for n in 0..N {
                for lane in 0..LANES {
                    let w = weights[n][lane];
                    let q = round(w * end);
                    let q = if q < high { q } else { high };
                    let iq = self.counts[n][lane] * q;
                    q1[lane] += iq;
                    q2[lane] += iq * q;
                    wq[lane] += iq * w;
                }
            }
            for lane in 0..LANES {
                let (n0, w1, q1, q2, wq) = (n0[lane], w1[lane], q1[lane], q2[lane], wq[lane]);
                // Regression of the weights on the codes; an offset is held at 0 that would be negative, or has nothing to tell it from a scale.
                let zero = -min[lane] * inverses[lane];
                let determinant = n0 * q2 - q1 * q1;
                let slope = (n0 * wq - q1 * w1) / determinant;
                let start = (q2 * w1 - q1 * wq) / determinant;
                let held = !(determinant > 1e-5 * n0 * q2 && start <= zero);
                let slope = if held { (wq - zero * q1) / q2 } else { slope };
                let start = if held { zero } else { start };
                let error = w2[lane] + slope * (slope * q2 + 2.0 * (start * q1 - wq)) + start * (start * n0 - 2.0 * w1);
                let better = q2 > 0.0 && error < best[lane];
                let span = max[lane] - min[lane];
                best[lane] = if better { error } else { best[lane] };
                d[lane] = if better { slope * span } else { d[lane] };
                m[lane] = if better { (zero - start) * span } else { m[lane] };
            }
        }
        (d, m)
    }

    /// The codes of `scales` and `offsets` in steps of `d` and `dmin`, of those near the best for each alone the ones that fit best together
    /// with codes of weights in `0..=high`.
    #[inline(always)]
    pub fn round_offset(
        &self,
        fits: (&Lanes, &Lanes),
        steps: (&Lanes, &Lanes),
        top: f32,
        high: f32,
    ) -> ([u8; LANES], [u8; LANES]) {
        let (mut best, mut scales, mut offsets) = ([f32::INFINITY; LANES], [0; LANES], [0; LANES]);
        for near in 0..9 {
            let (mut d, mut m, mut codes) = ([0.0; LANES], [0.0; LANES], [[0.0; LANES]; 2]);
            for lane in 0..LANES {
                let nearest = |fit: f32, step: f32, by: i32| {
                    clamp(round(clamp(fit * inverse(step), 0.0, top)) + by as f32, 0.0, top)
                };
                codes[0][lane] = nearest(fits.0[lane], steps.0[lane], near % 3 - 1);
                codes[1][lane] = nearest(fits.1[lane], steps.1[lane], near / 3 - 1);
                (d[lane], m[lane]) = (codes[0][lane] * steps.0[lane], codes[1][lane] * steps.1[lane]);
            }
            let (inverses, mut errors) = (d.map(inverse), [0.0; LANES]);
            for n in 0..N {
                for lane in 0..LANES {
                    let w = self.weights[n][lane];
                    let q = round(clamp((w + m[lane]) * inverses[lane], 0.0, high));
                    let error = d[lane] * q - m[lane] - w;
                    errors[lane] += self.counts[n][lane] * error * error;
                }
            }
            for lane in 0..LANES {
                let better = errors[lane] < best[lane];
                best[lane] = if better { errors[lane] } else { best[lane] };
                scales[lane] = if better { codes[0][lane] as u8 } else { scales[lane] };
                offsets[lane] = if better { codes[1][lane] as u8 } else { offsets[lane] };
            }
        }
        (scales, offsets)
    }
}

/// The sums of the best codes of each part so far: of `w q` and `q²`, weighted.
pub(super) struct Best {
    wq: Lanes,
    qq: Lanes,
}

impl Default for Best {
    fn default() -> Best {
        Best { wq: [0.0; LANES], qq: [1.0; LANES] }
    }
}

impl Best {
    #[inline(always)]
    pub fn update(&mut self, wq: &Lanes, qq: &Lanes) {
        for lane in 0..LANES {
            // With the best scale wq / qq for some codes, the squared error falls by wq² / qq.
            let better = wq[lane] * wq[lane] * self.qq[lane] > self.wq[lane] * self.wq[lane] * qq[lane];
            self.wq[lane] = if better { wq[lane] } else { self.wq[lane] };
            self.qq[lane] = if better { qq[lane] } else { self.qq[lane] };
        }
    }

    #[inline(always)]
    pub fn scales(&self, units: &Lanes) -> Lanes {
        let mut scales = [0.0; LANES];
        for lane in 0..LANES {
            scales[lane] = self.wq[lane] / self.qq[lane] * units[lane];
        }
        scales
    }
}

/// `1 / x`, or 0 where that is no number.
#[inline(always)]
pub(super) fn inverse(x: f32) -> f32 {
    let inverse = 1.0 / x;
    if inverse.abs() < f32::INFINITY { inverse } else { 0.0 }
}

/// The scale of some scales with codes in `low..=high`, of which the end of larger magnitude is near the largest. Errors count as much as
/// `totals`.
#[inline(always)]
pub(super) fn scale(scales: &[f32], totals: &[f32], low: f32, high: f32) -> f32 {
    let largest = scales.iter().fold(0f32, |most, &s| if s.abs() > most.abs() { s } else { most });
    let (inverse, end) = (inverse(largest), if -low > high { low } else { high });
    // Each lane tries another end.
    let (mut wq, mut qq) = ([0f32; LANES], [0f32; LANES]);
    let all = super::inverse(totals.iter().sum::<f32>());
    for (scale, total) in scales.iter().zip(totals) {
        let (s, total) = (scale * inverse, if all > 0.0 { total * all } else { 1.0 });
        for lane in 0..LANES {
            let q = clamp(round(s * (end + 0.1 * (lane as f32 - 8.0))), low, high);
            let iq = total * q;
            wq[lane] += iq * s;
            qq[lane] += iq * q;
        }
    }
    let mut best = (0.0, 1.0);
    for lane in 0..LANES {
        if wq[lane] * wq[lane] * best.1 > best.0 * best.0 * qq[lane] {
            best = (wq[lane], qq[lane]);
        }
    }
    best.0 / best.1 * largest
}

/// Which of ascending levels is nearest to `x`, and that level.
#[inline(always)]
pub(super) fn nearest(x: f32, levels: &[f32]) -> (u8, f32) {
    let (mut at, mut level) = (0, levels[0]);
    for pair in levels.windows(2) {
        let above = 2.0 * x > pair[0] + pair[1];
        at += u8::from(above);
        level = if above { pair[1] } else { level };
    }
    (at, level)
}
