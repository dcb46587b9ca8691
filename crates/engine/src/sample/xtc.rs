use super::random::{mix, uniform};
use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Drops, with a probability, all tokens that are at least as likely as a threshold but the least likely of them: exclude top choices, as
/// llama.cpp's `xtc` has it.
struct Xtc {
    probability: f64,
    threshold: f64,
    min_keep: usize,
    seed: u64,
}

impl Filter for Xtc {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        if uniform(self.seed, history.tokens.len()) < self.probability {
            let softmax = candidates.softmax();
            let least = self.threshold * softmax.total();
            let top = candidates.items().iter().filter(|item| softmax.weight(item.logit) >= least).count();
            if top > 1 && candidates.items().len() - (top - 1) >= self.min_keep {
                candidates.sort(top);
                candidates.skip(top - 1);
            }
        }
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "xtc",
    params: &[
        Param {
            name: "xtc_probability",
            help: "Probability of excluding all top choices but the last (0 = off)",
            range: (0.0, 1.0),
            field: |sampling| Field::Float(&mut sampling.xtc_probability),
        },
        Param {
            name: "xtc_threshold",
            help: "Least probability of a top choice of XTC (above 0.5 = off)",
            range: (0.0, 1.0),
            field: |sampling| Field::Float(&mut sampling.xtc_threshold),
        },
    ],
    reorders: false,
    truncates: true,
    // No two tokens are both more likely than a half.
    build: |sampling, _| match (sampling.xtc_probability, sampling.xtc_threshold) {
        (0.0, _) => None,
        (_, threshold) if threshold > 0.5 => None,
        (probability, threshold) => Some(Box::new(Xtc {
            probability,
            threshold,
            min_keep: sampling.min_keep,
            // Independent of the draw at the end of the chain.
            seed: mix(sampling.seed.unwrap_or(0) ^ 0x5854_4300),
        })),
    },
};
