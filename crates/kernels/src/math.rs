//! What kernels share: loads and stores of parts of vectors, sums in the canonical order, exponentials.

use crate::simd::{LANES, Simd};
use std::ops::Range;

/// Up to 16 floats, then zeros.
#[inline(always)]
pub(crate) fn load_padded<S: Simd>(simd: S, x: &[f32]) -> S::F {
    let mut all = [0.0; LANES];
    all[..x.len()].copy_from_slice(x);
    simd.load(&all)
}

/// The ranges of the vectors of a row of `len` floats; the last may be shorter.
#[inline(always)]
pub(crate) fn vectors(len: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(LANES).map(move |at| at..len.min(at + LANES))
}

/// As [`load_padded`], for one of [`vectors`]: mostly a whole one.
#[inline(always)]
pub(crate) fn load_tail<S: Simd>(simd: S, x: &[f32]) -> S::F {
    if x.len() == LANES { simd.load(x) } else { load_padded(simd, x) }
}

/// Stores as many lanes as `out` is long.
#[inline(always)]
pub(crate) fn store_tail<S: Simd>(simd: S, x: S::F, out: &mut [f32]) {
    if out.len() == LANES {
        return simd.store(x, out);
    }
    let mut all = [0.0; LANES];
    simd.store(x, &mut all);
    out.copy_from_slice(&all[..out.len()]);
}

/// `a · b` in the canonical order.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = simd.splat(0.0);
    let whole = a.len() - a.len() % LANES;
    for i in (0..whole).step_by(LANES) {
        sum = simd.fma(simd.load(&a[i..]), simd.load(&b[i..]), sum);
    }
    if whole < a.len() {
        sum = simd.fma(load_padded(simd, &a[whole..]), load_padded(simd, &b[whole..a.len()]), sum);
    }
    simd.reduce_sum(sum)
}

/// The sum of all elements, in 16 lanes and their tree.
#[inline(always)]
pub(crate) fn sum<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let mut sum = simd.splat(0.0);
    for part in x.chunks(LANES) {
        sum = simd.add(sum, load_padded(simd, part));
    }
    simd.reduce_sum(sum)
}

/// `[n, r, q]` with `e^x = 2^n (q r + 1)`, for the nearest `x` in -87..=88; NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and Cody and Waite's split of `ln 2`, so that `r` is exact; `e^r` by its
/// Taylor series to the seventh power, whose remainder is below half a unit of the last place.
#[inline(always)]
fn exponential<S: Simd>(simd: S, x: S::F) -> [S::F; 3] {
    // In this order of operands the comparisons let NaN through.
    let x = simd.max(simd.splat(-87.0), simd.min(simd.splat(88.0), x));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.fma(n, simd.splat(-0.693_359_4), x);
    let r = simd.fma(n, simd.splat(2.121_944_4e-4), r);
    let mut q = simd.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        q = simd.fma(q, r, simd.splat(c));
    }
    [n, r, q]
}

/// `e^x` within 2 units of the last place; `e^-87` and `e^88` beyond them; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    let [n, r, q] = exponential(simd, x);
    simd.mul(simd.fma(q, r, simd.splat(1.0)), simd.exp2(n))
}

/// `tanh x` within 2 units of the last place; odd, bit for bit but for the sign of zero; NaN stays NaN.
///
/// `t / (t + 2)` with `t = e^2|x| - 1`, which loses nothing near zero since it is not computed from the power.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(simd: S, x: S::F) -> S::F {
    let twice = simd.add(x, x);
    let [n, r, q] = exponential(simd, simd.abs(twice));
    let power = simd.exp2(n);
    let t = simd.fma(simd.mul(q, r), power, simd.sub(power, simd.splat(1.0)));
    let y = simd.div(t, simd.add(t, simd.splat(2.0)));
    // The sign: twice `x` is beyond `y` on its own side.
    simd.max(simd.min(twice, y), simd.sub(simd.splat(0.0), y))
}

/// `erf x` within 3 units of the last place of 1; odd; NaN stays NaN.
///
/// A quotient of polynomials on -4..=4, beyond which it is 1 in single precision; its coefficients
/// are those that Eigen and XLA use.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::F) -> S::F {
    let x = simd.max(simd.splat(-4.0), simd.min(simd.splat(4.0), x));
    let square = simd.mul(x, x);
    let mut p = simd.splat(-2.726_142_3e-10);
    for c in [2.770_681_2e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906_5e-4, -2.954_6e-3, -1.609_603_3e-2] {
        p = simd.fma(p, square, simd.splat(c));
    }
    let mut q = simd.splat(-1.456_607_2e-5);
    for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
        q = simd.fma(q, square, simd.splat(c));
    }
    simd.div(simd.mul(x, p), q)
}

/// `1 + e^-x`.
#[inline(always)]
pub(crate) fn one_plus_exp_neg<S: Simd>(simd: S, x: S::F) -> S::F {
    simd.add(simd.splat(1.0), exp(simd, simd.sub(simd.splat(0.0), x)))
}

#[cfg(test)]
mod tests {
    use crate::simd::LANES;
    use crate::simd::scalar::Scalar;

    #[test]
    fn erf_is_within_three_units_of_the_last_place_of_one_and_odd() {
        let erf = |x: f32| super::erf(Scalar, [x; LANES])[0];
        for bits in (0..f32::INFINITY.to_bits()).step_by(162_143).chain([f32::INFINITY.to_bits()]) {
            let x = f32::from_bits(bits);
            let (found, exact) = (erf(x), libm::erf(x as f64));
            assert!((found as f64 - exact).abs() <= 3.0 * f32::EPSILON as f64, "{found} for {exact}");
            assert_eq!(erf(-x), -found, "{x}");
        }
        assert!(erf(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_is_within_two_units_of_the_last_place_and_odd() {
        let tanh = |x: f32| super::tanh(Scalar, [x; LANES])[0];
        // Every magnitude: each step is a 50th or so of the number.
        for bits in (0..f32::INFINITY.to_bits()).step_by(162_143).chain([f32::INFINITY.to_bits()]) {
            let x = f32::from_bits(bits);
            let (found, exact) = (tanh(x), (x as f64).tanh());
            let unit = (exact * f32::EPSILON as f64).max(f32::from_bits(1) as f64);
            assert!((found as f64 - exact).abs() <= 2.0 * unit && found <= 1.0, "{found} for {exact}");
            assert_eq!(tanh(-x), -found, "{x}");
        }
        assert!(tanh(f32::NAN).is_nan());
    }
}
