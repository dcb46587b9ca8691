use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Keeps tokens with at least this share of the most likely token's probability (arXiv:2407.01082).
struct MinP {
    p: f64,
    min_keep: usize,
}

impl Filter for MinP {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        candidates.keep_from(candidates.most() + libm::log(self.p), self.min_keep);
        Ok(())
    }

    fn floor(&self, _: &[f32], most: f32) -> Option<f32> {
        // One less than the nearest is not above.
        (self.min_keep < 2).then(|| ((f64::from(most) + libm::log(self.p)) as f32).next_down())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "min_p",
    params: &[Param {
        name: "min_p",
        help: "Sample from tokens with at least this share of the top probability (0 = all)",
        range: (0.0, 1.0),
        field: |sampling| Field::Float(&mut sampling.min_p),
    }],
    reorders: false,
    truncates: true,
    build: |sampling, _| match sampling.min_p {
        0.0 => None,
        p => Some(Box::new(MinP { p, min_keep: sampling.min_keep })),
    },
};
