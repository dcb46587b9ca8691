use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Keeps the tokens whose logit is within `n` standard deviations of the highest: top-nσ (arXiv:2411.07641).
struct TopNSigma(f64);

impl TopNSigma {
    /// The least logit of these that is kept.
    fn least(&self, logits: impl Iterator<Item = f64> + Clone) -> f64 {
        let n = logits.clone().count() as f64;
        let mean = logits.clone().sum::<f64>() / n;
        let variance = logits.clone().map(|logit| (logit - mean) * (logit - mean)).sum::<f64>() / n;
        logits.fold(f64::NEG_INFINITY, f64::max) - self.0 * libm::sqrt(variance)
    }
}

impl Filter for TopNSigma {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        let least = self.least(candidates.items().iter().map(|item| item.logit));
        candidates.keep_from(least, 1);
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "top_n_sigma",
    params: &[Param {
        name: "top_n_sigma",
        help: "Sample from tokens within N standard deviations of the top logit (0 = all)",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Float(&mut sampling.top_n_sigma),
    }],
    reorders: false,
    truncates: true,
    build: |sampling, _| match sampling.top_n_sigma {
        0.0 => None,
        n => Some(Box::new(TopNSigma(n))),
    },
};
