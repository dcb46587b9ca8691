//! Weights as integers of 8 bits with their scales beside them, as integer kernels of other programs take them:
//! `w = scale * (code - zero_point)`.

use super::{abs_max, finite};

/// How integers are chosen for weights that share a scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntegerScheme {
    /// Ternary, as BitNet b1.58 defines it (arXiv:2402.17764, section 2): -1, 0 or 1, the nearest to `w / mean|w|`. The mean counts as 1e-5 at
    /// least.
    AbsMean,
    /// Symmetric: the nearest of -127 to 127 to `w * 127 / max|w|` (arXiv:2208.07339, section 2).
    AbsMax,
    /// Asymmetric: the 256 codes of a byte from the smallest weight to the largest, among them one for 0 (arXiv:1712.05877, section 2).
    ZeroPoint,
}

/// Weights as integers. The buffers are reused from one quantization to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quantized {
    /// One for each weight.
    pub codes: Vec<i8>,
    /// One for each group of weights.
    pub scales: Vec<f32>,
    /// As many as scales for [`IntegerScheme::ZeroPoint`], else none: all are 0.
    pub zero_points: Vec<i8>,
    /// Weights that share a scale.
    pub group: usize,
}

impl Quantized {
    /// Writes the weights that these integers stand for to `out`.
    ///
    /// # Panics
    /// When `out` has another length than there are codes.
    pub fn dequantize(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.codes.len(), "a weight for each code");
        let groups = self.codes.chunks(self.group.max(1)).zip(out.chunks_mut(self.group.max(1)));
        for (i, (codes, out)) in groups.enumerate() {
            let (scale, zero) = (self.scales[i], self.zero_points.get(i).copied().unwrap_or(0));
            for (&code, w) in codes.iter().zip(out) {
                *w = scale * (i32::from(code) - i32::from(zero)) as f32;
            }
        }
    }
}

/// No weight counts as larger, so that no product with a rounded scale is infinite.
const MOST: f32 = 3.4e38;

impl IntegerScheme {
    /// Writes the codes of weights that share a scale, one for each; returns that scale, and the zero point. A NaN counts as 0.
    ///
    /// # Panics
    /// When there are fewer codes than weights.
    #[inline(always)]
    pub fn encode(self, weights: &[f32], codes: &mut [i8]) -> (f32, i8) {
        let codes = &mut codes[..weights.len()];
        match self {
            IntegerScheme::AbsMean => {
                let sum = weights.iter().map(|&w| f64::from(finite(w).abs())).sum::<f64>();
                let inverse = 1.0 / (sum / weights.len().max(1) as f64).max(1e-5) as f32;
                for (&w, code) in weights.iter().zip(codes) {
                    *code = (finite(w) * inverse).round_ties_even().clamp(-1.0, 1.0) as i8;
                }
                (1.0 / inverse, 0)
            }
            IntegerScheme::AbsMax => {
                let scale = abs_max(weights).min(MOST) / 127.0;
                // The scale of numbers near the smallest there are may be zero.
                let divisor = if scale > 0.0 { scale } else { 1.0 };
                for (&w, code) in weights.iter().zip(codes) {
                    *code = (finite(w) / divisor).round_ties_even().clamp(-127.0, 127.0) as i8;
                }
                (scale, 0)
            }
            IntegerScheme::ZeroPoint => {
                let ends = weights.iter().map(|&w| finite(w).clamp(-MOST, MOST));
                let (min, max) = ends.fold((0f32, 0f32), |(min, max), w| (min.min(w), max.max(w)));
                let scale = max / 255.0 - min / 255.0;
                let divisor = if scale > 0.0 { scale } else { 1.0 };
                let zero = (-128.0 - min / divisor).round_ties_even().clamp(-128.0, 127.0);
                for (&w, code) in weights.iter().zip(codes) {
                    *code = ((finite(w) / divisor).round_ties_even() + zero).clamp(-128.0, 127.0) as i8;
                }
                (scale, zero as i8)
            }
        }
    }
}
