//! `/set`: the options of a chat.

use crate::{near, table};
use anyhow::{Result, anyhow};
use trine_engine::{Param, Sampling, params};

/// The one option that is not the engine's.
pub const DROP_OLDEST: &str = "drop_oldest";

/// Sampling options that mean something in a chat, which has one answer and shows no log probabilities.
fn options() -> impl Iterator<Item = &'static Param> {
    params().filter(|param| !["n", "best_of", "logprobs", "prompt_logprobs"].contains(&param.name))
}

/// The names of all options.
pub fn names() -> impl Iterator<Item = &'static str> {
    options().map(|param| param.name).chain([DROP_OLDEST])
}

/// All options with their values, a line each.
pub fn list(sampling: &Sampling, drop_oldest: bool) -> String {
    let width = names().map(str::len).max().unwrap_or(0);
    let line = |name: &str, value: &str| format!("{name:width$}  {}", table::visible(value));
    let values = options().map(|param| line(param.name, param.show(sampling).as_deref().unwrap_or("none")));
    values.chain([line(DROP_OLDEST, &drop_oldest.to_string())]).collect::<Vec<_>>().join("\n")
}

/// Sets an option; without a value, to that of `initial`. A list is replaced.
///
/// # Errors
/// When there is no such option, or it has no such value.
pub fn set(sampling: &mut Sampling, name: &str, value: &str, initial: &Sampling) -> Result<()> {
    let Some(param) = options().find(|param| param.name == name) else {
        let meant = near::best(name, names()).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        return Err(anyhow!("/set: unknown option {name}{meant}"));
    };
    let mut changed = serde_json::to_value(&*sampling)?;
    if value.is_empty() {
        changed[name] = serde_json::to_value(initial)?[name].take();
    }
    let mut changed: Sampling = serde_json::from_value(changed)?;
    if !value.is_empty() {
        param.clear(&mut changed);
        param.set(&mut changed, value)?;
    }
    *sampling = changed;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_listed_changed_and_reset() {
        let initial = Sampling { stop: vec!["###".to_owned()], ..Sampling::preset("balanced").unwrap() };
        let mut sampling = initial.clone();
        for param in options() {
            let value = match (param.field)(&mut Sampling::default()) {
                trine_engine::Field::Switch(true) => "false",
                trine_engine::Field::Switch(false) => "true",
                trine_engine::Field::Biases(_) => "5=-1",
                trine_engine::Field::Float(_) if param.range.0 > 0.25 => "1.25",
                trine_engine::Field::Float(_) => "0.25",
                trine_engine::Field::Choice(..) => "2",
                _ => "7",
            };
            set(&mut sampling, param.name, value, &initial).unwrap();
            assert_eq!(param.show(&sampling).as_deref(), Some(value), "{}", param.name);
            assert!(list(&sampling, false).contains(value), "{}", param.name);
            set(&mut sampling, param.name, "", &initial).unwrap();
            assert_eq!(sampling, initial, "{}", param.name);
        }
        let wrong = |name: &str, value: &str| {
            let error = set(&mut initial.clone(), name, value, &initial).unwrap_err();
            error.to_string()
        };
        assert!(wrong("temprature", "1").contains("did you mean temperature?"));
        assert!(wrong("temperature", "warm").contains("a number"));
        assert!(wrong("logprobs", "1").contains("unknown option"));
    }
}
