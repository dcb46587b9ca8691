//! The options of requests that say how tokens are chosen.

use crate::fields::{shown, unknown};
use crate::{Fields, Problem};
use serde_json::{Map, Value};
use trine_engine::{Sampling, params};

/// Names of other servers for our options.
const OTHER_NAMES: &[(&str, &str)] = &[
    // llama-server
    ("n_predict", "max_tokens"),
    ("repeat_penalty", "repetition_penalty"),
    ("reasoning_budget_tokens", "thinking_budget"),
    // Ollama
    ("num_predict", "max_tokens"),
    // vLLM
    ("thinking_token_budget", "thinking_budget"),
];

/// Values that other servers read as none, where there is no such number.
const NONE: &[(&str, i64)] = &[("max_tokens", -1), ("seed", -1), ("top_k", -1), ("thinking_budget", -1)];

/// What is left of a body: the sampling options, over those that hold where it says nothing. A field that is none of them is refused.
///
/// # Errors
/// With the first field that is not known, not of its type, or not in its range.
pub fn sampling(mut fields: Fields, defaults: &Sampling) -> Result<Sampling, Problem> {
    for (other, name) in OTHER_NAMES {
        fields.rename(other, name)?;
    }
    for (name, none) in NONE {
        if fields.take_if(name, |value| value.as_i64() == Some(*none)) && *name == "top_k" {
            fields.put("top_k", 0);
        }
    }
    let body = fields.rest();
    let all = || serde_json::to_value(defaults).map_err(|error| error.to_string());
    let read = |mut body: Map<String, Value>| {
        let Value::Object(mut all) = all()? else { return Err("options are no object".to_owned()) };
        all.append(&mut body);
        serde_json::from_value::<Sampling>(Value::Object(all)).map_err(|error| error.to_string())
    };
    // One by one, so that a message names the field.
    for (name, value) in &body {
        let Some(param) = params().find(|param| param.name == name) else { return Err(unknown(name)) };
        let wrong = |why: String| match value {
            // A list or an object says itself where it is wrong.
            Value::Array(_) | Value::Object(_) => Problem::field(name, why),
            _ => Problem::field(name, format_args!("expected {}, found {}", param.expected(defaults), shown(value))),
        };
        read(Map::from_iter([(name.clone(), value.clone())])).map_err(wrong)?;
    }
    let sampling = read(body).map_err(|message| Problem::new(crate::ProblemKind::Invalid, message))?;
    sampling.check()?;
    Ok(sampling)
}
