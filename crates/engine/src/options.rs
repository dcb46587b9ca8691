use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// Options of one request. Every field is described by a [`Param`], which is also its flag.
///
/// The defaults are OpenAI's: the model's own distribution, no filter on; `repeat_last_n` is llama.cpp's 64, without effect as
/// long as `repetition_penalty` is 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Penalizes tokens that already appeared; 1 disables it.
    pub repetition_penalty: f64,
    /// Number of last tokens, of prompt and answer, that `repetition_penalty` considers.
    pub repeat_last_n: usize,
    /// Subtracted from a token's logit for each time it appeared in the answer.
    pub frequency_penalty: f64,
    /// Subtracted from a token's logit if it appeared in the answer.
    pub presence_penalty: f64,
    /// Added to the logits of tokens, by id.
    #[serde(deserialize_with = "biases")]
    pub logit_bias: BTreeMap<u32, f64>,
    /// The same seed gives the same answer; without one the engine chooses.
    pub seed: Option<u64>,
    /// Reports the log probability of each token, and of this many of the most likely ones.
    pub logprobs: Option<usize>,
    /// Maximum number of tokens to generate; `None` for the rest of the context.
    pub max_tokens: Option<usize>,
    /// Texts that end the answer, and are not part of it.
    #[serde(deserialize_with = "one_or_many")]
    pub stop: Vec<String>,
    /// Continues after the end-of-sequence token.
    pub ignore_eos: bool,
}

impl Default for Sampling {
    fn default() -> Sampling {
        Sampling {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            typical_p: 1.0,
            repetition_penalty: 1.0,
            repeat_last_n: 64,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: None,
            logprobs: None,
            max_tokens: None,
            stop: Vec::new(),
            ignore_eos: false,
        }
    }
}

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
