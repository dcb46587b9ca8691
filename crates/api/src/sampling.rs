//! The options of requests that say how tokens are chosen.

use crate::fields::{check_len, shown, unknown};
use crate::{Fields, Problem, Served};
use serde_json::{Map, Value};
use trine_engine::sample::thinks;
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

/// What other servers read -1 as, where there is no such number: as none, or as another one.
const MINUS_ONE: &[(&str, Option<usize>)] = &[
    ("max_tokens", None),
    ("seed", None),
    ("top_k", Some(0)),
    ("top_n_sigma", Some(0)),
    ("thinking_budget", None),
    // The context.
    ("repeat_last_n", Some(usize::MAX)),
    ("dry_penalty_last_n", Some(usize::MAX)),
];

/// Whether a field is a sampling option, by this name or another server's.
pub fn is_option(name: &str) -> bool {
    params().any(|param| param.name == name) || OTHER_NAMES.iter().any(|(other, _)| *other == name)
}

/// What is left of a body: the sampling options, over those of the model that is served. A field that is none of them is refused.
///
/// # Errors
/// With the first field that is not known, not of its type, or not in its range.
pub fn sampling(mut fields: Fields, served: &Served) -> Result<Sampling, Problem> {
    for (other, name) in OTHER_NAMES {
        fields.rename(other, name)?;
    }
    for (name, meant) in MINUS_ONE {
        if fields.take_if(name, |value| value.as_i64() == Some(-1))
            && let Some(meant) = *meant
        {
            fields.put(name, meant);
        }
    }
    // A seed has 64 bits, with a sign or without.
    if let Some(seed) = fields.get("seed").and_then(Value::as_i64) {
        fields.put("seed", seed.cast_unsigned());
    }
    let spares_lines = fields.boolean("penalize_nl")? == Some(false);
    let own_names = fields.own_names().to_owned();
    let mut sampling = checked(fields.rest(), &served.sampling).map_err(|problem| problem.named(&own_names))?;
    let penalties = [sampling.repetition_penalty - 1.0, sampling.presence_penalty, sampling.frequency_penalty];
    if spares_lines && penalties != [0.0; 3] {
        return Err(Problem::field("penalize_nl", "expected true: line breaks are penalized as other tokens are"));
    }
    // A model that does not think keeps within any budget.
    sampling.thinking_budget.take_if(|_| !thinks(&served.tokenizer));
    Ok(sampling)
}

/// The options of a body by our names.
fn checked(body: Map<String, Value>, defaults: &Sampling) -> Result<Sampling, Problem> {
    let all = || serde_json::to_value(defaults).map_err(|error| error.to_string());
    let read = |mut body: Map<String, Value>| {
        let Value::Object(mut all) = all()? else { return Err("options are no object".to_owned()) };
        all.append(&mut body);
        serde_json::from_value::<Sampling>(Value::Object(all)).map_err(|error| error.to_string())
    };
    // One by one, so that a message names the field.
    for (name, value) in &body {
        let Some(param) = params().find(|param| param.name == name) else { return Err(unknown(name)) };
        check_len(name, value)?;
        let wrong = |why: String| match value {
            // A list or an object in its place says itself where it is wrong, unless it is of another type.
            Value::Array(_) if param.max_len().is_some() && !why.starts_with("invalid type") => {
                Problem::field(name, why)
            }
            Value::Object(_) if name == "logit_bias" => {
                Problem::field(name, why.strip_prefix("logit_bias: ").unwrap_or(&why))
            }
            _ => Problem::field(name, format_args!("expected {}, found {}", param.expected(defaults), shown(value))),
        };
        read(Map::from_iter([(name.clone(), value.clone())])).map_err(wrong)?;
    }
    let sampling = read(body).map_err(|message| Problem::new(crate::ProblemKind::Invalid, message))?;
    sampling.check()?;
    Ok(sampling)
}
