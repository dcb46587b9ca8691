//! The loss scale: keeps float16 gradients from vanishing (mixed precision training, arXiv:1710.03740).

use crate::config::{LossScale, LossScaleKind};
use serde::{Deserialize, Serialize};

/// A dynamic scale this small is not why gradients overflow: the smallest normal float16 number.
const MIN_SCALE: f64 = 1.0 / 16384.0;
/// Overflows in a row after which a static scale is not going to work: as many as take a dynamic scale from its default to [`MIN_SCALE`].
const MAX_OVERFLOWS: u64 = 30;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// The factor of the loss in this step.
    pub scale: f64,
    /// Steps since the scale changed.
    pub steps: u64,
    /// Steps in a row whose gradients overflowed.
    #[serde(default)]
    pub overflows: u64,
}

impl Scaler {
    /// None where the loss is not scaled.
    pub fn new(config: &LossScale) -> Option<Scaler> {
        (config.kind != LossScaleKind::None).then_some(Scaler { scale: config.initial, steps: 0, overflows: 0 })
    }

    /// Whether another overflow means that no scale will do.
    pub fn is_exhausted(&self, config: &LossScale) -> bool {
        match config.kind {
            LossScaleKind::Dynamic if config.backoff < 1.0 => self.scale < MIN_SCALE,
            _ => self.overflows >= MAX_OVERFLOWS,
        }
    }

    /// Adjusts the scale after a step whose gradients were finite, or overflowed.
    pub fn update(&mut self, config: &LossScale, finite: bool) {
        self.steps += 1;
        self.overflows = if finite { 0 } else { self.overflows + 1 };
        let factor = match finite {
            _ if config.kind != LossScaleKind::Dynamic => return,
            false => config.backoff,
            true if self.steps >= config.growth_interval => config.growth,
            true => return,
        };
        self.scale *= factor;
        self.steps = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_at_an_overflow_and_doubles_after_two_thousand_steps() {
        let config = LossScale::default();
        let mut scaler = Scaler::new(&config).unwrap();
        scaler.update(&config, false);
        assert_eq!(scaler.scale, 32768.0);
        for _ in 0..1999 {
            scaler.update(&config, true);
        }
        assert_eq!(scaler.scale, 32768.0);
        scaler.update(&config, true);
        assert_eq!(scaler, Scaler { scale: 65536.0, steps: 0, overflows: 0 });
    }

    #[test]
    fn a_static_scale_never_changes() {
        let config = LossScale { kind: LossScaleKind::Static, growth_interval: 2, ..LossScale::default() };
        let mut scaler = Scaler::new(&config).unwrap();
        for _ in 0..MAX_OVERFLOWS {
            assert!(!scaler.is_exhausted(&config));
            scaler.update(&config, false);
            assert_eq!(scaler.scale, config.initial);
        }
        assert!(scaler.is_exhausted(&config));
        for _ in 0..5 {
            scaler.update(&config, true);
            assert!(scaler.scale == config.initial && !scaler.is_exhausted(&config));
        }
    }

    #[test]
    fn without_a_scale_there_is_nothing_to_adjust() {
        let config = LossScale { kind: LossScaleKind::None, ..LossScale::default() };
        assert_eq!(Scaler::new(&config), None);
    }

    #[test]
    fn a_scale_that_only_grows_gives_up_in_the_end() {
        let config = LossScale { backoff: 1.0, ..LossScale::default() };
        let mut scaler = Scaler::new(&config).unwrap();
        (0..MAX_OVERFLOWS).for_each(|_| scaler.update(&config, false));
        assert!(scaler.scale == config.initial && scaler.is_exhausted(&config));
    }
}
