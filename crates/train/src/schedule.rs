//! How learning rate and weight decay change over a run.

use crate::config::{Optimizer, Schedule, Shape};
use std::f64::consts::PI;

impl Schedule {
    /// The learning rate of step `step` of `steps`, from 1.
    pub fn rate(&self, optimizer: &Optimizer, step: u64, steps: u64) -> f64 {
        let highest = optimizer.learning_rate;
        let warmup = self.warmup.unwrap_or((steps / 10).min(100));
        if step <= warmup {
            return highest * step as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        let share = match self.shape {
            Shape::Constant => return highest,
            Shape::Linear => 1.0 - done,
            Shape::Cosine => (1.0 + (PI * done).cos()) / 2.0,
            Shape::Wsd => ((1.0 - done) / self.decay.max(f64::MIN_POSITIVE)).min(1.0),
            Shape::TwoStage if self.is_second_stage(step, steps) => (1.0 - done) * 2.0 / 3.0,
            Shape::TwoStage => 1.0 - done,
        };
        highest * (self.end + (1.0 - self.end) * share.clamp(0.0, 1.0))
    }

    /// The weight decay of step `step` of `steps`.
    pub fn decay(&self, optimizer: &Optimizer, step: u64, steps: u64) -> f64 {
        if self.is_second_stage(step, steps) { 0.0 } else { optimizer.weight_decay }
    }

    fn is_second_stage(&self, step: u64, steps: u64) -> bool {
        self.shape == Shape::TwoStage && 2 * step > steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_papers() {
        let optimizer = Optimizer { learning_rate: 1.0, weight_decay: 0.1, ..Optimizer::default() };
        let check = |shape, step, expected: f64| {
            let schedule = Schedule { shape, warmup: Some(10), end: 0.0, decay: 0.2 };
            let found = schedule.rate(&optimizer, step, 110);
            assert!((found - expected).abs() < 1e-12, "{shape:?} at {step}: expected {expected}, found {found}");
        };
        for shape in [Shape::Constant, Shape::Linear, Shape::Cosine, Shape::Wsd, Shape::TwoStage] {
            check(shape, 1, 0.1);
            check(shape, 10, 1.0);
        }
        for (shape, middle, end) in
            [(Shape::Constant, 1.0, 1.0), (Shape::Linear, 0.5, 0.0), (Shape::Cosine, 0.5, 0.0), (Shape::Wsd, 1.0, 0.0)]
        {
            check(shape, 60, middle);
            check(shape, 110, end);
        }
        check(Shape::Wsd, 100, 0.5);
        check(Shape::TwoStage, 55, 0.55);
        check(Shape::TwoStage, 60, 1.0 / 3.0);
        let two = Schedule { shape: Shape::TwoStage, ..Schedule::default() };
        assert_eq!([two.decay(&optimizer, 55, 110), two.decay(&optimizer, 56, 110)], [0.1, 0.0]);
        let low = Schedule { end: 0.1, warmup: Some(0), ..Schedule::default() };
        assert!((low.rate(&optimizer, 100, 100) - 0.1).abs() < 1e-12);
    }
}
