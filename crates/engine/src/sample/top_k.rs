use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Keeps the `k` most likely (Fan et al., arXiv:1805.04833).
struct TopK(usize);

/// Groups of logits whose highest are compared.
const GROUPS: usize = 2048;

impl Filter for TopK {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        candidates.sort(self.0);
        candidates.truncate(self.0);
        Ok(())
    }

    /// The highest logits of `k` groups are `k` logits, and as many are at least as high as the lowest of them. Few others are when there are
    /// many more groups.
    fn floor(&self, logits: &[f32], _: f32) -> Option<f32> {
        if self.0 > GROUPS / 4 {
            return None;
        }
        let mut highest = [f32::NEG_INFINITY; GROUPS];
        for chunk in logits.chunks(GROUPS) {
            for (highest, &x) in highest.iter_mut().zip(chunk) {
                *highest = if x > *highest { x } else { *highest };
            }
        }
        Some(*highest.select_nth_unstable_by(self.0 - 1, |a, b| b.total_cmp(a)).1)
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "top_k",
    params: &[Param {
        name: "top_k",
        help: "Sample from the N most likely tokens (0 = all)",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Count(&mut sampling.top_k),
    }],
    reorders: false,
    truncates: true,
    build: |sampling, _| match sampling.top_k {
        0 => None,
        k => Some(Box::new(TopK(k))),
    },
};
