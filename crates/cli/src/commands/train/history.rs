//! The curve of a run: its losses and learning rates.

use trine::train::{Step, Validation};

/// What the smoothed loss keeps of its past at every step: it is a mean over some 10 steps.
const KEEP: f64 = 0.9;

/// A run so far.
#[derive(Default)]
pub struct History {
    pub points: Vec<Point>,
    /// Steps done, and the loss on documents that are not learned from.
    pub validations: Vec<(u64, f64)>,
    /// Weighted sum of losses, and of weights.
    sums: [f64; 2],
}

/// One step of a run.
pub struct Point {
    pub step: u64,
    pub loss: f64,
    /// Mean of it and of the losses before, of which the last count most.
    pub smooth: f64,
    pub learning_rate: f64,
}

impl History {
    /// Adds a step; one without a loss is left out.
    pub fn step(&mut self, step: &Step) {
        if step.loss.is_finite() {
            self.sums = [self.sums[0] * KEEP + step.loss, self.sums[1] * KEEP + 1.0];
            let smooth = self.sums[0] / self.sums[1];
            self.points.push(Point { step: step.step, loss: step.loss, smooth, learning_rate: step.learning_rate });
        }
    }

    /// Adds a validation.
    pub fn validation(&mut self, validation: &Validation) {
        if validation.loss.is_finite() {
            self.validations.push((validation.step, validation.loss));
        }
    }
}
