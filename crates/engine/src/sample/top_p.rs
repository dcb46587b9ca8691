use super::{Candidate, Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Keeps the fewest most likely tokens that together have probability `p`: nucleus sampling (arXiv:1904.09751).
struct TopP {
    p: f64,
    min_keep: usize,
}

impl Filter for TopP {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        let softmax = candidates.softmax();
        let weight = |item: &Candidate| softmax.weight(item.logit);
        let enough = self.p * softmax.total();
        candidates.keep_until(enough, self.min_keep, weight, |candidates, range| candidates.sort(range.end));
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "top_p",
    params: &[Param {
        name: "top_p",
        help: "Sample from the most likely tokens of this total probability (1 = all)",
        range: (0.0, 1.0),
        field: |sampling| Field::Float(&mut sampling.top_p),
    }],
    reorders: false,
    truncates: true,
    build: |sampling, _| match sampling.top_p {
        1.0 => None,
        p => Some(Box::new(TopP { p, min_keep: sampling.min_keep })),
    },
};
