use super::TaskResult;
use serde::Serialize;

/// Two models at the same examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Paired {
    /// Examples that the first alone has right, and the second alone.
    pub only_first: usize,
    pub only_second: usize,
    /// Probability of so large a difference, if both models were equally good: McNemar's exact test, with two sides.
    pub p: f64,
}

/// Compares two models at the examples of a task.
///
/// # Panics
/// When they had different numbers of examples.
pub fn paired(first: &TaskResult, second: &TaskResult) -> Paired {
    assert_eq!(first.outcomes.len(), second.outcomes.len(), "the examples are the same");
    let pairs = || first.outcomes.iter().zip(&second.outcomes).map(|(a, b)| (a.correct, b.correct));
    let only_first = pairs().filter(|pair| *pair == (true, false)).count();
    let only_second = pairs().filter(|pair| *pair == (false, true)).count();
    Paired { only_first, only_second, p: mcnemar(only_first, only_second) }
}

/// Twice the probability that at most the smaller number of fair coins shows heads.
fn mcnemar(a: usize, b: usize) -> f64 {
    let (n, least) = (a + b, a.min(b));
    let half = -(n as f64) * std::f64::consts::LN_2;
    let (mut sum, mut log_choose) = (0.0, 0.0);
    for k in 0..=least {
        sum += f64::exp(log_choose + half);
        log_choose += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.binomtest(min(a, b), a + b).pvalue`.
    #[test]
    fn probabilities_are_those_of_scipy() {
        for (a, b, p) in
            [(0, 0, 1.0), (0, 1, 1.0), (1, 9, 0.021484375), (5, 15, 0.04138946533203125), (40, 60, 0.05688793364098078)]
        {
            assert!((mcnemar(a, b) / p - 1.0).abs() < 1e-9, "{a} {b}: {}", mcnemar(a, b));
        }
    }
}
