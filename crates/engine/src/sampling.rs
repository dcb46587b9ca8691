//! The sampling options as a whole: their presets, their checks and the list of them.

use crate::Error;
use crate::options::Sampling;
use crate::param::{Field, Param};
use crate::sample::FILTERS;

/// Well-tried combinations: name, temperature, top-k, top-p, repetition penalty.
const PRESETS: &[(&str, f64, usize, f64, f64)] =
    &[("fast", 0.0, 1, 1.0, 1.0), ("balanced", 0.7, 50, 0.9, 1.0), ("quality", 0.8, 100, 0.95, 1.1)];

impl Sampling {
    /// The most likely token, always.
    pub fn greedy() -> Sampling {
        Sampling { temperature: 0.0, ..Sampling::default() }
    }

    /// The names that [`Sampling::preset`] knows.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|row| row.0)
    }

    /// A combination by name: `fast` is greedy, `balanced` cautious, `quality` wider and without repetition.
    ///
    /// # Errors
    /// [`Error::UnknownPreset`].
    pub fn preset(name: &str) -> Result<Sampling, Error> {
        let row = PRESETS.iter().find(|row| row.0 == name);
        let &(_, temperature, top_k, top_p, repetition_penalty) = row.ok_or_else(|| Error::UnknownPreset {
            found: name.to_owned(),
            known: Sampling::presets().collect::<Vec<_>>().join(", "),
        })?;
        Ok(Sampling { temperature, top_k, top_p, repetition_penalty, ..Sampling::default() })
    }

    /// Whether every field is in its range.
    ///
    /// # Errors
    /// [`Error::Option`] with the first that is not.
    pub fn check(&self) -> Result<(), Error> {
        params().try_for_each(|param| param.check(self))
    }
}

/// All sampling options: those of the filters in their order, then the others.
pub fn params() -> impl Iterator<Item = &'static Param> {
    FILTERS.iter().flat_map(|row| row.params).chain(PARAMS)
}

/// Options that no filter has: they decide when to end and what to report.
static PARAMS: &[Param] = &[
    Param {
        name: "seed",
        help: "Seed of the random numbers, for reproducible answers",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Seed(&mut sampling.seed),
    },
    Param {
        name: "logprobs",
        help: "Report log probabilities, including those of the N most likely tokens",
        range: (0.0, 20.0),
        field: |sampling| Field::Limit(&mut sampling.logprobs),
    },
    Param {
        name: "max_tokens",
        help: "Maximum number of tokens to generate",
        range: (1.0, f64::INFINITY),
        field: |sampling| Field::Limit(&mut sampling.max_tokens),
    },
    Param {
        name: "stop",
        help: "Stop before this text; may be repeated",
        range: (0.0, 64.0),
        field: |sampling| Field::Texts(&mut sampling.stop),
    },
    Param {
        name: "ignore_eos",
        help: "Continue after the end-of-sequence token",
        range: (0.0, 1.0),
        field: |sampling| Field::Switch(&mut sampling.ignore_eos),
    },
];
