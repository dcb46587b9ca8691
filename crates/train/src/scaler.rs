//! A scale that keeps half-precision gradients from vanishing (arXiv:1710.03740).

use crate::config::LossScale;
use serde::{Deserialize, Serialize};

/// A scale so small that it is not what gradients overflow by: half precision's smallest normal number.
const LEAST: f64 = 1.0 / 16384.0;

/// What the loss is multiplied by now.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scaler {
    /// It.
    pub scale: f64,
    /// Steps since it changed.
    pub steps: u64,
}

impl Scaler {
    /// As it begins.
    pub fn new(config: &LossScale) -> Scaler {
        Scaler { scale: config.initial, steps: 0 }
    }

    /// Whether no scale will do.
    pub fn is_lost(&self) -> bool {
        self.scale < LEAST
    }

    /// Learns whether the gradients of a step were finite: grows after many that were, and shrinks after one that was not.
    pub fn update(&mut self, config: &LossScale, finite: bool) {
        self.steps += 1;
        let factor = match finite {
            false => config.backoff,
            true if self.steps >= config.growth_interval => config.growth,
            true => return,
        };
        *self = Scaler { scale: self.scale * factor, steps: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_halves_at_an_overflow_and_doubles_after_two_thousand_steps() {
        let config = LossScale::default();
        let mut scaler = Scaler::new(&config);
        scaler.update(&config, false);
        assert_eq!(scaler.scale, 32768.0);
        for _ in 0..1999 {
            scaler.update(&config, true);
        }
        assert_eq!(scaler.scale, 32768.0);
        scaler.update(&config, true);
        assert_eq!(scaler, Scaler { scale: 65536.0, steps: 0 });
    }
}
