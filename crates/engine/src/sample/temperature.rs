use super::{Candidates, Filter, FilterRow, History};
use crate::Error;
use crate::param::{Field, Param};

/// Divides all logits by a positive number.
struct Temperature(f64);

impl Filter for Temperature {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        candidates.divide(self.0);
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "temperature",
    params: &[Param {
        name: "temperature",
        help: "Temperature of sampling (0 = greedy)",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Float(&mut sampling.temperature),
    }],
    reorders: false,
    build: |sampling| match sampling.temperature {
        0.0 | 1.0 => None,
        temperature => Some(Box::new(Temperature(temperature))),
    },
};
