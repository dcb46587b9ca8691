use super::{Candidate, Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};
use std::f64::consts::LN_2;

/// Keeps the tokens of at most `mu` bits of surprise, which follows the surprise of the tokens that were sampled, so that this stays near
/// `tau`: Mirostat 2.0 (arXiv:2007.14966, algorithm 2), as llama.cpp's `mirostat_v2` has it.
struct Mirostat {
    tau: f64,
    eta: f64,
    mu: f64,
    /// What was kept for the token that is accepted next.
    kept: Vec<Candidate>,
    /// Adds to a logit to give its log probability among those.
    shift: f64,
}

impl Filter for Mirostat {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        candidates.keep_from(candidates.softmax().logit(self.mu * LN_2), 1);
        self.kept.clear();
        self.kept.extend_from_slice(candidates.items());
        self.shift = candidates.softmax().surprise(0.0);
        Ok(())
    }

    fn accept(&mut self, token: u32) {
        if let Some(kept) = self.kept.iter().find(|kept| kept.id == token) {
            let surprise = (self.shift - kept.logit) / LN_2;
            self.mu -= self.eta * (surprise - self.tau);
        }
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "mirostat",
    params: &[
        Param {
            name: "mirostat",
            help: "2 = Mirostat 2.0 in place of the samplers that truncate (0 = off)",
            range: (0.0, 2.0),
            field: |sampling| Field::Choice(&mut sampling.mirostat, &[0, 2]),
        },
        Param {
            name: "mirostat_tau",
            help: "Surprise that Mirostat aims at, in bits",
            range: (0.0, 100.0),
            field: |sampling| Field::Float(&mut sampling.mirostat_tau),
        },
        Param {
            name: "mirostat_eta",
            help: "Learning rate of Mirostat",
            range: (0.0, 1.0),
            field: |sampling| Field::Float(&mut sampling.mirostat_eta),
        },
    ],
    reorders: false,
    truncates: false,
    build: |sampling, _| match sampling.mirostat {
        0 => None,
        _ => Some(Box::new(Mirostat {
            tau: sampling.mirostat_tau,
            eta: sampling.mirostat_eta,
            mu: 2.0 * sampling.mirostat_tau,
            kept: Vec::new(),
            shift: 0.0,
        })),
    },
};
