use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Forbids the tokens that end an answer until it has some length, as vLLM's `min_tokens`.
struct MinTokens {
    least: usize,
    ends: Vec<u32>,
}

impl Filter for MinTokens {
    fn apply(&mut self, candidates: &mut Candidates, history: History) -> Result<(), Error> {
        if history.tokens.len() - history.prompt < self.least {
            self.ends.iter().for_each(|&id| candidates.add(id, f64::NEG_INFINITY));
        }
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "min_tokens",
    params: &[Param {
        name: "min_tokens",
        help: "Minimum number of tokens to generate before the answer may end",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Count(&mut sampling.min_tokens),
    }],
    reorders: true,
    truncates: false,
    build: |sampling, tokenizer| match sampling.min_tokens {
        0 => None,
        least => {
            let eog = tokenizer.eog_tokens().filter(|_| !sampling.ignore_eos);
            Some(Box::new(MinTokens { least, ends: eog.chain(sampling.stop_token_ids.iter().copied()).collect() }))
        }
    },
};
