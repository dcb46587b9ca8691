//! The losses and learning rates of a run.

use trine_train::{StepMetrics, Validation};

/// Decay rate of the smoothed loss: an average over about 10 steps.
const DECAY: f64 = 0.9;

/// The curve of a run so far.
#[derive(Default)]
pub struct LossCurve {
    pub points: Vec<Point>,
    /// Steps, and the losses of their validations.
    pub validations: Vec<(u64, f64)>,
    /// The decaying sums of losses and of their weights.
    sums: [f64; 2],
}

pub struct Point {
    pub step: u64,
    pub loss: f64,
    /// The exponential moving average of losses.
    pub smooth: f64,
    pub learning_rate: f64,
}

impl LossCurve {
    /// Adds a step, unless its loss is not finite.
    pub fn step(&mut self, step: &StepMetrics) {
        if step.loss.is_finite() {
            self.sums = [self.sums[0] * DECAY + step.loss, self.sums[1] * DECAY + 1.0];
            let smooth = self.sums[0] / self.sums[1];
            self.points.push(Point { step: step.step, loss: step.loss, smooth, learning_rate: step.learning_rate });
        }
    }

    /// Adds a validation, unless its loss is not finite.
    pub fn validation(&mut self, validation: &Validation) {
        if validation.loss.is_finite() {
            self.validations.push((validation.step, validation.loss));
        }
    }
}
