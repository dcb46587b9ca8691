use super::{Candidates, Filter, History, Row};
use crate::param::{Field, Param};

/// Keeps the `k` most likely (Fan et al., arXiv:1805.04833).
struct TopK(usize);

impl Filter for TopK {
    fn apply(&self, candidates: &mut Candidates, _: History) {
        candidates.sort(self.0);
        candidates.truncate(self.0);
    }
}

pub(super) const ROW: Row = Row {
    name: "top_k",
    params: &[Param {
        name: "top_k",
        help: "Keep this many of the most likely tokens (0 = all)",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Count(&mut sampling.top_k),
    }],
    reorders: false,
    build: |sampling| match sampling.top_k {
        0 => None,
        k => Some(Box::new(TopK(k))),
    },
};
