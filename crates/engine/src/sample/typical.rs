use super::{Candidate, Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Keeps the tokens whose surprise is nearest to the expected one, the entropy, and that together have probability `p`: locally typical
/// sampling (arXiv:2202.00666).
struct Typical(f64);

impl Filter for Typical {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        let most = candidates.best().logit;
        let weight = |item: &Candidate| libm::exp(item.logit - most);
        let total: f64 = candidates.items().iter().map(weight).sum();
        let log_total = libm::log(total);
        let surprise = |item: &Candidate| log_total - (item.logit - most);
        let entropy: f64 = candidates.items().iter().map(|item| weight(item) / total * surprise(item)).sum();
        let distance = |item: &Candidate| (surprise(item) - entropy).abs();
        candidates.keep_until(self.0 * total, weight, |candidates, range| candidates.sort_by_key(range, distance));
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "typical",
    params: &[Param {
        name: "typical_p",
        help: "Sample from the locally typical tokens of this total probability (1 = all)",
        range: (0.0, 1.0),
        field: |sampling| Field::Float(&mut sampling.typical_p),
    }],
    reorders: false,
    build: |sampling| match sampling.typical_p {
        1.0 => None,
        p => Some(Box::new(Typical(p))),
    },
};
