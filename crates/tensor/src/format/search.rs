//! Search of the scales of a sub-block by weighted least squares, for the formats with scales of scales.

/// How much an error at each weight counts: large weights matter more, small ones never nothing.
pub(super) fn importance<const N: usize>(weights: &[f32; N]) -> [f32; N] {
    let rms = (weights.iter().map(|w| w * w).sum::<f32>() / N as f32).sqrt();
    weights.map(|w| rms + w.abs())
}

/// The scale `d` that makes `d * q` fit `weights` best, with codes `q` in `low..=high` where `low` has the larger
/// magnitude. 0 when all weights are.
pub(super) fn symmetric<const N: usize>(weights: &[f32; N], low: f32, high: f32) -> f32 {
    let importance = importance(weights);
    let max = weights.iter().fold(0f32, |max, &w| if w.abs() > max.abs() { w } else { max });
    let mut best = (0.0, 0.0);
    for step in -9..=9 {
        let inverse = (low + 0.1 * step as f32) / max;
        if !inverse.is_finite() {
            return 0.0;
        }
        let (mut wq, mut qq) = (0.0, 0.0);
        for (&w, &i) in weights.iter().zip(&importance) {
            let q = (w * inverse).round().clamp(low, high);
            wq += i * w * q;
            qq += i * q * q;
        }
        // With the best scale wq / qq for these codes, the squared error falls by wq² / qq.
        if qq > 0.0 && wq * wq > best.0 * qq {
            best = (wq * wq / qq, wq / qq);
        }
    }
    best.1
}

/// The scale `d` and offset `m`, neither negative, that make `d * q - m` fit `weights` best, with codes `q` in
/// `0..=high`.
pub(super) fn offset<const N: usize>(weights: &[f32; N], high: f32) -> (f32, f32) {
    let importance = importance(weights);
    let max = weights.iter().fold(0f32, |max, &w| max.max(w));
    let min = weights.iter().fold(0f32, |min, &w| min.min(w));
    let mut best = (f32::INFINITY, 0.0, -min);
    for step in -10..=10 {
        let inverse = (high + 0.1 * step as f32) / (max - min);
        if !inverse.is_finite() {
            return (0.0, -min);
        }
        let codes = weights.map(|w| ((w - min) * inverse).round().clamp(0.0, high));
        let (d, m) = line(weights, &codes, &importance);
        let error = weights.iter().zip(&codes).zip(&importance).map(|((w, q), i)| i * (d * q - m - w).powi(2)).sum();
        if error < best.0 {
            best = (error, d, m);
        }
    }
    (best.1, best.2)
}

/// Weighted regression of `weights` on `codes`: `w ≈ d q - m`, with `m` held at 0 where it would be negative.
fn line(weights: &[f32], codes: &[f32], importance: &[f32]) -> (f32, f32) {
    let (mut n, mut q1, mut q2, mut w1, mut wq) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((&w, &q), &i) in weights.iter().zip(codes).zip(importance) {
        n += i;
        q1 += i * q;
        q2 += i * q * q;
        w1 += i * w;
        wq += i * w * q;
    }
    let determinant = n * q2 - q1 * q1;
    let m = if determinant > 0.0 { (q1 * wq - q2 * w1) / determinant } else { 0.0 };
    if m > 0.0 { ((n * wq - q1 * w1) / determinant, m) } else { (wq / q2, 0.0) }
}

/// The scale `d` that makes `d * level` fit `weights` best, with one of some ascending levels for each. 0 when all weights are.
pub(super) fn levels<const N: usize>(weights: &[f32; N], levels: &[i8; 16]) -> f32 {
    let importance = importance(weights);
    let max = weights.iter().fold(0f32, |max, &w| if w.abs() > max.abs() { w } else { max });
    let mut best = (0.0, 0.0);
    // The largest weight is near the first level or near the last.
    for end in [levels[0], levels[15]] {
        for step in -8..=8 {
            let inverse = f32::from(end) * (1.0 + 0.02 * step as f32) / max;
            if !inverse.is_finite() {
                return 0.0;
            }
            let (mut wq, mut qq) = (0.0, 0.0);
            for (&w, &i) in weights.iter().zip(&importance) {
                let q = f32::from(levels[nearest(w * inverse, levels)]);
                wq += i * w * q;
                qq += i * q * q;
            }
            if qq > 0.0 && wq * wq > best.0 * qq {
                best = (wq * wq / qq, wq / qq);
            }
        }
    }
    best.1
}

/// Which of some ascending levels is nearest to `x`.
pub(super) fn nearest(x: f32, levels: &[i8; 16]) -> usize {
    levels.windows(2).filter(|pair| 2.0 * x > f32::from(pair[0]) + f32::from(pair[1])).count()
}
