//! What encoding loses: whether encoded weights are still those that they were made of.

use super::Format;
use crate::{Error, Result, TensorInfo, View};
use std::ops::ControlFlow;

/// The root mean square error of a tensor, as a share of its root mean square, that is no rounding but damage. A rounded Gaussian is several
/// times closer in every format.
fn limit(format: &Format) -> f64 {
    (8.0 * (-format.bits_per_weight()).exp2()).clamp(0.01, 0.9)
}

impl Format {
    /// The largest magnitude that the format can hold; for those without blocks, and ternary ones, that of `f32`.
    ///
    /// # Panics
    /// When the format is a program's own, and its functions panic.
    pub fn largest(&'static self) -> f32 {
        if self.block == 1 || self.encodes_trits() || self.matrix_layout().is_some() {
            return f32::MAX;
        }
        let held = |every: usize| {
            let weights: Vec<f32> = (0..self.block).map(|i| if i % every == 0 { f32::MAX } else { 0.0 }).collect();
            let (bytes, mut again) = (self.encode(&weights), vec![0.0; self.block]);
            let (row, tail) = bytes.split_at(bytes.len() - self.tail);
            (self.decode)(row, tail, &mut again);
            super::abs_max(&again)
        };
        f32::min(held(1), held(2))
    }
}

/// What encoding lost of some weights of a tensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    squares: f64,
    errors: f64,
    largest: f32,
    /// The largest error, the weight that has it, and what it became. The error is infinite if either of the two is not finite.
    worst: (f32, f32, f32),
}

/// Sums that are added at once.
const LANES: usize = 16;

impl Loss {
    /// Adds weights and what they became.
    ///
    /// # Panics
    /// When these are not as many.
    pub fn add(&mut self, weights: &[f32], encoded: &[f32]) {
        assert_eq!(weights.len(), encoded.len(), "weights and what they became");
        let (mut squares, mut errors) = ([0f64; LANES], [0f64; LANES]);
        let (mut largest, mut worst) = ([0f32; LANES], [0f32; LANES]);
        let (some, rest) = weights.as_chunks::<LANES>();
        let (some_encoded, rest_encoded) = encoded.as_chunks::<LANES>();
        let mut each = |i: usize, weight: f32, encoded: f32| {
            let error = (weight - encoded).abs();
            squares[i] += f64::from(weight) * f64::from(weight);
            errors[i] += f64::from(error) * f64::from(error);
            largest[i] = largest[i].max(weight.abs());
            worst[i] = worst[i].max(error);
        };
        for (weights, encoded) in some.iter().zip(some_encoded) {
            for i in 0..LANES {
                each(i, weights[i], encoded[i]);
            }
        }
        rest.iter().zip(rest_encoded).enumerate().for_each(|(i, (&weight, &encoded))| each(i, weight, encoded));
        let errors = errors.iter().sum::<f64>();
        let most = |lanes: [f32; LANES]| lanes.into_iter().fold(0f32, f32::max);
        let error_of = |(&weight, &encoded): (&f32, &f32)| match (weight - encoded).abs() {
            error if error.is_finite() => (error, weight, encoded),
            _ => (f32::INFINITY, weight, encoded),
        };
        let error = if errors.is_finite() { most(worst) } else { f32::INFINITY };
        if error > self.worst.0 {
            let mut pairs = weights.iter().zip(encoded).map(error_of);
            self.worst = pairs.find(|pair| pair.0 >= error).unwrap_or(self.worst);
        }
        self.squares += squares.iter().sum::<f64>();
        self.errors += errors;
        self.largest = self.largest.max(most(largest));
    }

    /// Adds what was lost of weights that follow these.
    pub fn merge(&mut self, other: Loss) {
        self.squares += other.squares;
        self.errors += other.errors;
        self.largest = self.largest.max(other.largest);
        if other.worst.0 > self.worst.0 {
            self.worst = other.worst;
        }
    }

    /// The largest magnitude of the weights.
    pub fn largest(&self) -> f32 {
        self.largest
    }

    /// The weight that changed most, and what it became.
    pub fn worst(&self) -> (f32, f32) {
        (self.worst.1, self.worst.2)
    }

    /// The root mean square of what the weights changed by, as a share of their root mean square.
    pub fn relative(&self) -> f64 {
        if self.errors == 0.0 { 0.0 } else { (self.errors / self.squares).sqrt() }
    }

    /// Whether the weights are still those that they were, rounded as a format does: finite, none beyond `largest`, its [`Format::largest`], and
    /// near.
    pub fn is_rounding(&self, format: &Format, largest: f32) -> bool {
        let fine = self.errors.is_finite() && self.largest <= largest;
        fine && self.errors.sqrt() <= limit(format) * self.squares.sqrt()
    }

    /// Whether the weights are ternary: none is further from what became of it than half precision rounds the largest.
    pub fn is_ternary(&self) -> bool {
        (self.worst.1 - self.worst.2).abs() <= self.largest / 2048.0
    }

    /// Checks that the weights, all of the tensor `info`, are still those that they were: finite, none beyond the range of the format, and near.
    ///
    /// # Errors
    /// [`Error::Lossy`] when they are not.
    pub fn check(&self, info: &TensorInfo) -> Result<()> {
        if self.is_rounding(info.format, info.format.largest()) {
            return Ok(());
        }
        let (weight, encoded) = self.worst();
        Err(Error::Lossy { tensor: info.name.clone(), format: info.format.name, weight, encoded })
    }
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
        let (mut loss, mut row) = (Loss::default(), vec![0.0; cols]);
        for (i, weights) in weights.chunks_exact(cols).enumerate() {
            view.decode_row(i, &mut row);
            loss.add(weights, &row);
            if proceed().is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        loss.check(&self.info())?;
        Ok(ControlFlow::Continue(()))
    }
}
