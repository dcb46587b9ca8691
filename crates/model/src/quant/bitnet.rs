//! BitNet: ternary weights, four to a byte or in floats.

use crate::{Error, Result};
use trine_tensor::format::{F32, I2_S};
use trine_tensor::{Format, IntegerScheme, View};

/// Ternary weights, four to a byte: the byte at `[i, col]` of `[n, cols]` holds rows `i`, `i + n`, `i + 2n` and `i + 3n`, low bits first.
///
/// # Errors
/// When a code is 3.
pub fn unpack_trits(packed: &View, scale: f32) -> Result<Vec<f32>> {
    let mut weights = Vec::with_capacity(4 * packed.bytes.len());
    for quarter in 0..4 {
        for byte in packed.bytes.iter() {
            weights.push(match byte >> (2 * quarter) & 3 {
                0 => -scale,
                1 => 0.0,
                2 => scale,
                _ => return Err(Error::NotTernary { tensor: packed.name.clone() }),
            });
        }
    }
    Ok(weights)
}

/// The ternary weights of [`IntegerScheme::AbsMean`], times their scale.
///
/// # Errors
/// When a weight is not finite.
pub fn absmean(name: &str, mut weights: Vec<f32>) -> Result<Vec<f32>> {
    if let Some(&found) = weights.iter().find(|w| !w.is_finite()) {
        return Err(Error::BadWeight { tensor: name.to_owned(), expected: "finite weights", found });
    }
    let mut codes = vec![0; weights.len()];
    let (scale, _) = IntegerScheme::AbsMean.encode(&weights, &mut codes);
    weights.iter_mut().zip(codes).for_each(|(w, code)| *w = scale * f32::from(code));
    Ok(weights)
}

/// The format of ternary weights: I2_S, or F32 where rows are not whole blocks of it.
pub fn ternary_format(cols: usize) -> &'static Format {
    if cols.is_multiple_of(I2_S.block) { &I2_S } else { &F32 }
}

/// A matrix in [`ternary_format`].
pub fn ternary(name: &str, rows: usize, cols: usize, weights: Vec<f32>) -> Result<View> {
    let format = ternary_format(cols);
    Ok(View::new(name, format, vec![rows, cols], format.encode(&weights))?)
}
