use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Takes `count * frequency + presence` from the logits of tokens that the answer has `count` times: OpenAI's formula.
struct Occurrence {
    frequency: f64,
    presence: f64,
}

impl Filter for Occurrence {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        let answer = &history.tokens[history.prompt..];
        candidates.adjust(answer, |logit, count| logit - (f64::from(count) * self.frequency + self.presence));
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "occurrence",
    params: &[
        Param {
            name: "frequency_penalty",
            help: "Penalize tokens for each time they appeared in the answer (0 = off)",
            range: (-2.0, 2.0),
            field: |sampling| Field::Float(&mut sampling.frequency_penalty),
        },
        Param {
            name: "presence_penalty",
            help: "Penalize tokens that appeared in the answer (0 = off)",
            range: (-2.0, 2.0),
            field: |sampling| Field::Float(&mut sampling.presence_penalty),
        },
    ],
    reorders: true,
    truncates: false,
    build: |sampling, _| match (sampling.frequency_penalty, sampling.presence_penalty) {
        (0.0, 0.0) => None,
        (frequency, presence) => Some(Box::new(Occurrence { frequency, presence })),
    },
};
