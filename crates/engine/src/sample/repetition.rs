use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Divides the positive and multiplies the negative logits of tokens that are among the last `window` of prompt and answer: the formula
/// of CTRL (arXiv:1909.05858), as Hugging Face and llama.cpp have it.
struct Repetition {
    penalty: f64,
    window: usize,
}

impl Filter for Repetition {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        let tokens = &history.tokens[history.tokens.len().saturating_sub(self.window)..];
        candidates.adjust(tokens, |logit, _| if logit > 0.0 { logit / self.penalty } else { logit * self.penalty });
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "repetition",
    params: &[
        Param {
            name: "repetition_penalty",
            help: "Penalize tokens that already appeared (1 = off)",
            range: (0.01, 100.0),
            field: |sampling| Field::Float(&mut sampling.repetition_penalty),
        },
        Param {
            name: "repeat_last_n",
            help: "Number of last tokens that the repetition penalty considers",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Count(&mut sampling.repeat_last_n),
        },
    ],
    reorders: true,
    truncates: false,
    build: |sampling, _| match (sampling.repetition_penalty, sampling.repeat_last_n) {
        (1.0, _) | (_, 0) => None,
        (penalty, window) => Some(Box::new(Repetition { penalty, window })),
    },
};
