//! Statistics of few samples from unknown distributions.

/// How sure an interval should be.
const CONFIDENCE: f64 = 0.95;

/// A median and where it may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The median of the samples.
    pub median: f64,
    /// The least that it may be.
    pub low: f64,
    pub high: f64,
    /// How often such an interval has the true median: at least 0.95 where the samples are enough for that.
    pub confidence: f64,
}

/// The median and its interval between two order statistics, whose confidence follows from the binomial distribution whatever the samples'
/// is. `None` without samples.
pub fn median_interval(samples: &[f64]) -> Option<Interval> {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let n = sorted.len();
    let median = median(&sorted)?;
    // Outside `sorted[k]..=sorted[n - 1 - k]`: the probability that at most k of n fall on one side of the median, twice.
    let (mut outside, mut term) = (0.0, 0.5f64.powi(n as i32));
    let mut best = (0, 1.0 - 2.0 * term);
    for k in 0..n.div_ceil(2) {
        outside += term;
        term *= (n - k) as f64 / (k + 1) as f64;
        if 1.0 - 2.0 * outside >= CONFIDENCE {
            best = (k, 1.0 - 2.0 * outside);
        }
    }
    let (k, confidence) = best;
    Some(Interval { median, low: sorted[k], high: sorted[n - 1 - k], confidence })
}

/// The median of sorted numbers.
fn median(sorted: &[f64]) -> Option<f64> {
    let n = sorted.len();
    (n > 0).then(|| (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0)
}

/// By which factor the numbers of one group exceed those of another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The median of all quotients between the groups (Hodges and Lehmann 1963, on logarithms).
    pub ratio: f64,
    /// Where it may lie, at 95 %: the quotients that the test below would not reject. `None` where the samples are too few to reject any.
    pub interval: Option<(f64, f64)>,
    /// Probability of groups that differ so much or more when there is no difference: the two-sided test of Mann and Whitney 1947, exact, ties
    /// included.
    pub p: f64,
}

/// Compares two groups of positive numbers: `a` over `b`. `None` when one is empty.
pub fn shift(a: &[f64], b: &[f64]) -> Option<Shift> {
    let mut quotients: Vec<f64> = a.iter().flat_map(|a| b.iter().map(move |b| (a / b).ln())).collect();
    quotients.sort_unstable_by(f64::total_cmp);
    let ratio = median(&quotients)?.exp();
    let plain: Vec<f64> = (0..a.len() + b.len()).map(|rank| 2.0 * (rank + 1) as f64).collect();
    let chances = rank_sums(&plain, a.len());
    // The smallest sum of `a`'s doubled ranks is n (n + 1); each pair of which `a` is the larger adds 2.
    let least = a.len() * (a.len() + 1);
    let mut below = 0.0;
    let mut reject = 0;
    for u in 0..=a.len() * b.len() {
        below += chances[least + 2 * u];
        if 2.0 * below > 1.0 - CONFIDENCE {
            break;
        }
        reject = u + 1;
    }
    let interval = (reject > 0).then(|| (quotients[reject - 1].exp(), quotients[quotients.len() - reject].exp()));
    Some(Shift { ratio, interval, p: mann_whitney(a, b) })
}

/// The two-sided probability of the ranks of `a` among all.
fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = a.iter().map(|&x| (x, true)).chain(b.iter().map(|&x| (x, false))).collect();
    all.sort_unstable_by(|x, y| x.0.total_cmp(&y.0));
    // Doubled, so that shared ranks are whole numbers.
    let ranks: Vec<f64> = all
        .iter()
        .map(|x| {
            let first = all.partition_point(|y| y.0 < x.0);
            let last = all.partition_point(|y| y.0 <= x.0);
            (first + last + 1) as f64
        })
        .collect();
    let observed: f64 = all.iter().zip(&ranks).filter(|(x, _)| x.1).map(|(_, rank)| rank).sum();
    let chances = rank_sums(&ranks, a.len());
    let expected = ranks.iter().sum::<f64>() * a.len() as f64 / all.len() as f64;
    let as_far = |&(sum, _): &(usize, &f64)| (sum as f64 - expected).abs() >= (observed - expected).abs() - 1e-9;
    chances.iter().enumerate().filter(as_far).map(|(_, chance)| chance).sum::<f64>().min(1.0)
}

/// The two-sided probability of such quotients of pairs, or of some that are further from 1, when both of a pair have the same distribution: the
/// signed-rank test of Wilcoxon 1945 on logarithms, exact, ties included. Quotients of 1 tell nothing; `None` without others.
pub fn signed_rank(quotients: &[f64]) -> Option<f64> {
    let mut logs: Vec<f64> = quotients.iter().map(|quotient| quotient.ln()).filter(|log| *log != 0.0).collect();
    logs.sort_unstable_by(|a, b| a.abs().total_cmp(&b.abs()));
    // Doubled, so that shared ranks are whole numbers.
    let rank = |log: &f64| {
        let first = logs.partition_point(|other| other.abs() < log.abs());
        let last = logs.partition_point(|other| other.abs() <= log.abs());
        first + last + 1
    };
    let ranks: Vec<usize> = logs.iter().map(rank).collect();
    let positive: usize = logs.iter().zip(&ranks).filter(|(log, _)| **log > 0.0).map(|(_, rank)| rank).sum();
    // The probability of each sum of positive ranks, when every sign is a toss.
    let mut chances = vec![1.0];
    for &rank in &ranks {
        let mut next = vec![0.0; chances.len() + rank];
        for (sum, chance) in chances.iter().enumerate() {
            next[sum] += 0.5 * chance;
            next[sum + rank] += 0.5 * chance;
        }
        chances = next;
    }
    let below: f64 = chances[..=positive].iter().sum();
    let above: f64 = chances[positive..].iter().sum();
    (!logs.is_empty()).then_some((2.0 * below.min(above)).min(1.0))
}

/// The probability of each sum of `n` of these whole numbers, drawn without putting back.
fn rank_sums(ranks: &[f64], n: usize) -> Vec<f64> {
    let most = ranks.iter().sum::<f64>() as usize;
    // chances[k][s]: that the first ranks gave k numbers of sum s, where each is taken with the probability that makes all draws alike.
    let mut chances = vec![vec![0.0; most + 1]; n + 1];
    chances[0][0] = 1.0;
    for (i, &rank) in ranks.iter().enumerate() {
        let (rank, left) = (rank as usize, (ranks.len() - i) as f64);
        for k in (0..=n.min(i)).rev() {
            let take = (n - k) as f64 / left;
            let (kept, taken) = chances.split_at_mut(k + 1);
            for sum in (0..=most).rev() {
                let chance = kept[k][sum];
                if chance > 0.0 {
                    if k < n {
                        taken[0][sum + rank] += chance * take;
                    }
                    kept[k][sum] = chance * (1.0 - take);
                }
            }
        }
    }
    chances.swap_remove(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 5e-7 * b.abs().max(1.0)
    }

    #[test]
    fn intervals_of_the_median_are_those_of_the_binomial_distribution() {
        // (samples, which order statistics from each end, confidence): tables of the sign test.
        for (n, k, confidence) in
            [(1, 0, 0.0), (5, 0, 0.9375), (6, 0, 0.96875), (9, 1, 0.9609375), (12, 2, 0.961426), (20, 5, 0.958611)]
        {
            let samples: Vec<f64> = (0..n).rev().map(f64::from).collect();
            let found = median_interval(&samples).unwrap();
            assert_eq!((found.low, found.high), (f64::from(k), f64::from(n - 1 - k)), "{n}");
            assert!((found.confidence - confidence).abs() < 1e-6, "{n}: {found:?}");
            assert_eq!(found.median, f64::from(n - 1) / 2.0);
        }
        assert_eq!(median_interval(&[]), None);
    }

    /// Probabilities by counting all draws, one by one.
    #[test]
    fn the_test_of_mann_and_whitney_is_exact() {
        let cases: &[(&[f64], &[f64], f64)] = &[
            (&[1.0, 2.0, 3.0, 4.0, 5.0], &[6.0, 7.0, 8.0, 9.0, 10.0], 2.0 / 252.0),
            (&[1.1, 2.2, 3.3, 4.4], &[2.5, 3.5, 4.5, 5.5], 0.2),
            (&[19.0, 22.0, 16.0, 29.0, 24.0], &[20.0, 11.0, 17.0, 12.0], 0.1111111111111111),
            (&[1.0, 2.0], &[3.0, 4.0], 1.0 / 3.0),
            (&[1.0, 1.0, 2.0, 3.0], &[3.0, 4.0, 4.0, 5.0], 4.0 / 70.0),
            (&[7.0; 5], &[7.0; 5], 1.0),
        ];
        for (a, b, p) in cases {
            assert!(close(mann_whitney(a, b), *p), "{a:?} {b:?}: {}", mann_whitney(a, b));
            assert!(close(mann_whitney(b, a), *p), "{b:?} {a:?}");
        }
    }

    /// By all ways to give signs to the same magnitudes.
    #[test]
    fn the_test_of_wilcoxon_is_exact() {
        let cases: &[&[f64]] = &[
            &[1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
            &[1.1, 0.95, 1.3, 0.85, 1.02, 1.6, 1.25],
            &[2.0, 2.0, 0.5, 4.0, 4.0, 8.0, 1.0],
        ];
        for quotients in cases {
            let logs: Vec<f64> = quotients.iter().map(|x| x.ln()).filter(|log| *log != 0.0).collect();
            let rank = |log: f64| {
                let less = logs.iter().filter(|other| other.abs() < log.abs() - 1e-12).count();
                let same = logs.iter().filter(|other| (other.abs() - log.abs()).abs() < 1e-12).count();
                less as f64 + (same as f64 + 1.0) / 2.0
            };
            let sum = |signs: usize| -> f64 {
                logs.iter().enumerate().filter(|(i, _)| signs >> i & 1 == 1).map(|(_, &log)| rank(log)).sum()
            };
            let own = (0..logs.len()).filter(|&i| logs[i] > 0.0).fold(0, |signs, i| signs | 1 << i);
            let all = 1usize << logs.len();
            let share =
                |holds: &dyn Fn(f64) -> bool| (0..all).filter(|&signs| holds(sum(signs))).count() as f64 / all as f64;
            let expected = (2.0 * share(&|w| w <= sum(own)).min(share(&|w| w >= sum(own)))).min(1.0);
            assert!(close(signed_rank(quotients).unwrap(), expected), "{quotients:?}");
        }
        assert!(close(signed_rank(&[1.1; 6]).unwrap(), 2.0 / 64.0));
        assert_eq!((signed_rank(&[]), signed_rank(&[1.0])), (None, None));
    }

    #[test]
    fn a_shift_is_found_with_an_interval_when_there_are_enough_samples() {
        let b: Vec<f64> = (0..10).map(|i| 100.0 + f64::from(i * 7 % 10) / 10.0).collect();
        let a: Vec<f64> = b.iter().map(|x| x * 0.9).collect();
        let found = shift(&a, &b).unwrap();
        let (low, high) = found.interval.unwrap();
        assert!(close(found.ratio, 0.9) && low < 0.9 && 0.9 < high && high < 0.91, "{found:?}");
        // By the tables of U, two groups of 10 differ when it is at most 23, so the interval ends at the 24th of 100 quotients.
        let mut quotients: Vec<f64> = a.iter().flat_map(|a| b.iter().map(move |b| a / b)).collect();
        quotients.sort_unstable_by(f64::total_cmp);
        assert!(close(low, quotients[23]) && close(high, quotients[76]), "{found:?}");
        assert_eq!(shift(&a[..3], &b[..3]).unwrap().interval, None);
        assert!(shift(&a[..4], &b[..4]).unwrap().interval.is_some());
        assert_eq!(shift(&a, &[]), None);
    }
}
