//! What encoding loses: whether encoded weights are still those that they were made of.

use super::Format;
use crate::{Error, Result, TensorInfo, View};
use std::ops::ControlFlow;

/// The root mean square error of a tensor, as a share of its root mean square, that is no rounding but damage. A rounded Gaussian is several
/// times closer in every format.
fn limit(format: &Format) -> f64 {
    (8.0 * (-format.bits_per_weight()).exp2()).clamp(0.01, 0.9)
}

/// The largest magnitude that a block format can hold.
fn largest(format: &'static Format) -> Result<f32> {
    if format.block == 1 || format.encodes_trits() {
        return Ok(f32::MAX);
    }
    let info = TensorInfo { name: String::new(), format, shape: vec![1, format.block] };
    let held = |every: usize| {
        let weights: Vec<f32> = (0..format.block).map(|i| if i % every == 0 { f32::MAX } else { 0.0 }).collect();
        let held = View::new("", format, info.shape.clone(), info.encode(&weights)?)?.decode();
        Ok::<_, Error>(super::abs_max(&held))
    };
    Ok(f32::min(held(1)?, held(2)?))
}

impl View {
    /// Checks that these are the weights that were encoded, rounded as the format does: finite, none beyond its range, and near. `proceed` is
    /// asked after each row, and may break off: then nothing is known.
    ///
    /// # Errors
    /// [`Error::Lossy`] when they are not.
    ///
    /// # Panics
    /// When there is another number of weights.
    pub fn check_encoded(
        &self,
        weights: &[f32],
        proceed: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>> {
        let (view, cols) = (self.by_rows(), self.cols());
        assert_eq!(weights.len(), self.rows() * cols, "tensor {:?}", self.name);
        let (most, mut row) = (largest(self.format)?, vec![0.0; cols]);
        let (mut squares, mut errors) = (0.0, 0.0);
        let mut worst = (0.0, 0.0, 0.0);
        let lossy = |weight, encoded| {
            let (tensor, format) = (self.name.clone(), self.format.name);
            Error::Lossy { tensor, format, weight, encoded }
        };
        for (i, weights) in weights.chunks_exact(cols).enumerate() {
            view.decode_row(i, &mut row);
            for (&weight, &encoded) in weights.iter().zip(&row) {
                let error = f64::from(weight) - f64::from(encoded);
                if !error.is_finite() || weight.abs() > most {
                    return Err(lossy(weight, encoded));
                }
                squares += f64::from(weight).powi(2);
                errors += error * error;
                if error.abs() > worst.0 {
                    worst = (error.abs(), weight, encoded);
                }
            }
            if proceed().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if errors.sqrt() > limit(self.format) * squares.sqrt() {
            return Err(lossy(worst.1, worst.2));
        }
        Ok(ControlFlow::Continue(()))
    }
}
