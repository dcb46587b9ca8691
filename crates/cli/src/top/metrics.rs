//! The metrics of a server, as its `/metrics` has them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a server told at a moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub at: Instant,
    /// Values by name, those of all labels together.
    values: BTreeMap<String, f64>,
    /// Upper bounds and counts of histograms.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
}

impl Sample {
    /// Reads Prometheus's text format.
    pub fn parse(text: &str, at: Instant) -> Sample {
        let (mut values, mut buckets) = (BTreeMap::new(), BTreeMap::<String, Vec<(f64, f64)>>::new());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            match (name.strip_suffix("_bucket"), label(labels, "le")) {
                (Some(name), Some(bound)) => {
                    let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap_or(f64::INFINITY) };
                    buckets.entry(name.to_owned()).or_default().push((bound, value));
                }
                _ => *values.entry(name.to_owned()).or_default() += value,
            }
        }
        Sample { at, values, buckets }
    }

    pub fn value(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }
}

/// The value of a label.
fn label<'t>(labels: &'t str, name: &str) -> Option<&'t str> {
    let start = labels.find(&format!("{name}=\""))? + name.len() + 2;
    labels[start..].split('"').next()
}

/// What happened between two samples.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    pub from: &'a Sample,
    pub to: &'a Sample,
}

impl Span<'_> {
    fn seconds(&self) -> f64 {
        (self.to.at - self.from.at).max(Duration::from_millis(1)).as_secs_f64()
    }

    /// How much a counter grew; `None` where the server has begun anew.
    pub fn growth(&self, name: &str) -> Option<f64> {
        let growth = self.to.value(name)? - self.from.value(name).unwrap_or(0.0);
        (growth >= 0.0).then_some(growth)
    }

    /// How much a counter grew in a second.
    pub fn rate(&self, name: &str) -> Option<f64> {
        Some(self.growth(name)? / self.seconds())
    }

    /// The share of `part` in what `whole` grew by.
    pub fn share(&self, part: &str, whole: &str) -> Option<f64> {
        let whole = self.growth(whole).filter(|whole| *whole > 0.0)?;
        Some(self.growth(part)? / whole)
    }

    /// A quantile of what a histogram saw: linear within its bucket, as Prometheus's `histogram_quantile`.
    pub fn quantile(&self, name: &str, quantile: f64) -> Option<f64> {
        let (to, from) = (self.to.buckets.get(name)?, self.from.buckets.get(name));
        let before = |i: usize| from.and_then(|from| from.get(i)).map_or(0.0, |(_, count)| *count);
        let counts: Vec<(f64, f64)> =
            to.iter().enumerate().map(|(i, (bound, count))| (*bound, count - before(i))).collect();
        let total = counts.last().map(|(_, count)| *count).filter(|total| *total > 0.0)?;
        let rank = quantile * total;
        let at = counts.iter().position(|(_, count)| *count >= rank)?;
        let (lower, below) = if at == 0 { (0.0, 0.0) } else { counts[at - 1] };
        let (upper, count) = counts[at];
        if upper.is_infinite() {
            return Some(lower);
        }
        Some(lower + (upper - lower) * (rank - below) / (count - below).max(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_shares_and_quantiles_are_those_between_two_samples() {
        let begin = Instant::now();
        let text = |tokens: u32, hits: u32, counts: [u32; 3]| {
            let [a, b, c] = counts;
            format!(
                "# TYPE tokens counter\ntokens_total{{route=\"a\"}} {tokens}\ntokens_total{{route=\"b\"}} 1\nhits 1{hits}\n\
                 itl_bucket{{le=\"0.1\"}} {a}\nitl_bucket{{le=\"0.2\"}} {b}\nitl_bucket{{le=\"+Inf\"}} {c}\n# EOF\n"
            )
        };
        let from = Sample::parse(&text(10, 0, [1, 1, 1]), begin);
        let to = Sample::parse(&text(30, 5, [1, 11, 11]), begin + Duration::from_secs(10));
        let span = Span { from: &from, to: &to };
        assert_eq!((from.value("tokens_total"), span.rate("tokens_total")), (Some(11.0), Some(2.0)));
        assert_eq!(span.share("hits", "tokens_total"), Some(0.25));
        assert!((span.quantile("itl", 0.5).unwrap() - 0.15).abs() < 1e-9);
        assert_eq!((span.quantile("ttft", 0.5), span.rate("nothing")), (None, None));
        let again = Span { from: &to, to: &from };
        assert_eq!(again.rate("tokens_total"), None, "a server that begins anew");
    }
}
