//! How much measurements vary.

use serde::{Deserialize, Serialize};

/// Mean, standard deviation and percentiles of a set of numbers, percentiles with linear interpolation as NumPy has them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub mean: f64,
    /// Of the population, as NumPy's `std`: 0 for one number.
    pub sd: f64,
    /// The standard deviation over the mean; `None` where the mean is 0.
    pub cv: Option<f64>,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
}

impl Spread {
    /// Of these numbers; `None` without any.
    pub fn of(numbers: &[f64]) -> Option<Spread> {
        let n = numbers.len().checked_sub(1)?;
        let mut sorted = numbers.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len() as f64;
        let mean = sorted.iter().sum::<f64>() / count;
        let sd = (sorted.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count).sqrt();
        let percentile = |p: f64| {
            let at = p * n as f64;
            let (low, high) = (sorted[at as usize], sorted[(at as usize + 1).min(n)]);
            low + (high - low) * at.fract()
        };
        let [p50, p95, p99] = [0.5, 0.95, 0.99].map(percentile);
        Some(Spread { mean, sd, cv: (mean != 0.0).then(|| sd / mean.abs()), p50, p95, p99 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_those_of_numpy() {
        assert_eq!(Spread::of(&[]), None);
        let found = Spread::of(&[4.0, 1.0, 2.0, 10.0]).unwrap();
        let expected = [4.25, 3.491_060_010_942_235, 3.0, 9.1, 9.82];
        let all = [found.mean, found.sd, found.p50, found.p95, found.p99];
        assert!(all.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        assert_eq!(found.cv, Some(found.sd / 4.25));
        assert_eq!(Spread::of(&[0.0]).unwrap().cv, None);
    }
}
