//! What is worse than it used to be.

use std::collections::VecDeque;

/// Minutes that are compared: those before are the usual ones.
const RECENT: usize = 3;
/// Minutes that are known before anything is unusual, and that are kept.
const USUAL: (usize, usize) = (10, 60);
/// Standard deviations from the mean that are unusual.
const DEVIATIONS: f64 = 4.0;

/// A figure minute by minute.
#[derive(Debug, Default)]
pub struct Baseline {
    minutes: VecDeque<f64>,
    alerted: bool,
}

/// A figure that is unusual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alert {
    /// The least of the last minutes.
    pub now: f64,
    /// The mean of those before.
    pub usual: f64,
}

impl Baseline {
    /// Adds a minute. An alert when the last three are all far above those before, once until they are not.
    pub fn push(&mut self, value: f64) -> Option<Alert> {
        self.minutes.push_back(value);
        if self.minutes.len() > USUAL.1 + RECENT {
            self.minutes.pop_front();
        }
        let known = self.minutes.len().checked_sub(RECENT).filter(|known| *known >= USUAL.0)?;
        let usual = self.minutes.iter().take(known);
        let mean = usual.clone().sum::<f64>() / known as f64;
        let deviation = (usual.map(|x| (x - mean).powi(2)).sum::<f64>() / known as f64).sqrt();
        let now = self.minutes.iter().skip(known).copied().fold(f64::INFINITY, f64::min);
        // What hardly varies is unusual at a tenth more.
        let unusual = now > mean + DEVIATIONS * deviation.max(mean * 0.025);
        let first = unusual && !self.alerted;
        self.alerted = unusual;
        first.then_some(Alert { now, usual: mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_is_no_alert_and_three_minutes_are_one() {
        let mut baseline = Baseline::default();
        let mut usual = (0..30).map(|i| 100.0 + f64::from(i % 5));
        assert!(usual.all(|value| baseline.push(value).is_none()));
        assert_eq!([1000.0, 101.0, 102.0, 100.0].map(|value| baseline.push(value)), [None; 4]);
        let mut worse = Baseline::default();
        (0..30).for_each(|i| assert_eq!(worse.push(100.0 + f64::from(i % 5)), None));
        let alerts = [400.0, 300.0, 500.0, 600.0].map(|value| worse.push(value));
        assert_eq!(alerts, [None, None, Some(Alert { now: 300.0, usual: 102.0 }), None]);
    }
}
