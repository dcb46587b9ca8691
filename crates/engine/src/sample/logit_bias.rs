use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};
use std::collections::BTreeMap;

/// Adds to the logits of some tokens, as OpenAI's `logit_bias`.
struct LogitBias(BTreeMap<u32, f64>);

impl Filter for LogitBias {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        self.0.iter().for_each(|(&id, &bias)| candidates.add(id, bias));
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "logit_bias",
    params: &[Param {
        name: "logit_bias",
        help: "Add to the logit of a token, such as 42=-1.5; may be repeated",
        range: (-100.0, 100.0),
        field: |sampling| Field::Biases(&mut sampling.logit_bias),
    }],
    reorders: true,
    truncates: false,
    build: |sampling, _| match &sampling.logit_bias {
        biases if biases.is_empty() => None,
        biases => Some(Box::new(LogitBias(biases.clone()))),
    },
};
