//! The sampling options of a request: their defaults, presets, checks, and the list of them.

use crate::Error;
use crate::param::{Field, Param};
use crate::sample::FILTERS;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use trine_model::GenerationConfig;

/// Options of one request. Every field is described by a [`Param`](crate::Param), which is also its flag.
///
/// The defaults are OpenAI's: the model's own distribution, no filter on; `repeat_last_n` is llama.cpp's 64, without effect as
/// long as `repetition_penalty` is 1. So are the parameters of DRY, XTC, dynamic temperature and Mirostat, which are off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Logits are divided by this; 0 takes the most likely token.
    pub temperature: f64,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the most likely tokens that together have this probability; 1 keeps all.
    pub top_p: f64,
    /// Keeps tokens with at least this share of the most likely token's probability; 0 keeps all.
    pub min_p: f64,
    /// Keeps the tokens of most typical surprise that together have this probability; 1 keeps all.
    pub typical_p: f64,
    /// Keeps tokens whose logit is within this many standard deviations of the highest; 0 keeps all.
    pub top_n_sigma: f64,
    /// How many tokens `top_p`, `min_p`, `typical_p` and XTC keep at least.
    pub min_keep: usize,
    /// The probability with which XTC drops the top choices but the last; 0 disables it.
    pub xtc_probability: f64,
    /// The probability from which a token is a top choice; above 0.5 disables XTC.
    pub xtc_threshold: f64,
    /// The temperature goes from `temperature - dynatemp_range` to `temperature + dynatemp_range` with the entropy; 0 disables it.
    pub dynatemp_range: f64,
    /// The exponent of the entropy, as a share of the greatest one, in that.
    pub dynatemp_exponent: f64,
    /// 2 keeps the surprise of tokens near `mirostat_tau` by Mirostat 2.0, in place of the filters that truncate; 0 disables it.
    pub mirostat: usize,
    /// The surprise that Mirostat aims at, in bits.
    pub mirostat_tau: f64,
    /// The learning rate of Mirostat.
    pub mirostat_eta: f64,
    /// Penalizes tokens that already appeared; 1 disables it.
    pub repetition_penalty: f64,
    /// Number of last tokens, of prompt and answer, that `repetition_penalty` considers.
    pub repeat_last_n: usize,
    /// Subtracted from a token's logit for each time it appeared in the answer.
    pub frequency_penalty: f64,
    /// Subtracted from a token's logit if it appeared in the answer.
    pub presence_penalty: f64,
    /// Subtracts `dry_multiplier * dry_base.pow(length - dry_allowed_length)` from the logit of a token that extends a repetition; 0 disables it.
    pub dry_multiplier: f64,
    pub dry_base: f64,
    /// Shorter repetitions are not penalized.
    pub dry_allowed_length: usize,
    /// Number of last tokens, of prompt and answer, in which repetitions are looked for.
    pub dry_penalty_last_n: usize,
    /// Texts over which no repetition reaches.
    #[serde(deserialize_with = "one_or_many")]
    pub dry_sequence_breakers: Vec<String>,
    /// Added to the logits of tokens, by id.
    #[serde(deserialize_with = "biases")]
    pub logit_bias: BTreeMap<u32, f64>,
    /// The same seed gives the same answer; without one the engine chooses.
    pub seed: Option<u64>,
    /// Number of answers; that of index `i` has the seed `seed + i`.
    pub n: usize,
    /// Number of answers of which the `n` with the highest cumulative log probability are chosen; `None` for `n`.
    pub best_of: Option<usize>,
    /// Reports the log probability of each token, and of this many of the most likely ones.
    pub logprobs: Option<usize>,
    /// Reports the log probability of each token of the prompt but the first, and of this many of the most likely ones in its place.
    pub prompt_logprobs: Option<usize>,
    /// Maximum number of tokens between the tags of thinking, such as `<think>`, before the closing one is forced; `None` for no limit.
    pub thinking_budget: Option<usize>,
    /// Maximum number of tokens to generate; `None` for the rest of the context.
    pub max_tokens: Option<usize>,
    /// Until the answer has so many tokens, neither a token nor a stop string ends it.
    pub min_tokens: usize,
    /// Tokens that end the answer, also with `ignore_eos`.
    pub stop_token_ids: Vec<u32>,
    /// Texts of which the answer never has the tokens, with or without a space before.
    #[serde(deserialize_with = "one_or_many")]
    pub bad_words: Vec<String>,
    /// Sequences of tokens that are never completed, also if they begin in the prompt: transformers' `bad_words_ids`.
    pub bad_words_ids: Vec<Vec<u32>>,
    /// Texts that end the answer, and are not part of it.
    #[serde(deserialize_with = "one_or_many")]
    pub stop: Vec<String>,
    /// Continues after the end-of-sequence token.
    pub ignore_eos: bool,
    /// Leaves control tokens out of the text; otherwise their names are part of it, but for the token that ends the answer.
    pub skip_special_tokens: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            top_n_sigma: 0.0,
            min_keep: 0,
            xtc_probability: 0.0,
            xtc_threshold: 0.1,
            dynatemp_range: 0.0,
            dynatemp_exponent: 1.0,
            mirostat: 0,
            mirostat_tau: 5.0,
            mirostat_eta: 0.1,
            repetition_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            dry_multiplier: 0.0,
            dry_base: 1.75,
            dry_allowed_length: 2,
            dry_penalty_last_n: 64,
            dry_sequence_breakers: ["\n", ":", "\"", "*"].map(str::to_owned).to_vec(),
            logit_bias: BTreeMap::new(),
            seed: None,
            n: 1,
            best_of: None,
            logprobs: None,
            prompt_logprobs: None,
            thinking_budget: None,
            max_tokens: None,
            min_tokens: 0,
            stop_token_ids: Vec::new(),
            bad_words: Vec::new(),
            bad_words_ids: Vec::new(),
            stop: Vec::new(),
            ignore_eos: false,
            skip_special_tokens: true,
        }
    }
}

/// Options that have another name in `generation_config.json`.
const HF_NAMES: &[(&str, &str)] =
    &[("max_tokens", "max_new_tokens"), ("min_tokens", "min_new_tokens"), ("stop", "stop_strings")];
/// Options that have another name in `general.sampling`.
const GGUF_NAMES: &[(&str, &str)] =
    &[("temperature", "temp"), ("repetition_penalty", "penalty_repeat"), ("repeat_last_n", "penalty_last_n")];

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

    /// A combination by name: `fast` is greedy, `balanced` cautious, `quality` wider, with a repetition penalty of 1.1.
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

    /// What a model recommends in its `generation_config.json` or in GGUF's `general.sampling`, and these options where it recommends nothing.
    ///
    /// Where it says how to sample, what it leaves open is as in transformers: `top_k` 50, and no other filter. `do_sample` = false is greedy;
    /// where it is missing beside a temperature or a filter, these are used. A repetition penalty considers all tokens.
    #[must_use]
    pub fn recommended(self, generation: &GenerationConfig) -> Sampling {
        let GenerationConfig { do_sample, temperature, top_k, top_p, min_p, typical_p, .. } = *generation;
        let number = temperature.or(top_p).or(min_p).or(typical_p);
        let samples = do_sample.is_some() || number.is_some() || top_k.is_some();
        let mut sampling = match samples {
            false => self,
            true => Sampling {
                temperature: if do_sample == Some(false) { 0.0 } else { temperature.unwrap_or(1.0) },
                top_k: top_k.unwrap_or(50),
                top_p: top_p.unwrap_or(1.0),
                min_p: min_p.unwrap_or(0.0),
                typical_p: typical_p.unwrap_or(1.0),
                repetition_penalty: 1.0,
                ..self
            },
        };
        let numbers = [
            (&mut sampling.xtc_probability, generation.xtc_probability),
            (&mut sampling.xtc_threshold, generation.xtc_threshold),
            (&mut sampling.mirostat_tau, generation.mirostat_tau),
            (&mut sampling.mirostat_eta, generation.mirostat_eta),
        ];
        numbers.into_iter().for_each(|(field, value)| *field = value.unwrap_or(*field));
        sampling.mirostat = generation.mirostat.unwrap_or(sampling.mirostat);
        if let Some(penalty) = generation.repetition_penalty {
            let last_n = generation.repeat_last_n.unwrap_or(usize::MAX);
            (sampling.repetition_penalty, sampling.repeat_last_n) = (penalty, last_n);
        }
        sampling.max_tokens = generation.max_new_tokens.or(sampling.max_tokens);
        sampling.min_tokens = generation.min_new_tokens.unwrap_or(sampling.min_tokens);
        sampling.bad_words_ids.extend_from_slice(&generation.bad_words_ids);
        sampling.stop.extend_from_slice(&generation.stop_strings);
        sampling
    }

    /// Without stop strings and stop tokens, which cut an answer whose form a filter prescribes.
    pub fn without_stops(self) -> Sampling {
        Sampling { stop: Vec::new(), stop_token_ids: Vec::new(), ..self }
    }

    /// Whether what a model recommends is in its ranges.
    ///
    /// # Errors
    /// As [`Sampling::check`], with the names of `generation_config.json` or of GGUF's `general.sampling`.
    pub fn check_recommended(generation: &GenerationConfig) -> Result<(), Error> {
        let names = |field: &'static str| {
            let renamed = match generation.source {
                "general.sampling" => GGUF_NAMES,
                _ => HF_NAMES,
            };
            renamed.iter().find(|(ours, _)| *ours == field).map_or(field, |&(_, name)| name)
        };
        Sampling::default().recommended(generation).check().map_err(|error| match error {
            Error::Option { field, value, expected } => {
                let expected = expected.replace("max_tokens", names("max_tokens"));
                Error::Option { field: names(field), value, expected }
            }
            other => other,
        })
    }

    /// Maximum tokens of a prompt, which leaves room for an answer, unless its own log probabilities are asked for and one token beside them.
    pub fn max_prompt(&self, context: usize) -> usize {
        let scores = self.prompt_logprobs.is_some() && self.max_tokens == Some(1);
        if scores { context } else { context - 1 }
    }

    /// Whether every field is in its range, and fits the others.
    ///
    /// # Errors
    /// [`Error::Option`] with the first that is not.
    pub fn check(&self) -> Result<(), Error> {
        params().try_for_each(|param| param.check(self))?;
        if let Some(most) = self.best_of.filter(|&most| most < self.n) {
            let expected = format!("at least n, {}", self.n);
            return Err(Error::Option { field: "best_of", value: most.to_string(), expected });
        }
        match self.max_tokens {
            Some(most) if most < self.min_tokens => Err(Error::Option {
                field: "min_tokens",
                value: self.min_tokens.to_string(),
                expected: format!("at most max_tokens, {most}"),
            }),
            _ => Ok(()),
        }
    }
}

/// The seed of one of the requests that come of a seed: below 2^53, up to which JSON's numbers are exact in all programs.
pub fn seed_of(seed: u64, index: u64) -> u64 {
    let mixed = |seed| fastrand::Rng::with_seed(seed).u64(..);
    mixed(mixed(seed).wrapping_add(index)) >> 11
}

/// All sampling options: those of the filters in their order, then the others.
pub fn params() -> impl Iterator<Item = &'static Param> {
    FILTERS.iter().flat_map(|row| row.params).chain(PARAMS)
}

/// Options that no filter has, or several: they decide when to end and what to report.
static PARAMS: &[Param] = &[
    Param {
        name: "min_keep",
        help: "Number of tokens that top-p, min-p, typical and XTC keep at least",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Count(&mut sampling.min_keep),
    },
    Param {
        name: "seed",
        help: "Seed of the random numbers, for reproducible answers",
        range: (0.0, f64::INFINITY),
        field: |sampling| Field::Seed(&mut sampling.seed),
    },
    Param {
        name: "n",
        help: "Number of answers",
        range: (1.0, 1024.0),
        field: |sampling| Field::Count(&mut sampling.n),
    },
    Param {
        name: "best_of",
        help: "Generate N answers and choose the most likely of them",
        range: (1.0, 1024.0),
        field: |sampling| Field::Limit(&mut sampling.best_of),
    },
    Param {
        name: "logprobs",
        help: "Report log probabilities, including those of the N most likely tokens",
        range: (0.0, 20.0),
        field: |sampling| Field::Limit(&mut sampling.logprobs),
    },
    Param {
        name: "prompt_logprobs",
        help: "Report log probabilities of the prompt, including those of the N most likely tokens",
        range: (0.0, 20.0),
        field: |sampling| Field::Limit(&mut sampling.prompt_logprobs),
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
        name: "stop_token_ids",
        help: "Stop at the token of this id; may be repeated",
        range: (0.0, 1024.0),
        field: |sampling| Field::Ids(&mut sampling.stop_token_ids),
    },
    Param {
        name: "ignore_eos",
        help: "Continue after the end-of-sequence token",
        range: (0.0, 1.0),
        field: |sampling| Field::Switch(&mut sampling.ignore_eos),
    },
    Param {
        name: "skip_special_tokens",
        help: "Leave the names of control tokens out of the text",
        range: (0.0, 1.0),
        field: |sampling| Field::Switch(&mut sampling.skip_special_tokens),
    },
];

/// Keys of JSON objects are strings, which a deserializer that buffers does not turn into numbers.
fn biases<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<u32, f64>, D::Error> {
    let number = |(id, bias): (String, f64)| match id.parse() {
        Ok(id) => Ok((id, bias)),
        Err(_) => Err(serde::de::Error::custom(format_args!("logit_bias: `{id}` is no token id"))),
    };
    Option::<BTreeMap<String, f64>>::deserialize(deserializer)?.unwrap_or_default().into_iter().map(number).collect()
}

/// One string, a list of them, or nothing.
fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a string or a list of strings")]
    enum Texts {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Texts::One(text)) => vec![text],
        Some(Texts::Many(texts)) => texts,
    })
}
