use super::{Candidate, Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Keeps the tokens whose surprise is nearest to the expected one, the entropy, and that together have probability `p`: locally typical
/// sampling (arXiv:2202.00666).
struct Typical {
    p: f64,
    min_keep: usize,
}

impl Filter for Typical {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        let softmax = candidates.softmax();
        let weight = |item: &Candidate| softmax.weight(item.logit);
        let (enough, entropy) = (self.p * softmax.total(), softmax.entropy(candidates));
        let distance = |item: &Candidate| (softmax.surprise(item.logit) - entropy).abs();
        let sort = |candidates: &mut Candidates, range| candidates.sort_by_key(range, distance);
        candidates.keep_until(enough, self.min_keep, weight, sort);
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
    truncates: true,
    build: |sampling, _| match sampling.typical_p {
        1.0 => None,
        p => Some(Box::new(Typical { p, min_keep: sampling.min_keep })),
    },
};
