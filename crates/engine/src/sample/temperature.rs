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

/// Divides all logits by a temperature that grows with the entropy, from `least` for a certain token to `most` for equal ones: dynamic
/// temperature, as llama.cpp's `temp_ext` has it.
struct Dynamic {
    least: f64,
    most: f64,
    exponent: f64,
}

impl Filter for Dynamic {
    fn apply(&mut self, candidates: &mut Candidates, _: History) -> Result<(), Error> {
        let n = candidates.items().len();
        if n > 1 {
            let share = candidates.softmax().entropy(candidates) / libm::log(n as f64);
            // Rounding may leave the entropy out of its range.
            let share = libm::pow(share.clamp(0.0, 1.0), self.exponent);
            match self.least + (self.most - self.least) * share {
                temperature if temperature > 0.0 => candidates.divide(temperature),
                _ => candidates.keep_from(f64::INFINITY, 1),
            }
        }
        Ok(())
    }
}

pub(super) const ROW: FilterRow = FilterRow {
    name: "temperature",
    params: &[
        Param {
            name: "temperature",
            help: "Temperature of sampling (0 = greedy)",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Float(&mut sampling.temperature),
        },
        Param {
            name: "dynatemp_range",
            help: "Let the temperature vary by this much with the entropy (0 = off)",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Float(&mut sampling.dynatemp_range),
        },
        Param {
            name: "dynatemp_exponent",
            help: "Exponent of the entropy in the dynamic temperature",
            range: (0.0, f64::INFINITY),
            field: |sampling| Field::Float(&mut sampling.dynatemp_exponent),
        },
    ],
    reorders: false,
    truncates: false,
    build: |sampling, _| match (sampling.temperature, sampling.dynatemp_range) {
        (0.0, _) | (1.0, 0.0) => None,
        (temperature, 0.0) => Some(Box::new(Temperature(temperature))),
        (temperature, range) => Some(Box::new(Dynamic {
            least: (temperature - range).max(0.0),
            most: temperature + range,
            exponent: sampling.dynatemp_exponent,
        })),
    },
};
