//! Ratios of sums over units that differ in size, and how sure they are.

use serde::Serialize;

/// The normal distribution's 0.975 quantile.
const Z: f64 = 1.959963984540054;

/// A number, and where it may lie at 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// The least that it may be; unknown with a single unit.
    pub low: Option<f64>,
    pub high: Option<f64>,
}

impl Estimate {
    /// `Σ y / Σ x` over units `(y, x)`; `None` where the denominator is zero.
    ///
    /// The interval takes units as independent and what is inside of one as anything: the ratio's variance is that of the units' residuals
    /// `y - ratio x` (Cochran 1977, Sampling Techniques, 6.3), its distribution Student's.
    pub(crate) fn ratio(units: impl Iterator<Item = (f64, f64)> + Clone) -> Option<Estimate> {
        let (n, y, x) =
            units.clone().fold((0.0, 0.0, 0.0), |(n, sum_y, sum_x), (y, x)| (n + 1.0, sum_y + y, sum_x + x));
        let value = y / x;
        if x == 0.0 {
            return None;
        }
        let squares: f64 = units.map(|(y, x)| (y - value * x).powi(2)).sum();
        let margin = (n > 1.0).then(|| student(n - 1.0) * (squares * n / (n - 1.0)).sqrt() / x);
        let [low, high] = [-1.0, 1.0].map(|side| margin.map(|margin| value + side * margin));
        Some(Estimate { value, low, high })
    }

    /// The same of what cannot be negative.
    pub(crate) fn not_negative(self) -> Estimate {
        Estimate { low: self.low.map(|low| low.max(0.0)), ..self }
    }

    /// The same of another number, which grows with this one.
    pub(crate) fn map(self, f: impl Fn(f64) -> f64) -> Estimate {
        Estimate { value: f(self.value), low: self.low.map(&f), high: self.high.map(&f) }
    }
}

/// The 0.975 quantile of Student's distribution: Cornish and Fisher's expansion (Abramowitz and Stegun, 26.7.5), which is wrong by 0.1 % for 3
/// degrees of freedom and less for more.
fn student(freedom: f64) -> f64 {
    if freedom < 3.0 {
        return if freedom < 2.0 { 12.706204736174698 } else { 4.302652729749464 };
    }
    let terms = [
        (Z.powi(3) + Z) / 4.0,
        (5.0 * Z.powi(5) + 16.0 * Z.powi(3) + 3.0 * Z) / 96.0,
        (3.0 * Z.powi(7) + 19.0 * Z.powi(5) + 17.0 * Z.powi(3) - 15.0 * Z) / 384.0,
        (79.0 * Z.powi(9) + 776.0 * Z.powi(7) + 1482.0 * Z.powi(5) - 1920.0 * Z.powi(3) - 945.0 * Z) / 92160.0,
    ];
    terms.iter().rev().fold(0.0, |sum, term| (sum + term) / freedom) + Z
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, quantile) in
            [(1.0, 12.7062), (2.0, 4.3027), (3.0, 3.1824), (4.0, 2.7764), (9.0, 2.2622), (30.0, 2.0423), (1e9, Z)]
        {
            assert!((student(freedom) / quantile - 1.0).abs() < 1.3e-3, "{freedom}: {}", student(freedom));
        }
    }

    /// Units of very different sizes, drawn again and again: the interval has the true ratio nearly as often as it says.
    #[test]
    fn intervals_have_the_true_ratio() {
        let mut random = fastrand::Rng::with_seed(1);
        let hits = (0..2000)
            .filter(|_| {
                let units: Vec<(f64, f64)> = (0..30)
                    .map(|_| {
                        let size = f64::from(random.u32(10..400));
                        // Tokens of a unit are alike: it has a level of its own.
                        ((1.5 + (random.f64() - 0.5)) * size, size)
                    })
                    .collect();
                let Estimate { low, high, .. } = Estimate::ratio(units.into_iter()).unwrap();
                low.unwrap() <= 1.5 && 1.5 <= high.unwrap()
            })
            .count();
        assert!((0.92..0.97).contains(&(hits as f64 / 2000.0)), "{hits}");
    }

    #[test]
    fn a_single_unit_has_no_interval_and_none_has_no_ratio() {
        assert_eq!(Estimate::ratio([(3.0, 2.0)].into_iter()), Some(Estimate { value: 1.5, low: None, high: None }));
        assert_eq!(Estimate::ratio([(3.0, 0.0)].into_iter()), None);
    }

    #[test]
    fn only_what_cannot_be_negative_has_an_interval_that_ends_at_zero() {
        let estimate = Estimate::ratio([(0.1, 1.0), (4.0, 1.0)].into_iter()).unwrap();
        assert!(estimate.low.unwrap() < 0.0);
        assert_eq!(estimate.not_negative(), Estimate { low: Some(0.0), ..estimate });
    }
}
