//! The learning rate and weight decay over the updates of a run.

use crate::config::{OptimizerConfig, ScheduleConfig, ScheduleShape};
use std::f64::consts::PI;

impl ScheduleConfig {
    /// The learning rate of update `step` of `steps`, counted from 1.
    pub fn rate(&self, optimizer: &OptimizerConfig, step: u64, steps: u64) -> f64 {
        let highest = optimizer.learning_rate;
        let warmup = self.warmup.unwrap_or((steps / 10).min(100));
        if step <= warmup {
            return highest * step as f64 / warmup as f64;
        }
        let done = (step - warmup) as f64 / steps.saturating_sub(warmup).max(1) as f64;
        let share = match self.shape {
            ScheduleShape::Constant => return highest,
            ScheduleShape::Linear => 1.0 - done,
            ScheduleShape::Cosine => (1.0 + (PI * done).cos()) / 2.0,
            ScheduleShape::Wsd => ((1.0 - done) / self.decay.max(f64::MIN_POSITIVE)).min(1.0),
            ScheduleShape::TwoStage if self.is_second_stage(step, steps) => (1.0 - done) * 2.0 / 3.0,
            ScheduleShape::TwoStage => 1.0 - done,
        };
        highest * (self.end + (1.0 - self.end) * share.clamp(0.0, 1.0))
    }

    /// The weight decay of update `step` of `steps`, counted from 1.
    pub fn decay(&self, optimizer: &OptimizerConfig, step: u64, steps: u64) -> f64 {
        if self.is_second_stage(step, steps) { 0.0 } else { optimizer.weight_decay }
    }

    fn is_second_stage(&self, step: u64, steps: u64) -> bool {
        self.shape == ScheduleShape::TwoStage && 2 * step > steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_papers() {
        let optimizer = OptimizerConfig { learning_rate: 1.0, weight_decay: 0.1, ..OptimizerConfig::default() };
        let check = |shape, step, expected: f64| {
            let schedule = ScheduleConfig { shape, warmup: Some(10), end: 0.0, decay: 0.2 };
            let found = schedule.rate(&optimizer, step, 110);
            assert!((found - expected).abs() < 1e-12, "{shape:?} at {step}: expected {expected}, found {found}");
        };
        for shape in [
            ScheduleShape::Constant,
            ScheduleShape::Linear,
            ScheduleShape::Cosine,
            ScheduleShape::Wsd,
            ScheduleShape::TwoStage,
        ] {
            check(shape, 1, 0.1);
            check(shape, 10, 1.0);
        }
        for (shape, middle, end) in [
            (ScheduleShape::Constant, 1.0, 1.0),
            (ScheduleShape::Linear, 0.5, 0.0),
            (ScheduleShape::Cosine, 0.5, 0.0),
            (ScheduleShape::Wsd, 1.0, 0.0),
        ] {
            check(shape, 60, middle);
            check(shape, 110, end);
        }
        check(ScheduleShape::Wsd, 100, 0.5);
        check(ScheduleShape::TwoStage, 55, 0.55);
        check(ScheduleShape::TwoStage, 60, 1.0 / 3.0);
        let two = ScheduleConfig { shape: ScheduleShape::TwoStage, ..ScheduleConfig::default() };
        assert_eq!([two.decay(&optimizer, 55, 110), two.decay(&optimizer, 56, 110)], [0.1, 0.0]);
        let low = ScheduleConfig { end: 0.1, warmup: Some(0), ..ScheduleConfig::default() };
        assert!((low.rate(&optimizer, 100, 100) - 0.1).abs() < 1e-12);
    }
}
